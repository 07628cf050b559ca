"""A checkpoint is one folder with three networks (denoiser, ranker, torsion model), their settings and their digests.

``folder`` finds, verifies and writes such folders without torch; ``model`` loads the networks; ``state`` saves and
restores the state of a training run. Weights are safetensors, settings are JSON; nothing is a pickle.
"""
