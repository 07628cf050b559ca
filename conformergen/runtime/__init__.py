"""How work is run: whole files, locks, worker processes, devices, signals and CPU time."""
