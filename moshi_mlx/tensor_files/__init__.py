"""safetensors files: every claim of a header checked before anything relies on it."""
