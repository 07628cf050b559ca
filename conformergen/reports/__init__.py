"""Pages and tables for people: evaluation report, training report, viewer."""
