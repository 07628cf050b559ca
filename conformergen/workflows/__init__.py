"""One file for each command: what happens between the parsed options and the printed line."""
