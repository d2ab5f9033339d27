"""The shipped configuration files are found in a checkout and in an installed wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from engine.config_files import config_path

ROOT = Path(__file__).parent.parent


def test_a_checkout_uses_its_own_files() -> None:
    assert ROOT / "config" / "engine.yaml" == config_path("engine.yaml")
    assert config_path("engine.yaml").is_file()


def test_a_wheel_ships_the_files_and_finds_them(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)

    program = "from engine.config_files import config_path; print(config_path('engine.yaml'))"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )

    found = Path(done.stdout.strip())
    assert installed / "callgauge_config" / "engine.yaml" == found
    assert (ROOT / "config" / "engine.yaml").read_bytes() == found.read_bytes()
