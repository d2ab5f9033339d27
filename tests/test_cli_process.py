"""`callgauge` as a process: pipes, terminals, what is imported, and kernels that are loaded beforehand."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from engine.cli import app
from engine.config_files import config_path
from tests.cli_runs import CALLGAUGE, ROOT, RUN_S, environment, run_apart

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GO_LIVE = str(config_path("demo/sip-go-live.events.jsonl.zst"))
LIMITS = str(config_path("demo/limits.yaml"))
REPLAY = ("callgauge", "replay", "--limits", LIMITS)
COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
HEAVY = ("numba", "numpy", "aiokafka", "aiohttp", "uvloop", "orjson", "rich", "engine.app")


@pytest.fixture(scope="module")
def changes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give what a replay of the go-live prints."""
    ran = run_apart(*REPLAY, GO_LIVE, cwd=tmp_path_factory.mktemp("replay"))
    assert 0 == ran.code, ran.err
    return ran.out


def test_standard_input_is_read_plain_and_compressed(changes: str, tmp_path: Path) -> None:
    """`-` goes by the first bytes."""
    compressed = Path(GO_LIVE).read_bytes()
    for content in (compressed, zstd.decompress(compressed)):
        ran = run_apart(*REPLAY, "-", cwd=tmp_path, stdin=content)
        assert (0, changes) == (ran.code, ran.out)


def test_a_reader_that_goes_away_early_is_no_error(changes: str, tmp_path: Path) -> None:
    """As `head` does; nothing is said on stderr but which limits are read."""
    words = shlex.join((*CALLGAUGE, *REPLAY[1:], GO_LIVE))
    ran = run_apart("bash", "-c", f"set -o pipefail; {words} | head -1", cwd=tmp_path)
    assert (0, changes.splitlines(keepends=True)[0], "") == (ran.code, ran.out, ran.err)


@pytest.mark.parametrize(("flag", "code"), [("", 0), ("--launch ", 1)])
def test_check_config_has_its_verdict_though_nobody_reads_it(tmp_path: Path, flag: str, code: int) -> None:
    """The text is longer than what stdout holds back, so that it fails while it is written."""
    (tmp_path / "limits.yaml").write_text(
        "limits:\n" + "".join(f"  - {{name: cap-{n}, kind: concurrency, value: 9}}\n" for n in range(200))
    )
    words = shlex.join((*CALLGAUGE, "check-config"))
    ran = run_apart("bash", "-c", f"set -o pipefail; {words} {flag}| true", cwd=tmp_path)
    assert (code, "") == (ran.code, ran.err)


@pytest.mark.parametrize(
    "command",
    [
        "check-config", f"replay {GO_LIVE} --limits {LIMITS} --output jsonl", "demo",
        f"learn {GO_LIVE} --limits {LIMITS} --out learned.json",
    ],
)  # fmt: skip
def test_a_full_disk_under_stdout_is_one_line(tmp_path: Path, command: str) -> None:
    """Also where stdout holds nothing back, so that it fails while it is written."""
    words = shlex.join(CALLGAUGE)
    ran = run_apart("bash", "-c", f"PYTHONUNBUFFERED=1 {words} {command} >/dev/full", cwd=tmp_path)
    says = "callgauge: standard output cannot be written: No space left on device\n"
    assert (1, says) == (ran.code, ran.err)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_closed_standard_stream_is_an_empty_one(tmp_path: Path, closed: str) -> None:
    """As some supervisors start programs; what is open has what it has otherwise."""
    words = shlex.join(CALLGAUGE)
    ran = run_apart("bash", "-c", f"{words} check-config {closed}", cwd=tmp_path)
    assert (0, closed != ">&-", "") == (ran.code, "limits are ready" in ran.out, ran.err)

    whole = run_apart("bash", "-c", f"{words} replay absent.jsonl --limits {LIMITS}", cwd=tmp_path)
    ran = run_apart("bash", "-c", f"{words} replay absent.jsonl --limits {LIMITS} {closed}", cwd=tmp_path)
    assert "absent.jsonl" in whole.err
    assert (whole.code, "" if closed == "2>&-" else whole.err) == (ran.code, ran.err)


def on_terminal(*command: str, cwd: Path) -> tuple[int, str]:
    """Run a command whose three streams are a terminal; give its exit code and what it showed."""
    own, its = pty.openpty()
    process = subprocess.Popen(
        [*CALLGAUGE, *command], cwd=cwd, env={**environment(), "TERM": "xterm", "NO_COLOR": "1"},
        stdin=its, stdout=its, stderr=its, start_new_session=True,
    )  # fmt: skip
    os.close(its)
    shown = b""
    while True:
        try:
            piece = os.read(own, 65536)
        except OSError:  # What a terminal says at its end.
            break
        if not piece:
            break
        shown += piece
    os.close(own)
    return process.wait(RUN_S), shown.decode()


def test_a_table_with_progress_is_the_output_on_a_terminal(tmp_path: Path) -> None:
    """It ends with the lead; the progress bar is gone by then, and NO_COLOR is kept to."""
    code, shown = on_terminal("replay", GO_LIVE, "--limits", LIMITS, cwd=tmp_path)
    assert 0 == code
    assert "CallLimitReached limit=sip-trunk-concurrency" in shown
    assert re.search(r"sip-trunk-concurrency: first page after .* lead [0-9]+ min", shown)
    assert "replaying" in shown
    assert "replaying" not in shown.splitlines()[-1]
    assert not re.search(r"\x1b\[[0-9;]*[1-9][0-9;]*m", shown)


def check_demo(shown: str) -> None:
    """Check the story in its order: the limit fills, the page, the first decline, the lead, what next."""
    page = shown.index(">>> CRITICAL CallLimitApproaching")
    decline = shown.index(">>> CRITICAL CallLimitReached")
    lead = shown.index(" lead ")
    assert shown.index("of 80") < page < decline < lead < shown.index("What to try next")


def test_the_demo_writes_plain_lines_off_a_terminal(tmp_path: Path) -> None:
    """Nothing is drawn over, and it does not wait for anybody to watch."""
    ran = run_apart("callgauge", "demo", cwd=tmp_path)
    assert 0 == ran.code, ran.err
    check_demo(ran.out)
    assert "\x1b" not in ran.out
    assert "\r" not in ran.out


def test_the_demo_ends_by_itself_on_a_terminal(tmp_path: Path) -> None:
    """One line moves; pages stay."""
    code, shown = on_terminal("demo", cwd=tmp_path)
    assert 0 == code
    check_demo(shown)
    assert "\r\x1b[K" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_lists_its_options(command: str, tmp_path: Path) -> None:
    """Every option has a sentence."""
    ran = run_apart("callgauge", command, "--help", cwd=tmp_path)
    assert (0, "") == (ran.code, ran.err)
    for parameter in typer.main.get_command(app).commands[command].params:  # type: ignore[attr-defined]
        for option in parameter.opts:
            if option.startswith("--"):
                assert re.search(rf"{option} .*\w", ran.out), option


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    """So that it answers at once."""
    code = f"import sys, engine.cli; print([name for name in {HEAVY} if name in sys.modules])"
    assert "[]\n" == run_apart(sys.executable, "-c", code, cwd=tmp_path).out


COMPILED_LATER = f"""
import asyncio, gc
from numba.core.dispatcher import Dispatcher
from engine.app import OwnedLine, load_configuration
from engine.commands.warmup import warm_up
from engine.source.file import FileSource
from engine.source.synthetic import SyntheticSource
from engine.source.traffic import Scenario, Tenant

def compiled():
    return {{
        (one.py_func.__module__, one.py_func.__name__, str(signature))
        for one in gc.get_objects()
        if isinstance(one, Dispatcher) and one.py_func.__module__.split(".")[0] in ("engine", "detectors")
        for signature in one.signatures
    }}

async def read(source, line):
    await source.start()
    while (raw := await source.read()) is not None:
        line.step(raw)
        line.publish(raw.received_ns)
    line.reload(configuration)
    line.line.pipeline.finish()

configuration = load_configuration(None, {LIMITS!r}, None)
warm_up(configuration)
before = compiled()
assert len(before) > 20, before
tenants = (Tenant(name="acme", rate_per_s=1.0), Tenant(name="globex", rate_per_s=0.5))
trouble = Scenario(
    duration_s=900.0, tenants=tenants, caps={{"sip-1": 60}}, lost_ends_ratio=0.1, heartbeat_s=10.0,
    turn_every_s=5.0, disorder_s=20.0, duplicates_ratio=0.05, failed_ratio=0.1,
)
for source in (FileSource([{GO_LIVE!r}]), SyntheticSource(trouble, 1, partitions=4, batch_rows=300)):
    asyncio.run(read(source, OwnedLine(configuration, bytes(16))))
print(sorted(compiled() - before))
"""


def test_after_the_warm_up_nothing_is_compiled_any_more(tmp_path: Path) -> None:
    """A recording, and a live stream in disorder with lost ends, find every kernel ready."""
    ran = run_apart(sys.executable, "-c", COMPILED_LATER, cwd=tmp_path)
    assert ("[]\n", "") == (ran.out, ran.err)


def test_the_package_is_run_by_its_name() -> None:
    """The script that pip installs calls the same function."""
    assert 'callgauge = "engine.cli:main"' in (ROOT / "pyproject.toml").read_text("utf-8")
