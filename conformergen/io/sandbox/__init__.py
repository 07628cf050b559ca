"""A disposable process that parses files which may be hostile: pickles, archives and HDF5."""
