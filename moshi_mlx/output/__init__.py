"""Files that people asked for by name."""
