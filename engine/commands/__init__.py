"""What the commands do, one file each; engine/cli.py parses and calls them."""
