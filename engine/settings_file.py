"""Settings from a file, the environment and flags; the one place that reads configuration files.

In the file, durations are texts (`slice: 5s` becomes `slice_ns`) and sizes may be (`bytes_max: 64MiB`). A
flag beats the environment (`CALLGAUGE_KAFKA__TOPIC=calls`), which beats the file, which beats the default.
Of the environment only names with `__` or of a top-level setting count: Kubernetes sets `CALLGAUGE_PORT`
and the like by itself, for a service of our name. Every problem is reported at once. The keys follow from
the types in `engine.settings`, so a setting cannot exist without being readable.
"""

from __future__ import annotations

import hashlib
import os
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

import msgspec

from engine.errors import SettingsError
from engine.fields import (
    FaultError,
    Fields,
    Problems,
    as_count,
    as_duration_ns,
    as_flag,
    as_number,
    as_size,
    as_text,
    did_you_mean,
    each,
    one_of,
    shown,
    table,
)
from engine.register import parse_register
from engine.settings import CHOICES, DERIVED, Settings
from engine.settings_check import check_settings
from engine.strict_yaml import YAML_BYTES_MAX, Document, parse_yaml
from engine.zones import utc_offsets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from engine.limits import Register

ENVIRONMENT_PREFIX = "CALLGAUGE_"
FAST_PATH_SWITCH = "CALLGAUGE_FAST_PATH"  # read by `engine.kernel` as it is imported
# What to begin from, by what `read_text_file` calls the file.
EMPTY_HINTS = {
    "settings": "begin from engine.yaml, the sample that callgauge ships in config/",
    "the limits register": "begin from limits.yaml, the sample that callgauge ships in config/",
    "the decline rules": "begin from declines.yaml, the sample that callgauge ships in config/",
    "the scenario": "begin from the one in the README, under Scenarios",
    "the expectations": "begin from those in the README, under Commands",
    "the web configuration": "begin from the one in the README, under Security",
    "the learned file": "make it with callgauge learn",
}
Override = tuple[tuple[str, ...], str, str]  # path, text, where it comes from


def load_settings(
    path: Path | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, str] | None = None,
    over: tuple[str, str] | None = None,
) -> Settings:
    """Read settings; without a file, the defaults. `flags` maps `kafka.topic` to text as in the environment.

    `environment` stands in for that of the process. `over` is the text of settings that beat all others, and
    where it stands. Raises `SettingsError` with every problem.
    """
    environment = os.environ if environment is None else environment
    overrides = environment_overrides(environment)
    wrong = _switch_problems(environment)
    for name, text in (flags or {}).items():
        overrides.append((tuple(name.split(".")), text, f"the flag for {name}"))
    document = Document({}, over[1] if over else "settings", {}, ())
    if path is not None:
        document = _document(read_text_file(path, "settings"), str(path))
    if over is not None:
        above = _document(*over)
        overrides = [one for one in overrides if one[0] not in above.places]
        document = _laid_over(document, above)
    return _build(document, overrides, wrong)


def parse_settings(text: str, where: str) -> Settings:
    """Parse the text of a settings file, without environment and flags."""
    return _build(_document(text, where), [])


def load_register(path: Path) -> Register:
    """Read a limits register."""
    return parse_register(read_text_file(path, "the limits register"), str(path))


def environment_overrides(environment: Mapping[str, str]) -> list[Override]:
    """Give the settings that the environment names, in the order of their names."""
    top_level = {field.name.upper() for field in msgspec.structs.fields(Settings)}
    overrides: list[Override] = []
    for name in sorted(environment):
        rest = name.removeprefix(ENVIRONMENT_PREFIX)
        if rest != name and ("__" in rest or rest in top_level):
            overrides.append(
                (tuple(rest.lower().split("__")), environment[name], f"environment variable {name}")
            )
    return overrides


def _switch_problems(environment: Mapping[str, str]) -> list[str]:
    """Name the switch if it is mistyped: it is no setting, `engine.kernel` takes any other word for on."""
    text = environment.get(FAST_PATH_SWITCH, "on")
    if text in {"on", "off"}:
        return []
    return [f"environment variable {FAST_PATH_SWITCH}: {shown(text)} is neither on nor off; write on or off"]


def digest(
    settings: Settings,
    register: Register,
    rules: tuple[tuple[object, ...], ...] = (),
    known: tuple[object, ...] = (),
) -> str:
    """Give 64 hexadecimal digits that change with anything that is configured and can change an alert.

    A recording keeps it: a replay under other settings, limits or decline rules is another experiment, and so
    is one that knows something else beforehand (`known`: what was learned, and the caps that were inferred).
    Where events come from and where alerts go does not matter, nor where files lie.
    """
    hides = "by a key" if settings.engine.label_key_file else ""
    engine = msgspec.structs.replace(
        settings.engine, call_key_file="", label_key_file=hides, learned_limits_file=""
    )
    headroom = msgspec.structs.replace(settings.headroom, learned_file="")
    parts = (engine, headroom, settings.detection, register, rules, known)
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def read_text_file(path: Path, what: str, bytes_max: int = YAML_BYTES_MAX) -> str:
    """Read a small text file, or raise a `SettingsError` that says what is wrong and how to mend it."""
    where = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except FileNotFoundError:
        raise SettingsError(f"{what}: there is no such file", where=where, hint="check the path") from None
    except IsADirectoryError:
        raise SettingsError(f"{what}: this is a directory", where=where, hint="name the file in it") from None
    except PermissionError:
        raise SettingsError(
            f"{what}: not allowed to read the file",
            where=where,
            hint="let the user who runs callgauge read it",
        ) from None
    except (OSError, ValueError) as error:  # A null byte in a path is a ValueError.
        cause = getattr(error, "strerror", None) or str(error)
        raise SettingsError(
            f"{what}: the file cannot be read: {cause}", where=where, hint="check the path"
        ) from None
    if len(data) > bytes_max:
        raise SettingsError(
            f"{what}: the file is larger than {bytes_max // 1024} KB",
            where=where,
            hint="is this the right file?",
        )
    return _decode_text(data, what, where)


def _decode_text(data: bytes, what: str, where: str) -> str:
    if not data.strip():
        raise SettingsError(
            f"{what}: the file is empty",
            where=where,
            hint=EMPTY_HINTS.get(what, "is this the right file?"),
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SettingsError(
            f"{what}: line {line} is not UTF-8 text",
            where=where,
            hint="is this a binary file? Save it as UTF-8",
        ) from None
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise SettingsError(
            f"{what}: line {line} holds a null byte",
            where=where,
            hint="is this a binary file? Save it as UTF-8",
        )
    return text


def _document(text: str, where: str) -> Document:
    document = parse_yaml(text, where)
    if document.value is None:
        raise SettingsError(
            "settings: the file says nothing", where=where, hint="uncomment a setting, or leave out --config"
        )
    return document


def _laid_over(below: Document, above: Document) -> Document:
    """Give settings of two texts as one: where both have one, that of `above` counts."""
    if not (isinstance(below.value, dict) and isinstance(above.value, dict)):
        return below if isinstance(above.value, dict) else above  # It is reported when it is read.
    values = dict(below.value)
    for key, value in above.value.items():
        are_sections = isinstance(values.get(key), dict) and isinstance(value, dict)
        values[key] = {**values[key], **value} if are_sections else value
    of = "" if above.where == below.where else f" of {above.where}"
    places = {**below.places, **{path: f"{place}{of}" for path, place in above.places.items()}}
    return Document(values, below.where, places, (*below.repeated, *above.repeated))


def _build(document: Document, overrides: Iterable[Override], wrong: Iterable[str] = ()) -> Settings:
    problems = Problems(document)
    problems.found += wrong
    if isinstance(document.value, dict):
        for path, text, origin in overrides:
            _override(document, problems, path, text, origin)
    settings: Settings = _read_struct(Settings, document.value, (), problems)
    problems.raise_any()
    check_settings(settings, problems)
    try:
        offsets = utc_offsets(settings.headroom.time_zone)
    except ValueError as error:
        shown_name = shown(settings.headroom.time_zone)
        problems.add(
            ("headroom", "time_zone"), f"{shown_name} {error}", "write a name such as Europe/Berlin or UTC"
        )
    problems.raise_any()
    headroom = msgspec.structs.replace(settings.headroom, utc_offsets=offsets)
    return msgspec.structs.replace(settings, headroom=headroom)


def _override(document: Document, problems: Problems, path: tuple[str, ...], text: str, origin: str) -> None:
    """Put one text of the environment or a flag where the file would have its value."""
    struct: Any = Settings
    values = document.value
    for depth, key in enumerate(path):
        field = {file_key(field): field for field in msgspec.structs.fields(struct)}.get(key)
        is_section = (
            field is not None and isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
        )
        is_last = depth == len(path) - 1
        if field is None or is_section == is_last:
            known = [".".join((*path[:depth], file_key(field))) for field in msgspec.structs.fields(struct)]
            name = ".".join(path)
            problems.found.append(f"{origin}: {name} is not a setting; {did_you_mean(name, known)}")
            return
        document.places[path[: depth + 1]] = origin
        if is_last:
            values[key] = _value_of_text(text, field)
            return
        if values.get(key) is None:
            values[key] = {}
        values, struct = values[key], field.type
        if not isinstance(values, dict):
            return  # The file has something else here, which is reported when it is read.


def file_key(field: msgspec.structs.FieldInfo) -> str:
    """Give the key that a field has in the file: durations lose their `_ns`."""
    return field.name.removesuffix("_ns")


def _value_of_text(text: str, field: msgspec.structs.FieldInfo) -> object:
    """Turn a text into what YAML would have given: `a,b` is a list, `k=v,k=v` a mapping."""
    kind = get_origin(field.type) or field.type
    if kind is tuple:
        return [part.strip() for part in text.split(",") if part.strip()]
    if kind is dict:
        pairs = [part.partition("=") for part in text.split(",") if part.strip()]
        return {key.strip(): value.strip() for key, _, value in pairs}
    if kind is str or field.name.endswith("_ns"):
        return text
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return None if text.lower() in ("", "null") else text


def _read_struct(struct: Any, value: object, path: tuple[str | int, ...], problems: Problems) -> Any:
    """Read one section by the types of its fields; absent keys keep their defaults."""
    fields = Fields(value, path, problems)
    given: dict[str, object] = {}
    for field in msgspec.structs.fields(struct):
        if field.name in DERIVED:
            continue
        key = file_key(field)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            fields.known.append(key)
            if fields.has(key):
                given[field.name] = _read_struct(field.type, fields.values[key], (*path, key), problems)
        elif fields.has(key):
            given[field.name] = fields.get(key, _converter(field, (*path, key)), field.default)
        else:
            fields.known.append(key)
    fields.close()
    return struct(**given)


def _converter(field: msgspec.structs.FieldInfo, path: tuple[str | int, ...]) -> Callable[[Any], Any]:
    """Choose how to read a field by its name and type."""
    choices = CHOICES.get(".".join(str(part) for part in path))
    if choices:
        return one_of(choices)
    kind = get_origin(field.type) or field.type
    if field.name.endswith("_ns"):
        return table(as_text, as_duration_ns) if kind is dict else as_duration_ns
    if field.name.endswith(("bytes_max", "bytes_min")):
        return as_size
    if kind in (Union, types.UnionType) and float in get_args(field.type):
        return as_number
    simple: dict[object, Callable[[Any], Any]] = {
        str: as_text,
        int: as_count,
        float: as_number,
        bool: as_flag,
        tuple: _as_texts,
        dict: table(as_text, as_text),
    }
    return simple[kind]


def _as_texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        text = shown(value)
        mend = f"write [{value}]" if text == repr(value) else "write [...]"
        raise FaultError(f"{text} is not a list", mend)
    return each(as_text)(value)
