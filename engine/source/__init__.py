"""Step 1, read: where batches of bytes come from."""
