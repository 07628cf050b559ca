"""From raw ensembles to training batches: cleaning, pairing with start structures, splits, collation.

Import ``datasets.loader`` and ``datasets.collate`` by name: they need torch, which worker processes do not import.
"""
