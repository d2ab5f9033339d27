"""SipHash: the published vectors, the twin, and the framing of identities."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decode.identity import CALL, EVENT, id_bytes, identity_keys, identity_prefix
from engine.decode.siphash import hash_key, hash_spans, rotated, sip_round, siphash13
from tests.oracle_decode import identity_key, siphash

KEY = bytes(range(16))

# SipHash-1-3 under the key 00..0f of the messages of 0, 1, ..., 63 bytes 00, 01, ...: as in the tests of
# Rust's standard library, whose `SipHasher13` it is.
VECTORS_13 = bytes.fromhex("""
dcc40f055801acab93ca577df39bf4c94dd4c74d029bcb82fbf7dde7b80af88b2883d388605775cf673b53492fd5f9de
a7229fc5502b0dc54011b19b987d92d38e9a298d11959036e43d066cb38ea4257f09ff92ee85de7952c34df9c118c170
a2d9b457b184a378a7ff29120c766f30345df9c011a15a605699512a6dd820d3668b907d1add4fcc0cd8db639068f29c
3ee673b49c38fc8f1c7d298de59d1ff240e0cca6462fdcc044f8452bfeab92b92e8720a39b7bfe7f23c1e6da7f0e5a52
8c9c3467b2ae64f479095b702859cd45a51399cae3353e3a353bde4a4ec71da90dd06cef02ed0bfbf4e1b14ab43cd988
63e6c543d6110f54bcd1218c1fdd70230db6a7166c7b1581bff98f7ae5b9544d3e752a1f78129f75916b18bfbea3a1ce
0662a2add308f52c5730c3a32d1c10b6a1363aae9674f4b39283107b54576b623115e4993236d2c144d91a3f92c17c66
258813c8fe4f7065a64989c2d180f2246b87f8faed1ccac29621049ffc4b16c223d6b168939c6ea1fd14518b9c16fb49
464c07dff843319fb386cc1224affdc68f09520ad149af7e9a2f299d5513f31c121ff4a2dd304ac4d01ea74389e9fa36
e6bcf0734cb38f3180e9a77036bf7aa2756d3c24dbc0bcb41315b7fd52d8f823088a7da64d5f038f48f1e8b7e5d09cd8
ee44a6f7bce6f4f6f237180fd89ac5aee094664b15f6b2c3a8b3bbb76290199d
""")

# SipHash-2-4, the first vectors of the authors' reference implementation, for the twin alone.
VECTORS_24 = (0x726FDB47DD0E0E31, 0x74F839C593DC67FD, 0x0D6C8009D9A94F5A, 0x85676696D7FB7E2D,
              0xCF2794E0277187B7, 0x18765564CD99A68D, 0xCBC9466E58FEE3CE, 0xAB0200F58B01D137,
              0x93F5F5799A932462, 0x9E0082DF0BA9E4B0, 0x7A5DBBC594DDB9F3)  # fmt: skip


def hashes(messages: list[bytes], key: bytes = KEY) -> list[int]:
    """Hash through the kernel."""
    return [int(value) for value in identity_keys(messages, hash_key(key))]


def test_the_kernel_gives_the_published_vectors() -> None:
    """Each of the 64 vectors, in one call; the empty message aside, which stands for "no id" and gives 0."""
    expected = [int(value) for value in np.frombuffer(VECTORS_13, "<u8")]
    messages = [bytes(range(length)) for length in range(64)]
    assert [0, *expected[1:]] == hashes(messages)
    with np.errstate(over="ignore"):
        assert expected[0] == int(siphash13(np.empty(0, np.uint8), 0, 0, hash_key(KEY)))


def test_the_twin_gives_the_vectors_of_both_variants() -> None:
    """The twin is right for two and four rounds as well, so it is not a copy of one mistake."""
    assert list(VECTORS_24) == [siphash(bytes(range(n)), KEY, 2, 4) for n in range(len(VECTORS_24))]
    assert [int(value) for value in np.frombuffer(VECTORS_13, "<u8")] == [
        siphash(bytes(range(n)), KEY, 1, 3) for n in range(64)
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=70), max_size=8), st.binary(min_size=16, max_size=16))
def test_the_kernel_agrees_with_the_twin(messages: list[bytes], key: bytes) -> None:
    """Any messages, any key, also none at all."""
    assert [siphash(message, key, 1, 3) if message else 0 for message in messages] == hashes(messages, key)


def test_spans_may_lie_anywhere_in_the_buffer() -> None:
    """Spans may overlap, repeat and leave gaps, as a scanner that hashes in place gives them."""
    data = bytes(range(100, 200))
    start, end = np.array([5, 0, 50, 5, 7]), np.array([30, 100, 50, 30, 8])
    out = np.full(5, 99, np.uint64)
    with np.errstate(over="ignore"):
        hash_spans(np.frombuffer(data, np.uint8), start, end, hash_key(KEY), out)
    spans = zip(start.tolist(), end.tolist(), strict=True)
    assert [siphash(data[a:b], KEY, 1, 3) if b > a else 0 for a, b in spans] == out.tolist()


def test_one_round_mixes_as_whole_numbers_do() -> None:
    """Rotation and one round, against the paper's formula on whole numbers, with words that overflow."""
    words = [0xFFFFFFFFFFFFFFFF, 0x8000000000000001, 0x0123456789ABCDEF, 0xFEDCBA9876543210]
    mask = 2**64 - 1

    def turn(word: int, bits: int) -> int:
        return (word << bits | word >> (64 - bits)) & mask

    assert turn(words[2], 13) == int(rotated(np.uint64(words[2]), 13))
    v0, v1, v2, v3 = words
    v0 = (v0 + v1) & mask
    v2 = (v2 + v3) & mask
    v1, v3 = turn(v1, 13) ^ v0, turn(v3, 16) ^ v2
    v0 = (turn(v0, 32) + v3) & mask
    v2 = (v2 + v1) & mask
    v1, v3 = turn(v1, 17) ^ v2, turn(v3, 21) ^ v0
    with np.errstate(over="ignore"):
        assert [v0, v1, turn(v2, 32), v3] == [int(v) for v in sip_round(*(np.uint64(word) for word in words))]


@settings(max_examples=50, deadline=None)
@given(*(st.text(max_size=6) for _ in range(3)), st.integers(0, 6))
def test_moving_a_character_between_the_parts_makes_another_call(
    platform: str, tenant: str, call_id: str, place: int
) -> None:
    """Platform, tenant and id are framed: no two different triples are the same message."""
    joined = platform + tenant + call_id
    other = (joined[:place], joined[place : place + 1], joined[place + 1 :])
    same = (platform, tenant, call_id) == other
    first = identity_prefix(platform, tenant) + call_id.encode()
    assert same == (first == identity_prefix(other[0], other[1]) + other[2].encode())


def test_a_call_and_an_event_of_one_id_have_different_keys() -> None:
    """The kind is part of the message."""
    prefix = identity_prefix("sip", "acme")
    call, event = hashes([CALL + prefix + b"1", EVENT + prefix + b"1"])
    assert call != event
    assert identity_key(0, "sip", "acme", "1", KEY) == call
    assert identity_key(1, "sip", "acme", "1", KEY) == event


def test_another_key_makes_other_hashes() -> None:
    """Without the deployment's key, ids cannot be matched."""
    assert hashes([b"call"]) != hashes([b"call"], bytes(16))


def test_an_id_is_a_string_of_1_to_256_bytes() -> None:
    """Bytes count, not characters; what is no id gives no bytes."""
    assert [b"a", b"", b"", b"", b""] == [id_bytes(value) for value in ("a", "", None, 7, ["a"])]
    assert [256, 0, 256, 0] == [
        len(id_bytes(value)) for value in ("a" * 256, "a" * 257, "é" * 128, "é" * 129)
    ]
