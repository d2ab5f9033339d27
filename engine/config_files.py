"""Where the shipped configuration files are: the one place that knows.

A checkout (also an editable install) has them in `config/` beside the package `engine`. A wheel ships the
same folder as `callgauge_config/`, because `config/` in site-packages could be anybody's. The checkout is
looked up first, so that an edit there is what runs.
Rejected: a folder inside the package, of which an editable install would keep a copy that grows old.
"""

from pathlib import Path

PLACES = ("config", "callgauge_config")


def config_path(name: str) -> Path:
    """Return the path of a shipped file such as `engine.yaml` or `demo/limits.yaml`."""
    beside = Path(__file__).parent.parent
    for place in PLACES:
        if (beside / place / "engine.yaml").is_file():
            return beside / place / name
    return beside / PLACES[-1] / name


def is_sample(path: Path) -> bool:
    """Say whether a register is the one that is shipped, whose limits are nobody's."""
    return path == config_path("limits.yaml")
