"""Files in, files out: one file a format family."""
