"""Settings: where they come from, what beats what, and what a file that cannot be read says."""

import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from engine.addresses import is_loopback, split_listen
from engine.app import KEY_HINT, read_hash_key
from engine.config_files import config_path
from engine.durations import parse_duration, parse_size
from engine.errors import SettingsError
from engine.judge.declines import Rule
from engine.judge.implicit import LearnedValue
from engine.learned import Learned
from engine.limits import Limit, Register
from engine.settings import CHOICES, DERIVED, Settings
from engine.settings_check import ABOVE_ZERO, AT_MOST, BETWEEN, RELATIONS
from engine.settings_file import (
    digest,
    environment_overrides,
    file_key,
    load_settings,
    parse_settings,
    read_text_file,
)

BYTES = 1024


def write(folder: Path, text: str) -> Path:
    path = folder / "engine.yaml"
    path.write_text(text)
    return path


def sections() -> list[tuple[str, Any]]:
    """List (path prefix, struct) of every section, the top level first."""
    nested = [
        (field.name, field.type)
        for field in msgspec.structs.fields(Settings)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
    ]
    return [("", Settings), *nested]


def test_without_a_file_the_defaults_hold() -> None:
    assert Settings() == load_settings(environment={})


def test_the_defaults_satisfy_every_relation() -> None:
    assert Settings() == parse_settings("log_level: info", "test")


def test_the_shipped_file_shows_every_setting_with_its_default() -> None:
    """Default and file are compared as numbers, so the file may write 1MiB."""
    shown = yaml.safe_load(config_path("engine.yaml").read_text())

    for name, struct in sections():
        values = shown[name] if name else shown
        fields = [field for field in msgspec.structs.fields(struct) if field.name not in DERIVED]
        assert {file_key(field) for field in fields} == set(values), name
        for field in fields:
            value = values[file_key(field)]
            if field.name.endswith("_ns") and isinstance(value, str):
                value = parse_duration(value)
            elif field.name.endswith(("bytes_max", "bytes_min")):
                value = parse_size(value)
            elif isinstance(value, list):
                value = tuple(value)
            if not isinstance(field.default, msgspec.Struct):
                has_factory = field.default is msgspec.NODEFAULT
                assert (field.default_factory() if has_factory else field.default) == value, field.name
    assert Settings() == load_settings(config_path("engine.yaml"), environment={})


def test_every_setting_of_the_shipped_file_is_explained_or_says_its_purpose() -> None:
    """Names of files and users explain themselves; everything else has a comment on its line."""
    plain = {
        "ca_file", "cert_file", "key_file", "password_file", "sasl_username", "sasl_password_file", "topic",
        "bootstrap_servers",
    }  # fmt: skip
    lines = config_path("engine.yaml").read_text().splitlines()
    settings_without_comment = [line.partition(":") for line in lines if "#" not in line and ": " in line]

    assert plain == {name.strip() for name, _, _ in settings_without_comment}


def test_the_shipped_file_says_what_a_key_is_as_the_loader_wants_it(tmp_path: Path) -> None:
    (line,) = [one for one in config_path("engine.yaml").read_text().splitlines() if "call_key_file:" in one]
    (digits,) = re.findall(r"(\d+) hexadecimal digits", line)
    key = tmp_path / "key"
    key.write_text("a" * int(digits))
    key.chmod(0o600)

    assert read_hash_key(str(key), b"") == b"\xaa" * 16
    assert KEY_HINT.removeprefix("make one with: ") in line


def test_durations_lose_their_unit_in_the_file() -> None:
    settings = parse_settings(
        "engine: {slice: 3s}\nheadroom: {evaluate: 15s}\nkafka: {rewind: 1h30m}", "test"
    )

    assert settings.engine.slice_ns == 3_000_000_000
    assert settings.kafka.rewind_ns == 5_400_000_000_000


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(tmp_path: Path) -> None:
    path = write(tmp_path, "kafka: {topic: of-file, group_id: of-file, member_id: of-file}")
    environment = {"CALLGAUGE_KAFKA__TOPIC": "of-environment", "CALLGAUGE_KAFKA__GROUP_ID": "of-environment"}

    kafka = load_settings(path, environment=environment, flags={"kafka.topic": "of-flag"}).kafka

    assert ("of-flag", "of-environment", "of-file") == (kafka.topic, kafka.group_id, kafka.member_id)
    assert Settings().kafka.start == kafka.start


def test_the_environment_can_say_every_type() -> None:
    settings = load_settings(
        environment={
            "CALLGAUGE_LOG_LEVEL": "debug",
            "CALLGAUGE_ENGINE__SERIES_MAX": "8192",
            "CALLGAUGE_ENGINE__SLICE": "1s",
            "CALLGAUGE_ENGINE__LATE_BY_PLATFORM": "twilio=30m, vapi=90s",
            "CALLGAUGE_ENGINE__SERIES_LABELS": "tenant, platform",
            "CALLGAUGE_HEADROOM__PAGE_THRESHOLD": "-1.5",
            "CALLGAUGE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1, localhost:2",
            "CALLGAUGE_ALERTMANAGER__EXTERNAL_LABELS": "cluster=eu-1",
            "CALLGAUGE_WEB__ALLOW_INSECURE": "true",
            "CALLGAUGE_TIMELINE__BYTES_MAX": "1MiB",
        }
    )

    assert settings.log_level == "debug"
    assert settings.engine.series_max == 8192
    assert settings.engine.slice_ns == 1_000_000_000
    assert {"twilio": 1_800_000_000_000, "vapi": 90_000_000_000} == settings.engine.late_by_platform_ns
    assert settings.engine.series_labels == ("tenant", "platform")
    assert settings.headroom.page_threshold == -1.5
    assert ("127.0.0.1:1", "localhost:2") == settings.kafka.bootstrap_servers
    assert {"cluster": "eu-1"} == settings.alertmanager.external_labels
    assert settings.web.allow_insecure
    assert BYTES * BYTES == settings.timeline.bytes_max


def test_an_override_names_itself_in_the_message() -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(environment={"CALLGAUGE_ENGINE__SLICE": "4s"}, flags={"web.listen": "everywhere"})

    assert "(environment variable CALLGAUGE_ENGINE__SLICE)" in raised.value.problems[0]
    assert "(the flag for web.listen)" in raised.value.problems[-1]


def test_an_override_of_no_setting_is_a_problem() -> None:
    with pytest.raises(SettingsError) as raised:
        load_settings(
            environment={"CALLGAUGE_KAFKA__TOPCI": "a", "CALLGAUGE_KAFKA__TOPIC__X": "a"},
            flags={"kafka": "x"},
        )

    assert (
        "environment variable CALLGAUGE_KAFKA__TOPCI: kafka.topci is not a setting; did you mean kafka.topic?"
        == raised.value.problems[0]
    )
    assert len(raised.value.problems) == 3


def test_a_text_of_the_environment_that_is_no_utf8_is_a_problem() -> None:
    """No alert could be sent with such a label."""
    name = "CALLGAUGE_ALERTMANAGER__EXTERNAL_LABELS"
    with pytest.raises(SettingsError, match=rf"\\udcff' is not UTF-8 text \(environment variable {name}\);"):
        load_settings(environment={name: os.fsdecode(b"cluster=\xff")})


@pytest.mark.parametrize("text", ["no", "0", "OFF", ""])
def test_a_mistyped_switch_of_the_fast_path_is_a_problem(text: str) -> None:
    """Whoever mistrusts the fast path must not be left on it without a word."""
    with pytest.raises(SettingsError) as raised:
        load_settings(environment={"CALLGAUGE_FAST_PATH": text, "CALLGAUGE_ENGINE__SLICE": "4s"})
    assert "CALLGAUGE_FAST_PATH: " in raised.value.problems[0]
    assert "write on or off" in raised.value.problems[0]


@pytest.mark.parametrize("text", ["on", "off"])
def test_the_switch_of_the_fast_path_is_no_setting(text: str) -> None:
    assert Settings() == load_settings(environment={"CALLGAUGE_FAST_PATH": text})


def test_variables_that_kubernetes_sets_for_a_service_of_our_name_are_left_alone() -> None:
    environment = {
        "CALLGAUGE_PORT": "tcp://10.0.0.1:9810",
        "CALLGAUGE_SERVICE_HOST": "10.0.0.1",
        "CALLGAUGE_PORT_9810_TCP_ADDR": "10.0.0.1",
        "CALLGAUGE_LOG_FORMAT": "json",
    }

    assert [(("log_format",), "json", "environment variable CALLGAUGE_LOG_FORMAT")] == environment_overrides(
        environment
    )


def test_an_override_does_not_hide_that_the_section_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="kafka: a list is not a mapping"):
        load_settings(write(tmp_path, "kafka: []"), environment={"CALLGAUGE_KAFKA__TOPIC": "a"})


def test_every_choice_every_relation_and_every_bound_is_about_a_setting() -> None:
    """A renamed setting must not leave a check behind that never runs."""
    known = {
        f"{name}.{file_key(field)}".removeprefix(".")
        for name, struct in sections()
        for field in msgspec.structs.fields(struct)
    }
    named = {*CHOICES, *ABOVE_ZERO, *(one.name for one in (*BETWEEN, *AT_MOST))}
    for relation in RELATIONS:
        named |= {relation.longer, relation.shorter}

    assert set() == named - known


@pytest.mark.parametrize(
    ("listen", "place"),
    [
        ("127.0.0.1:9810", ("127.0.0.1", 9810)),
        ("[::1]:0", ("::1", 0)),
        ("host.example:65535", ("host.example", 65535)),
        ("9810", None),
        (":9810", None),
        ("::1:9810", None),
        ("host:65536", None),
        ("host:-1", None),
        ("host:٣", None),
        ("ho st:1", None),
        ("http://host:1", None),
    ],
)
def test_an_address_is_a_host_and_a_port(listen: str, place: tuple[str, int] | None) -> None:
    assert place == split_listen(listen)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("10.0.0.1", False), ("localhost.example", False)],
)  # fmt: skip
def test_only_this_machine_is_loopback(host: str, expected: bool) -> None:
    assert expected == is_loopback(host)


@pytest.mark.parametrize(
    "address",
    ["https://me:hunter2@host", "https://host/?key=hunter2", "https://host/#hunter2", "me:hunter2@host:9092",
     "hunter2@host:9092", "https://me:hun/hunter2@host", "https://host?key=hunter2&to=a@b"],
)  # fmt: skip
@pytest.mark.parametrize(
    "text",
    ["alertmanager: {{urls: ['{0}']}}", "alertmanager: {{urls: '{0}'}}", "web: {{external_url: '{0}'}}",
     "alertmanager: {{urls: ['http://a', '{0}'], username: me, password_file: f}}",
     "kafka: {{bootstrap_servers: ['{0}']}}", "kafka: {{bootstrap_servers: '{0}'}}",
     "web: {{listen: '{0}'}}", "engine: '{0}'", "'{0}'", "engine: {{slice: '{0}'}}"],
)  # fmt: skip
def test_no_message_shows_the_user_or_the_query_of_an_address(text: str, address: str) -> None:
    """None is accepted either: what is accepted stands in logs."""
    with pytest.raises(SettingsError) as raised:
        parse_settings(text.format(address), "test")
    assert "hunter2" not in str(raised.value)


def test_what_stands_where_a_mapping_should_be_is_not_shown() -> None:
    """It may be a file of a secret, named by mistake."""
    for text in ("hunter2", "0123456789", "kafka: hunter2", "limits: hunter2"):
        with pytest.raises(SettingsError) as raised:
            parse_settings(text, "test")
        assert not {"hunter2", "123456789"} & set(re.findall(r"\w+", str(raised.value)))


def test_a_missing_file_a_directory_and_an_empty_file_are_told_apart(tmp_path: Path) -> None:
    cases = {
        tmp_path / "none.yaml": "there is no such file",
        tmp_path: "this is a directory",
        write(tmp_path, " \n\n"): "the file is empty",
    }
    for path, message in cases.items():
        with pytest.raises(SettingsError) as raised:
            load_settings(path, environment={})
        assert f"settings: {message}" == raised.value.what
        assert str(path) == raised.value.where
        assert raised.value.hint


def test_the_hint_for_an_empty_file_is_about_its_kind(tmp_path: Path) -> None:
    """There is no sample in config/ of a scenario, or of what a replay must lead to."""
    path = write(tmp_path, "")
    for what, named in (
        ("settings", "engine.yaml"), ("the limits register", "limits.yaml"), ("the scenario", "Scenarios"),
        ("the expectations", "Commands"), ("something else", "right file"),
    ):  # fmt: skip
        with pytest.raises(SettingsError) as raised:
            read_text_file(path, what)
        assert named in raised.value.hint


def test_a_binary_file_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "engine.yaml"
    for data, message in (
        (b"engine:\n  slice: \xff\xfe", "line 2 is not UTF-8 text"),
        (b"engine:\n\n\0", "line 3 holds a null byte"),
    ):
        path.write_bytes(data)
        with pytest.raises(SettingsError, match=message):
            load_settings(path, environment={})


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "engine.yaml"
    path.write_bytes(b"\xef\xbb\xbflog_level: debug\n")

    assert load_settings(path, environment={}).log_level == "debug"


def test_a_file_that_never_ends_is_cut_off() -> None:
    with pytest.raises(SettingsError, match="larger than 256 KB"):
        read_text_file(Path("/dev/zero"), "settings")


def test_a_path_that_cannot_be_is_refused() -> None:
    for path in (Path("a\0b"), Path("x" * 5000)):
        with pytest.raises(SettingsError):
            read_text_file(path, "settings")


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, "log_level: info")
    path.chmod(0)
    user = os.geteuid()
    if user == 0:  # Root may read everything, so be nobody for a moment.
        os.seteuid(65_534)
    try:
        with pytest.raises(SettingsError, match="not allowed to read"):
            load_settings(path, environment={})
    finally:
        os.seteuid(user)


def test_the_digest_changes_with_what_can_change_an_alert_and_with_nothing_else() -> None:
    register = Register((Limit(name="a", kind="concurrency", value=80, values={"x": 1, "y": 2}),))
    first = digest(Settings(), register)

    same = parse_settings(
        "kafka: {topic: other}\nweb: {listen: 127.0.0.1:1}\n"
        "engine: {call_key_file: /k, learned_limits_file: /i}\nheadroom: {learned_file: /l}",
        "test",
    )
    reordered = Register((Limit(name="a", kind="concurrency", value=80, values={"y": 2, "x": 1}),))
    assert first == digest(same, register) == digest(Settings(), reordered)

    changed = [
        digest(parse_settings("engine: {slice: 3s}", "test"), register),
        digest(parse_settings("headroom: {page_threshold: 1}", "test"), register),
        digest(Settings(), Register((Limit(name="a", kind="concurrency", value=81),))),
        digest(Settings(), Register()),
        digest(Settings(), register, (Rule("busy", codes=(486,)),)),
        digest(Settings(), register, (), (Learned(day=1), ())),
        digest(Settings(), register, (), (None, (LearnedValue("inferred:trunk", (), 60.0, 1),))),
    ]
    assert len({first, *changed}) == 8
    assert len(first) == 64
