"""Everything that fits a network: denoiser, ranker and torsion model."""
