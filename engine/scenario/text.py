"""The text of a scenario to statements: one a line, a word, mostly a name, then `key=value` pairs.

Indented lines continue the statement above; `#` begins a comment; double quotes hold a text together. The
blocks `limits:`, `guardrails:` and `settings:` are YAML exactly as in limits.yaml and engine.yaml, so that a
register can be pasted; they keep their line numbers. Every fault is found in one go, with its line.
Rejected: YAML for the whole, in which a line that a person says in ten words takes ten lines.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from engine.errors import SettingsError

TEXT_BYTES_MAX = 256 * 1024
BLOCK = re.compile(r"(limits|guardrails|settings):(\s|$)")
TOKEN = re.compile(
    r"""(?:[^\s"{}\#]|"(?:[^"\\]|\\.)*"|\{(?:[^}"]|"(?:[^"\\]|\\.)*")*\})"""
    r"""(?:[^\s"{}]|"(?:[^"\\]|\\.)*"|\{(?:[^}"]|"(?:[^"\\]|\\.)*")*\})*"""
)
PAIR = re.compile(r"([a-z][a-z0-9_.]*|[0-9]{1,2}:[0-9]{2})=(.*)", re.DOTALL)
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Token(NamedTuple):
    """A word (`key` is then ""), or one pair."""

    key: str
    value: str
    is_quoted: bool = False


class Line(NamedTuple):
    """One statement: the number of its first line, its tokens, and how it was written."""

    number: int
    tokens: tuple[Token, ...]
    text: str


class Text(NamedTuple):
    """A scenario's statements, and its blocks of YAML; a line of a block stands where it stood."""

    lines: tuple[Line, ...]
    register: str  # `limits:` and `guardrails:`; "": neither is there
    settings: str


class Faults:
    """Collects what is wrong with one scenario."""

    def __init__(self, where: str) -> None:
        """Start with nothing; `where` names the file."""
        self.where = where
        self._found: list[tuple[int, str]] = []

    def add(self, line: int, text: str, hint: str = "") -> None:
        """Note one fault: its line, what is wrong, and what to write instead."""
        self._found.append((line, f"line {line}: {text}{f'; {hint}' if hint else ''}"))

    def raise_any(self) -> None:
        """Raise everything found, in the order of the lines."""
        if self._found:
            count = "1 problem" if len(self._found) == 1 else f"{len(self._found)} problems"
            problems = tuple(text for _, text in sorted(self._found, key=lambda fault: fault[0]))
            raise SettingsError(count, where=self.where, problems=problems)


def read_text(text: str, faults: Faults) -> Text:
    """Cut a scenario into statements and blocks."""
    statements: list[tuple[int, list[Token], list[str]]] = []
    rows = text.splitlines()
    blocks = {name: [""] * len(rows) for name in ("register", "settings")}
    block: list[str] | None = None
    for place, row in enumerate(rows):
        found = BLOCK.match(row)
        if found:
            block = blocks["settings" if found[1] == "settings" else "register"]
            # The key of settings is ours; what stands behind and below it is the file.
            block[place] = row.removeprefix("settings:") if found[1] == "settings" else row
            continue
        if block is not None and (not row.strip() or row[0] in " \t#" or row.startswith("- ")):
            block[place] = row
            continue
        block = None
        tokens = _tokens(row, place + 1, faults)
        if not tokens:
            continue
        if row[0] not in " \t":
            statements.append((place + 1, tokens, [row]))
        elif statements:
            statements[-1][1].extend(tokens)
            statements[-1][2].append(row)
        else:
            faults.add(
                place + 1, "is indented, but there is no statement above", "begin it in the first column"
            )
    register = blocks["register"]
    if any(register) and not any(row.startswith("limits:") for row in register):
        register.append("limits: []")  # Guardrails alone will do.
    return Text(
        lines=tuple(
            Line(number, tuple(tokens), " ".join(map(_written, written)))
            for number, tokens, written in statements
        ),
        register="\n".join(register) if any(map(str.strip, register)) else "",
        settings="\n".join(blocks["settings"]) if any(map(str.strip, blocks["settings"])) else "",
    )


def _tokens(row: str, number: int, faults: Faults) -> list[Token]:
    tokens = []
    for part in _parts(row, number, faults):
        pair = PAIR.fullmatch(part)
        if pair:
            value = QUOTED.sub(lambda quoted: re.sub(r"\\(.)", r"\1", quoted[1]), pair[2])
            tokens.append(Token(pair[1], value, pair[2].startswith('"')))
        else:
            tokens.append(Token("", part))
    return tokens


def _parts(row: str, number: int, faults: Faults) -> list[str]:
    """Cut a row at its blanks, apart from those in quotes and braces; the comment is dropped."""
    parts = []
    place = 0
    while place < len(row):
        if row[place].isspace():
            place += 1
            continue
        if row[place] == "#":
            break
        found = TOKEN.match(row, place)
        is_whole = found is not None and (found.end() == len(row) or row[found.end()].isspace())
        if found is None or not is_whole:
            faults.add(number, f"`{row[place : place + 40]}` has a quote or a brace that is not closed")
            break
        parts.append(found[0])
        place = found.end()
    return parts


def _written(row: str) -> str:
    """Give a row as it was written, without its comment and the blanks around it."""
    return " ".join(_parts(row, 0, Faults("")))
