"""Foreign files: formats, HDF5 shards, input lists, and the sandbox that parses what may be hostile."""
