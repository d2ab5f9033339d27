"""The file of what was learned: what is written is read, and nothing else is."""

import msgspec
import pytest

from engine.errors import SettingsError
from engine.learned import VERSION, Learned, LearnedBaseline, Threshold, decode, encode

WEEK = tuple(float(slot % 7) for slot in range(2016))
LEARNED = Learned(
    time_zone="Europe/Berlin",
    day=20_500,
    baselines=(LearnedBaseline(limit="sip-1", split=(("tenant", "acme"),), calls=WEEK, watched_s=WEEK),),
    thresholds=(Threshold(tier="page", speaker="line", has_baseline=True, cap=100.0, load=0.5, score=-0.25),),
    pages_per_week=1.0,
    limits=4,
)


def changed(**more: object) -> bytes:
    """Give a file with a digest that fits, and something else in it."""
    return encode(msgspec.structs.replace(LEARNED, **more))


def test_what_is_written_is_read() -> None:
    read = decode(encode(LEARNED), "learned.json")

    assert msgspec.structs.replace(read, digest="") == LEARNED
    assert len(read.digest) == 64
    assert encode(read) == encode(LEARNED)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "this is no learned file"),
        (b"limits: []", "this is no learned file"),
        (b'{"version": 1, "unknown": 2}', "this is no learned file"),
        (encode(LEARNED).replace(b"0.5", b"0.4"), "its digest does not fit"),
        (encode(LEARNED)[:-40], "this is no learned file"),
        (changed(version=VERSION + 1), "knows up to"),
        (
            changed(baselines=(LearnedBaseline(limit="a", calls=(1.0,), watched_s=WEEK),)),
            "has not 2016 numbers",
        ),
        (
            changed(baselines=(LearnedBaseline(limit="a", calls=(-1.0, *WEEK[1:]), watched_s=WEEK),)),
            "has not 2016 numbers",
        ),
        (changed(baselines=(*LEARNED.baselines, *LEARNED.baselines)), "is there twice"),
        (
            changed(thresholds=(msgspec.structs.replace(LEARNED.thresholds[0], speaker="oracle"),)),
            "is out of range",
        ),
        (changed(thresholds=(msgspec.structs.replace(LEARNED.thresholds[0], cap=0.0),)), "is out of range"),
    ],
)
def test_anything_else_is_refused_with_a_mend(data: bytes, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as raised:
        decode(data, "learned.json")

    assert raised.value.where == "learned.json"
    assert "callgauge learn" in raised.value.hint
