"""Scenarios as text: what happens on a made-up voice platform, and what the engine must say about it."""
