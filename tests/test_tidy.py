"""The tree keeps the house rules, and each rule is able to fail: it is shown one small bad example."""

from pathlib import Path
from textwrap import dedent

import pytest

from tests import tidy

ROOT = Path(__file__).parent.parent

# Taken apart, so that this file keeps the rules which it shows broken.
LEFTOVER = "# TO" + "DO: later"
NOT_WRITTEN = "raise NotImplemented" + "Error"
MACHINE = "PLACE = '/" + "work/main/config'"
ADDRESS = "--index-" + "url https" + "://packages.example/simple"

# Path in the tree, text, and what the problem says.
BAD = [
    # Rule 3: the core does no I/O.
    ("engine/judge/windows.py", "import logging", "the core imports logging"),
    ("engine/decode/decoder.py", "from os import environ", "the core imports os.environ"),
    ("engine/limits.py", "text = open('limits.yaml').read()", "the core does I/O: open()"),
    ("detectors/cap.py", "print('here')", "the core does I/O: print()"),
    ("engine/pipeline.py", "import numpy as np\nnp.save('state', 1)", "the core does I/O: numpy.save()"),
    ("engine/observe/calls.py", "async def absorb(): ...", "the core is synchronous"),
    # Rule 7: the core reads no clock.
    ("engine/judge/baseline.py", "import time as t", "the core imports time"),
    (
        "engine/limits.py",
        "import datetime\ndatetime.datetime.now()",
        "reads a clock: datetime.datetime.now()",
    ),
    (
        "engine/limits.py",
        "from datetime import datetime as d\nd.utcnow()",
        "reads a clock: datetime.datetime",
    ),
    (
        "engine/decode/decoder.py",
        "import numpy as np\nnp.datetime64('now')",
        "reads a clock: numpy.datetime64",
    ),
    # Rule 4: imports follow the line.
    ("engine/decode/events.py", "from engine.judge import windows", "which comes later on the line"),
    ("engine/decode/events.py", "from ..judge.windows import WindowView", "which comes later on the line"),
    ("engine/source/kafka.py", "import engine.app", "engine.source imports engine.app"),
    ("engine/observe/absorb.py", "from engine.source.kafka import KafkaSource", "belongs to the shell"),
    ("engine/judge/windows.py", "from engine.settings_file import load", "belongs to the shell"),
    ("engine/limits.py", "from engine.config_files import config_path", "belongs to the shell"),
    ("engine/judge/windows.py", "import detectors", "only engine/app.py imports detectors"),
    ("engine/cli.py", "from detectors import REGISTRY", "only engine/app.py imports detectors"),
    ("engine/novelty.py", "import math", "engine.novelty has no place on the line"),
    (
        "detectors/cap.py",
        "from engine.observe.calls import CallTable",
        "a detector imports engine.observe.calls",
    ),
    ("detectors/cap.py", "from engine.settings_file import load", "a detector imports engine.settings_file"),
    ("detectors/cap.py", "import pandas", "a detector imports pandas"),
    # Rule 5: sizes and names.
    ("engine/decode/utils.py", "", "the file's name says nothing"),
    ("engine/app.py", "x = 1\n" * 401, "the file has 401 lines, at most 400"),
    ("engine/pipeline.py", "x = 1\n" * 151, "the file has 151 lines, at most 150"),
    ("engine/ARCHITECTURE.md", "line\n" * 201, "the file has 201 lines, at most 200"),
    ("engine/app.py", f"x = '{'x' * 110}'", "the line has 116 columns, at most 110"),
    ("engine/app.py", "def long():\n" + "    x = 1\n" * 60, "'long' has 61 lines, at most 60"),
    # Rule 6: no inheritance.
    ("engine/app.py", "class Special(Plain): ...", "inherits from 'Plain'"),
    ("engine/app.py", "import abc\nclass Base(abc.ABC): ...", "inherits from 'ABC'"),
    # Rule 9: randomness is seeded.
    ("tests/simulator.py", "import random", "hidden randomness"),
    ("bench/load.py", "import numpy as np\nnp.random.rand(3)", "hidden randomness: numpy.random.rand"),
    (
        "tests/simulator.py",
        "from numpy.random import default_rng\ndefault_rng()",
        "default_rng() without a seed",
    ),
    ("engine/decode/series.py", "key = hash('acme')", "the core depends on the process: hash()"),
    # Rules 10 and 11: kernels.
    (
        "engine/observe/absorb.py",
        "import numba\n@numba.njit(cache=True)\ndef f(): ...",
        "numba.njit: decorate",
    ),
    ("detectors/cap.py", "from numba import njit as fast\n@fast\ndef f(): ...", "numba.njit: decorate"),
    ("engine/judge/windows.py", "from engine.kernel import kernel\nf = kernel(abs)", "hides a kernel"),
    ("tests/test_tidy.py", "from numba.experimental import jitclass\njitclass(1)", "jitclass: decorate"),
    # Rule 23: module docstrings.
    ("engine/app.py", "x = 1", "the module has no docstring"),
    ("engine/app.py", '"""One.\n' + "more\n" * 15 + '"""', "the module's docstring has 16 lines, at most 15"),
    # Rule 25: static log text.
    ("engine/app.py", "log.info(f'call {call_id}')", "log text is not static"),
    ("engine/app.py", "self._log.warning('call %s' % call_id)", "log text is not static"),
    ("engine/app.py", "import logging\nlogging.error('call {}'.format(1))", "log text is not static"),
    ("engine/app.py", "LOGGER.error('call', extra={'call': 1}, stack=f'{x}')", "log text is not static"),
    # Rule 26: real fakes.
    ("tests/test_app.py", "from unittest import mock", "unittest.mock: hand in a real implementation"),
    ("tests/test_app.py", "from unittest.mock import patch", "unittest.mock.patch: hand in"),
    ("tests/test_app.py", "def test(monkeypatch):\n    monkeypatch.setattr('a', 1)", "monkeypatch.setattr"),
    ("tests/test_app.py", "def test(mocker): ...", "mocker: hand in a real implementation"),
    # Nothing unfinished, no traces of a machine.
    ("engine/app.py", "def broken(:", "does not parse"),
    ("engine/app.py", LEFTOVER, "leftover TO"),
    ("engine/app.py", NOT_WRITTEN, "leftover NotImpl"),
    ("engine/app.py", MACHINE, "a path of one machine"),
    ("README.md", "cd /" + "home/somebody/callgauge", "a path of one machine"),
    ("requirements.lock", ADDRESS, "an address in a lock file"),
    ("config/demo/load.py", "", "config/ holds data only"),
    ("tests/test_app.py", "from time import sleep\nsleep(1)", "the test waits for the wall clock"),
]

# What looks like the bad examples and is fine.
GOOD = [
    ("engine/source/kafka.py", "import time, logging\nlogging.info('polled', extra={'at': time.time_ns()})"),
    ("engine/judge/windows.py", "from engine.settings import EngineSettings, Settings"),
    ("engine/observe/calls.py", "from engine.kernel import kernel"),
    ("engine/decode/decoder.py", "from engine.source.contract import RawBatch"),
    ("engine/limits.py", "from datetime import datetime\nat = datetime.fromisoformat('2026-06-01')"),
    ("engine/limits.py", "def resets(self): return self.today()"),
    ("engine/app.py", "import detectors\nimport engine.web.pages"),
    ("detectors/cap.py", "from engine.judge import detection\nfrom detectors.statistics import normal_tail"),
    ("engine/errors.py", "class Broken(Exception): ...\nclass Worse(ValueError): ..."),
    ("engine/app.py", "import msgspec\nclass Settings(msgspec.Struct, frozen=True): ..."),
    ("engine/app.py", "from typing import Protocol\nclass Sink(Protocol[int]): ..."),
    ("tests/simulator.py", "import numpy as np\ngenerator = np.random.default_rng(7)\ngenerator.random()"),
    ("tests/test_cli.py", "def test(monkeypatch):\n    monkeypatch.setenv('NO_COLOR', '1')"),
    ("tests/integration/test_kafka.py", "import time\ntime.sleep(1)"),
    ("engine/app.py", "def long():\n    '''" + "Contract.\n" * 30 + "'''\n" + "    x = 1\n" * 40),
    ("README.md", "It listens on https://callgauge.example/home/alerts, or at ./work/notes."),
]  # fmt: skip

KERNEL = '''
    """What it is."""
    from engine.kernel import kernel

    FACTOR = 2
    seen = 0

    @kernel
    def scaled({parameters}):
        {docstring}
        {body}
'''


def kernel_problems(
    *, parameters: str = "values", docstring: str = '"""Scale; any shape."""', body: str = "return FACTOR"
) -> list[str]:
    text = dedent(KERNEL).format(parameters=parameters, docstring=docstring, body=body)
    return tidy.problems_of_file("engine/observe/absorb.py", text)


def test_the_tree_is_tidy() -> None:
    problems = tidy.problems_of_tree(ROOT)
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize(("path", "text", "expected"), BAD)
def test_a_bad_example_is_found(path: str, text: str, expected: str) -> None:
    problems = tidy.problems_of_file(path, text)
    assert [problem for problem in problems if expected in problem and problem.startswith(f"{path}:")]


@pytest.mark.parametrize(("path", "text"), GOOD)
def test_a_good_example_passes(path: str, text: str) -> None:
    documented = f'"""What it is."""\n{text}' if path.endswith(".py") else text
    assert [] == tidy.problems_of_file(path, documented)


def test_a_kernel_that_keeps_the_rules_passes() -> None:
    assert [] == kernel_problems()


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ({"parameters": "a, b, c, d, e, f, g, h, i"}, "has 9 parameters, at most 8"),
        ({"docstring": "pass"}, "has no docstring"),
        ({"body": "return {1: values}"}, "makes a Python container"),
        ({"body": "return [value for value in values]"}, "makes a Python container"),
        ({"body": "return seen"}, "reads the global 'seen'"),
    ],
)
def test_a_kernel_that_breaks_a_rule_is_found(broken: dict[str, str], expected: str) -> None:
    assert [problem for problem in kernel_problems(**broken) if expected in problem]


def test_a_kernel_inside_a_function_is_found() -> None:
    text = "from engine import kernel as k\ndef outer():\n    @k.kernel\n    def inner(): ..."
    problems = tidy.problems_of_file("detectors/cap.py", text)
    assert "detectors/cap.py:4: kernel 'inner' is not at module level" in problems


KERNEL_FILE = (
    "engine/judge/windows.py",
    (
        "from engine.kernel import kernel\n@kernel\ndef evicted(): ...\ndef advance(): evicted()\n"
        "class Windows:\n    def roll(self): advance()"
    ),
)
ORACLE, MINE = "from tests import oracle\n", "from engine.judge.windows import "


@pytest.mark.parametrize(
    ("path", "text", "has_twin"),
    [
        ("tests/oracle.py", f"{MINE}evicted", True),
        ("tests/test_windows.py", f"{ORACLE}{MINE}evicted", True),
        ("tests/test_windows.py", f"{ORACLE}from engine.judge import windows\nwindows.evicted()", True),
        ("tests/test_windows.py", f"{ORACLE}{MINE}advance", True),
        ("tests/test_windows.py", f"{ORACLE}{MINE}Windows", True),
        ("tests/test_windows.py", f"{MINE}evicted", False),
        ("tests/test_windows.py", f"{ORACLE}'The kernel is evicted.'", False),
        ("tests/oracle.py", "def evicted(): ...", False),
        ("tests/oracle.py", f"{MINE}evicted_windows", False),
    ],
)
def test_a_kernel_needs_a_twin_in_the_oracle(path: str, text: str, has_twin: bool) -> None:
    problem = "engine/judge/windows.py:3: kernel 'evicted' has no twin in tests/oracle.py"
    assert ([] if has_twin else [problem]) == tidy.problems_of_twins([KERNEL_FILE, (path, text)])


def test_a_kernel_does_not_call_one_that_returns_arrays_of_its_own() -> None:
    gives = "from engine.kernel import allocating_kernel as made\n@made\ndef fresh() -> NDArray: ...\n"
    takes = "from engine.kernel import kernel\n@kernel\ndef total(): fresh()"
    problem = "engine/judge/b.py:3: kernel 'total' would leak what 'fresh' allocates"
    files = [("engine/judge/a.py", gives), ("engine/judge/b.py", takes)]
    assert [problem] == tidy.problems_of_arrays(files)
    assert [] == tidy.problems_of_arrays([(files[0][0], gives.replace("NDArray", "int")), files[1]])


def test_the_top_level_holds_the_project_and_nothing_else() -> None:
    names = ["engine", ".venv", ".git", "build", "README.md", "notes.txt"]
    assert ["notes.txt: does not belong at the top level"] == tidy.problems_of_top_level(names)


def test_every_kind_of_file_in_a_tree_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "engine" / "judge").mkdir(parents=True)
    (tmp_path / "engine" / "judge" / "misc.py").write_text("")
    (tmp_path / "requirements.lock").write_text(ADDRESS)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "calls.jsonl.zst").write_bytes(b"\x28\xb5\0" + MACHINE.encode())
    problems = tidy.problems_of_tree(tmp_path)
    assert ["engine/judge/misc.py", "requirements.lock"] == [each.partition(":")[0] for each in problems]
