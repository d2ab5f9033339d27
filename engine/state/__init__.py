"""Checkpoints: what the engine knows, kept on a disk so that a restart goes on where it was."""
