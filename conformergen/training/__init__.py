"""The training loop and its settings. Validation beyond the loss comes in as a value."""
