"""HTTP: health, metrics, headroom and a page per alert, all read from the published snapshot."""
