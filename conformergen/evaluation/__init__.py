"""COV and MAT: metrics, rules, scores of molecules, matching of files, checks, and the report."""
