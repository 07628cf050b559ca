"""One thin file for each command that joins several rooms."""
