"""The search for complete reference ensembles: GFN-FF metadynamics, GFN2-xTB optimisation and crossing."""
