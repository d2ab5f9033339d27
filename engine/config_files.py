"""Where the shipped configuration files are: the one place that knows.

A checkout (also an editable install) has them in `config/` beside the package `engine`; a wheel ships the same
folder as `callgauge_config/` beside it. The checkout is looked up first, so that an edit there is what runs.
Rejected: `importlib.resources`, since an editable install maps no folder to another name.
"""

from pathlib import Path

PLACES = ("config", "callgauge_config")


def config_path(name: str) -> Path:
    """Return the path of a shipped file such as `engine.yaml` or `demo/limits.yaml`."""
    beside = Path(__file__).parent.parent
    # `config/` in site-packages may belong to anyone: engine.yaml marks ours.
    for place in PLACES:
        if (beside / place / "engine.yaml").is_file():
            return beside / place / name
    return beside / PLACES[-1] / name
