"""Every file of tests/configs: good ones are read, bad ones give exactly the messages that they list.

A bad file holds one mistake, or one kind of it, and begins with a line `# expect: ...` for each line of the
message: what is wrong, each problem with its place, and the hint.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.errors import SettingsError
from engine.judge.declines import parse_rules
from engine.limits import Register
from engine.register import parse_register
from engine.settings import Settings
from engine.settings_file import parse_settings

FOLDER = Path(__file__).parent / "configs"
PARSERS: dict[str, Callable[[str, str], object]] = {
    "limits": parse_register,
    "settings": parse_settings,
    "declines": parse_rules,
}
GOOD = sorted(path for kind in PARSERS for path in (FOLDER / kind).glob("good.*.yaml"))
BAD = sorted(path for kind in PARSERS for path in (FOLDER / kind).glob("bad.*.yaml"))
EXPECT = "# expect: "


def name_of(path: Path) -> str:
    return str(path.relative_to(FOLDER))


@pytest.mark.parametrize("path", GOOD, ids=name_of)
def test_a_good_file_is_read(path: Path) -> None:
    assert PARSERS[path.parent.name](path.read_text(), path.name) is not None


@pytest.mark.parametrize("path", BAD, ids=name_of)
def test_a_bad_file_gives_the_messages_that_it_lists(path: Path) -> None:
    """The whole message is compared: a place, a mend or a problem that goes missing fails here."""
    text = path.read_text()
    expected = [line.removeprefix(EXPECT) for line in text.splitlines() if line.startswith(EXPECT)]

    with pytest.raises(SettingsError) as raised:
        PARSERS[path.parent.name](text, "shown.yaml")

    said = [raised.value.what, *raised.value.problems]
    if raised.value.hint:
        said.append(f"hint: {raised.value.hint}")
    assert expected == said
    assert str(raised.value).startswith("shown.yaml: ")


def test_a_problem_names_its_line() -> None:
    """Places are lines of the file as it stands, whatever stands above."""
    text = "# a comment\n\nlimits:\n  - name: a\n    kind: concurrency\n    value: many\n"

    with pytest.raises(SettingsError) as raised:
        parse_register(text, "limits.yaml")

    assert "(line 6)" in raised.value.problems[0]


def test_one_good_and_one_bad_entry_report_the_bad_one_only() -> None:
    text = "limits:\n  - {name: a, kind: concurrency}\n  - {name: b, kind: concurrency, value: -1}\n"

    with pytest.raises(SettingsError) as raised:
        parse_register(text, "limits.yaml")

    assert ["limits[1].value"] == [problem.split(":")[0] for problem in raised.value.problems]


# Texts that look like a register, so that the search gets past the first brace.
WORDS = st.sampled_from(
    [
        *("limits", "guardrails", "name", "kind", "value", "concurrency", "rate", "quota", "timeout", "per"),
        *("1s", "80", "-1", "1e999", "null", "~", "yes", "applies_to", "trunk", "split_by", "tenant"),
        *("history", "from", "2026-03-01", "2026-02-31", "confirmed_on", "engine", "slice", "kafka"),
        *("declines", "class", "reason", "code", "busy", "&a", "*a", "<<", "=", "!!set", "!!int", "?", "---"),
        *("...", "'", '"', "\\x00", "\\uD800", "#", "%", "|", ">", "0b_", "._", "12:30:45"),
    ]
)
GLUE = st.sampled_from([": ", "\n  ", "\n", "- ", "\n  - ", "[", "]", "{", "}", ", ", " ", "\t", "\r\n"])
LIKELY = st.lists(st.one_of(WORDS, GLUE), max_size=40).map("".join)


@pytest.mark.parametrize("kind", PARSERS)
@settings(max_examples=100)
@given(text=st.one_of(st.text(max_size=200), LIKELY))
@example(text="")
@example(text="[" * 100_000)
@example(text="{" * 100_000)
@example(text="- " * 100_000)
@example(text="a: &a [*a]")
@example(text="limits: " + "9" * 5000)
@example(text="x" * 300_000)
@example(text="\ud800")
@example(text="limits: [{name: a, kind: concurrency, value: 999999999999999999999999}]")
def test_any_text_gives_a_result_or_a_settings_error(kind: str, text: str) -> None:
    """No input of a person ends in a traceback."""
    message = ""
    result: object = None
    try:
        result = PARSERS[kind](text, "any.yaml")
    except SettingsError as error:
        message = str(error)

    assert message.startswith("any.yaml: ") != isinstance(result, (Register, Settings, tuple))
