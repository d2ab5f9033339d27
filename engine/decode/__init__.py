"""Step 2, decode: bytes to columns."""
