"""The pipeline from SMILES to conformers.

Read from the top: ``settings``, ``starts`` (start structures, made in worker processes), ``rounds`` (the loop between
network and force field), ``selection`` (which candidates are returned), ``finish`` (refinement and pruning), ``stream``
(blocks of molecules), ``output`` (a file that can be resumed) and ``api`` (Python functions).

Nothing is imported here: worker processes import ``starts``, ``samples`` and ``finish``, which do not need torch.
"""
