"""Files to batches: every format is read here, once, for all tasks. Import from the modules themselves."""
