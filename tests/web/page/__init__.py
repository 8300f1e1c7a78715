"""The page in a real browser: one for all files here, which ends behind the last."""
