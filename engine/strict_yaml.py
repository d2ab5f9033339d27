"""Text of a configuration file to plain values, with the place of each, or one clear `SettingsError`.

YAML is read for people's slips and against malice: one document, at most 256 KB and 16 levels deep, no
anchors or aliases (nine lines of them can expand to gigabytes), no tags, and no key twice
(YAML keeps the last one, silently). Nesting is checked on the stream of events, before anything recursive
runs. PyYAML is used directly, as `msgspec.yaml` gives neither lines nor repeated keys. Pure: whoever calls
has read the file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from yaml import CSafeLoader

from engine.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

YAML_BYTES_MAX = 256 * 1024
YAML_DEPTH_MAX = 16
ANOTHER_NUMBER = re.compile(r"[-+]?0[0-7_]+$|.*:")  # than who wrote 0100 or 1:30 thinks

Path = tuple[str | int, ...]


class Document(NamedTuple):
    """Values of one file; `places` says where each path stands ("line 12"), `repeated` what stands twice."""

    value: Any
    where: str
    places: dict[Path, str]
    repeated: tuple[Path, ...]


def parse_yaml(text: str, where: str) -> Document:
    """Parse one YAML document into plain values; raises `SettingsError` for what is not plain YAML."""
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError:
        raise SettingsError("the text holds half a character", where=where, hint="save it as UTF-8") from None
    if size_bytes > YAML_BYTES_MAX:
        raise SettingsError(
            f"the file is larger than {YAML_BYTES_MAX // 1024} KB",
            where=where,
            hint="is this the right file?",
        )
    try:
        _refuse_unsafe(text, where)
        return _construct(text, where)
    except yaml.YAMLError as error:
        raise _not_yaml(error, where) from None


def _refuse_unsafe(text: str, where: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=CSafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise SettingsError(
                f"line {line}: anchors (&) and aliases (*) are not read",
                where=where,
                hint="write the value out; a text that begins with & or * needs quotes",
            )
        if getattr(event, "tag", None):
            raise SettingsError(
                f"line {line}: tags (!) are not read",
                where=where,
                hint="write the plain value; a text that begins with ! needs quotes",
            )
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > YAML_DEPTH_MAX:
            raise SettingsError(
                f"line {line}: more than {YAML_DEPTH_MAX} levels deep",
                where=where,
                hint="is this the right file?",
            )


def _construct(text: str, where: str) -> Document:
    loader = CSafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return Document(None, where, {}, ())
        places: dict[Path, str] = {}
        repeated: list[Path] = []
        for path, line in _walk(node, ()):
            if path in places:
                repeated.append(path)
            places[path] = f"line {line}"
        _refuse_impossible(loader, node, where)
        return Document(loader.construct_document(node), where, places, tuple(repeated))
    finally:
        loader.dispose()


def _refuse_impossible(loader: CSafeLoader, node: yaml.Node, where: str) -> None:
    """Refuse scalars that look like a date or number and are none, such as the 31st of February."""
    if isinstance(node, yaml.ScalarNode):
        if node.tag.endswith((":int", ":float")) and ANOTHER_NUMBER.match(node.value):
            raise SettingsError(
                f"line {node.start_mark.line + 1}: YAML takes a number with a zero in front for an octal, "
                "and one with colons for one of base 60",
                where=where,
                hint="write it without, or put it in quotes if it is meant as text",
            )
        try:
            loader.construct_object(node)
        except (ValueError, OverflowError) as error:
            raise SettingsError(
                f"line {node.start_mark.line + 1}: a value cannot be read: {error}",
                where=where,
                hint="put it in quotes if it is meant as text",
            ) from None
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _refuse_impossible(loader, key, where)
            _refuse_impossible(loader, value, where)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_impossible(loader, value, where)


def _walk(node: yaml.Node, path: Path) -> Iterator[tuple[Path, int]]:
    """Give the path and line of every key and item below `node`."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*path, str(key.value))
            yield below, key.start_mark.line + 1
            yield from _walk(value, below)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, index), value.start_mark.line + 1
            yield from _walk(value, (*path, index))


def _not_yaml(error: yaml.YAMLError, where: str) -> SettingsError:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be parsed"
    return SettingsError(
        f"{place}not YAML: {problem}",
        where=where,
        hint="indent with spaces, write `key: value`, and quote texts that hold : # { [ or begin with @ % `",
    )
