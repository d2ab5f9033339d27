"""Step 8, deliver: alert changes and metrics leave the process."""
