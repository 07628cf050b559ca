"""Readers, shards, splits, seed pairing and batches.

Import ``datasets.loader`` and ``datasets.collate`` by name: they need torch, and reader processes do not.
"""
