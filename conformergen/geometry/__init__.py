"""Pure maps of coordinates: rotations, alignment, RMSD, stereo from coordinates. No chemistry, no RDKit."""
