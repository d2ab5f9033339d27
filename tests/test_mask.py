"""Numbers and addresses in labels: hidden, or hashed with the deployment's key, the same on every path."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path
from string import ascii_letters
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.app import load_configuration
from engine.decode.events import LABELS
from engine.decode.fast_decoder import CAN_SCAN
from engine.decode.mask import PLAIN_MASK, LabelMask
from engine.decode.redaction import is_number_like
from engine.errors import UsageError
from engine.limits import ADDRESS_MASK, NUMBER_MASK
from engine.register import parse_register
from engine.settings import EngineSettings, Settings
from engine.settings_file import digest
from tests.decoder_pairs import Pair
from tests.event_rows import raw_batch, row

KEY = bytes(range(16))
NUMBERS = ("+4915223456789", "tel:+49 1522 3456789", "4155551234", "(415) 555-1234", "did:+4915223456789",
           "acme 0049 1522 3456789", "caller_4915223456789", "tel:5551234", "sip:5551234",
           "x5551234")  # fmt: skip
ADDRESSES = ("sip:alice@pbx.example", "sips:1001@10.0.0.1", "jane.doe@customer.example", "mailto:a@b.example",
             "sip:alice@pbx")  # fmt: skip
PLAIN = ("acme", "sip-1", "sip:carrier.example.net", "user@host", "build-7", "", "gpt-4o-2024-08-06")


@pytest.mark.parametrize("value", [*NUMBERS, *ADDRESSES])
def test_a_number_or_an_address_has_one_name_under_a_key(value: str) -> None:
    """The same in every label and after every start; another under another key; nothing to read from it."""
    shown = {LabelMask(KEY).shown(label, value) for label in LABELS if label != "release"}
    (name,) = shown
    expected = hashlib.blake2b(value.encode(), digest_size=8, key=KEY).hexdigest()
    letters = "".join("abcdefghijklmnop"[int(digit, 16)] for digit in expected)
    assert name == ("address:" if value in ADDRESSES else "number:") + letters
    assert name != LabelMask(bytes(16)).shown("trunk", value)
    assert not any(char.isdigit() for char in name)
    assert name == LabelMask(KEY).shown("trunk", name), "what stands for a number is none"


def test_values_of_different_numbers_differ() -> None:
    mask = LabelMask(KEY)
    assert 10_000 == len({mask.shown("tenant", f"+4915{number:09}") for number in range(10_000)})


@pytest.mark.parametrize("value", [*NUMBERS, *ADDRESSES])
def test_without_a_key_all_of_them_are_one_word(value: str) -> None:
    """A hash without a key could be undone by trying all numbers there are."""
    assert (ADDRESS_MASK if value in ADDRESSES else NUMBER_MASK) == PLAIN_MASK.shown("trunk", value)


@pytest.mark.parametrize("value", [*NUMBERS, *ADDRESSES])
def test_without_a_key_none_of_them_stays_in_memory(value: str) -> None:
    """Nobody asked for it; with one, a value costs its hash once."""
    assert not PLAIN_MASK.may_be_learned("trunk", value)
    assert LabelMask(KEY).may_be_learned("trunk", value)
    assert PLAIN_MASK.may_be_learned("trunk", "acme")


@pytest.mark.parametrize("key", [b"", KEY])
@pytest.mark.parametrize("value", PLAIN)
def test_other_values_stay(value: str, key: bytes) -> None:
    assert value == LabelMask(key).shown("tenant", value)


@given(st.text(ascii_letters, max_size=40), st.from_regex(r"\A(?:00?)?[13-9][0-9]{9,12}\Z"),
       st.text(ascii_letters, max_size=40))  # fmt: skip
@example("phone", "4915223456789", "")
@example("line", "015223456789", "-eu")
@example("DE", "4915223456789", "")
@example("deadbeefdeadbeef", "4915223456789", "facade")
@example("b2c", "4915223456789", "")
@example("", "4915223456789", "callback")
def test_letters_that_touch_a_number_do_not_save_it(before: str, number: str, after: str) -> None:
    """Whichever they are: some are hexadecimal digits, of which hashes are made. No dates are drawn."""
    assert is_number_like(before + number + after)


@pytest.mark.parametrize("prefix", ["", "TK", "build", "acme-", "sha256:"])
def test_hashes_stay(prefix: str) -> None:
    """Of Git and of images, UUIDs, ids of containers: many have ten digits in a row."""
    made = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(2000)]
    texts = [prefix + text for one in made for text in (one, one[:40], one.upper(), str(UUID(one[:32])))]
    assert 200 < sum(re.search(r"\d{10}", text) is not None for text in texts)
    assert [] == [text for text in texts if is_number_like(text)]


def test_a_release_may_look_like_a_number_and_not_like_an_address() -> None:
    assert is_number_like("2026-11-26.1")
    assert "2026-11-26.1" == PLAIN_MASK.shown("release", "2026-11-26.1")
    assert ADDRESS_MASK == PLAIN_MASK.shown("release", ADDRESSES[2])


def test_what_a_limit_names_is_the_operators_own() -> None:
    """A trunk that is called by its main number keeps its name, in that label alone."""
    register = parse_register(
        """
limits:
  - {name: main, kind: concurrency, value: 30, applies_to: {trunk: "+4930123456"}}
  - {name: each, kind: concurrency, value: 30, split_by: [tenant], values: {"4155551234": 5}}
""",
        "limits.yaml",
    )
    mask = LabelMask(KEY, register.named_values())
    assert "+4930123456" == mask.shown("trunk", "+4930123456")
    assert "4155551234" == mask.shown("tenant", "4155551234")
    assert mask.shown("tenant", "+4930123456").startswith("number:")
    assert mask.shown("trunk", "+4930123457").startswith("number:")


@pytest.mark.skipif(not CAN_SCAN, reason="addresses need compiled kernels, little-endian")
@pytest.mark.parametrize("key", [b"", KEY])
def test_both_paths_hide_the_same(key: bytes) -> None:
    """`Pair` compares every column and table of the scanner and the parser."""
    pair = Pair(None, LabelMask(key))
    texts = [
        row(kind, tenant=value, platform=value, trunk=value, agent=value, limit=value, dependency=value)
        for kind in ("call.started", "call.ended", "call.declined", "dependency.called", "limit.reported")
        for value in (*NUMBERS, *ADDRESSES, *PLAIN)
    ]
    for _ in range(4):
        pair.decode(raw_batch(texts))
    values = {value for one in pair.fast.series.values for value in one}
    assert not values & {*NUMBERS, *ADDRESSES}
    assert set(PLAIN) <= values
    hashed = {value for value in values if value.startswith(("number:", "address:"))}
    assert len(hashed) == (len(NUMBERS) + len(ADDRESSES) if key else 0)


@pytest.mark.skipif(not CAN_SCAN, reason="addresses need compiled kernels, little-endian")
def test_with_a_key_a_number_is_hashed_once_and_scanned_after_that() -> None:
    """A trunk called by its number costs no more per row than any other."""
    pair = Pair(None, LabelMask(KEY))
    texts = [row("call.started", trunk=NUMBERS[number % 2], tenant="acme", call_id=f"c{number}")
             for number in range(400)]  # fmt: skip
    pair.decode(raw_batch(texts))
    before = pair.fast.rows_scanned
    pair.decode(raw_batch(texts))
    assert before + len(texts) == pair.fast.rows_scanned


def test_the_key_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "label.key"
    path.write_text(KEY.hex() + "\n")
    path.chmod(0o600)
    settings = tmp_path / "engine.yaml"
    settings.write_text(f"engine: {{label_key_file: {path}}}\n")
    assert KEY == load_configuration(str(settings), None, None).label_key
    assert b"" == load_configuration(None, None, None).label_key
    for text in ("", "not hexadecimal", "00" * 15, "00" * 17):
        path.write_text(text)
        with pytest.raises(UsageError, match="label key") as raised:
            load_configuration(str(settings), None, None)
        assert not text or text not in str(raised.value)
    path.unlink()
    with pytest.raises(UsageError, match="cannot be read") as missing:
        load_configuration(str(settings), None, None)
    assert "openssl rand -hex 16" in missing.value.hint


def test_where_a_key_is_does_not_change_the_digest_but_that_there_is_one_does() -> None:
    def digest_of(**engine: Any) -> str:
        return digest(Settings(engine=EngineSettings(**engine)), parse_register("limits: []", "x"))

    assert not hmac.compare_digest(digest_of(), digest_of(label_key_file="a"))
    assert digest_of(label_key_file="a") == digest_of(label_key_file="b", call_key_file="c")
