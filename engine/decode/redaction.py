"""What text of an event may be kept: labels, reasons and changes, without people's numbers and addresses.

A label is taken whole or not at all: cutting one would join two tenants into one. What is a telephone number
has at least seven digits and at most one letter, so that a UUID passes; what stands for it in a label says
`engine/decode/mask.py`. Free text is cut, and only its tell-tale parts are replaced. Lengths bound the work,
and no expression here can backtrack over more than one word.
"""

from __future__ import annotations

import re

LABEL_BYTES_MAX = 128
REASON_BYTES_MAX = 64
CHANGE_BYTES_MAX = 128
TEXT_CHARS_MAX = 1024  # of free text are looked at
NUMBER_DIGITS_MIN = 7

# C0, DEL and C1; line and paragraph separators; marks that change the direction of writing.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
ADDRESS_SCHEME = re.compile(r"(?:sips?|tel|mailto):", re.IGNORECASE)
MAIL_ADDRESS = re.compile(r"@[\w-]+(?:\.[\w-]+)+")
GROUPED_NUMBER = re.compile(r"\d(?:[ ()./-]{0,2}\d){6,}")
LONG_NUMBER = re.compile(r"\d{3,}")
DIALLED_NUMBER = re.compile(r"\+\d(?:[ ()./-]{0,2}\d){6,}")


def clean_label(value: object) -> str | None:
    """Give a label as it may be kept, "" when missing; None: no string, too long, or not printable."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > LABEL_BYTES_MAX or CONTROL.search(value):
        return None
    return value if len(value.encode()) <= LABEL_BYTES_MAX else None


def is_number_like(value: str) -> bool:
    """Say whether a value may be a telephone number, bare or as a SIP or tel address."""
    bare = ADDRESS_SCHEME.sub("", value, count=1).partition("@")[0]
    digits = sum(char.isdigit() for char in bare)
    return digits >= NUMBER_DIGITS_MIN and sum(char.isalpha() for char in bare) <= 1


def is_address_like(value: str) -> bool:
    """Say whether a value names a person's address: mail, or SIP with a user part, not a host alone."""
    if "@" not in value:
        return False
    return bool(MAIL_ADDRESS.search(value) or ADDRESS_SCHEME.match(value))


def redact_reason(text: str) -> str:
    """Give a reason without addresses, numbers and control characters, at most 64 bytes."""
    words = " ".join("@" if _is_address(word) else word for word in _words(text))
    return _cut(LONG_NUMBER.sub("#", GROUPED_NUMBER.sub("#", words)), REASON_BYTES_MAX)


def redact_change(text: str) -> str:
    """Give a part of a change note, at most 128 bytes; versions and digests stay: they are its point."""
    words = " ".join(
        "@" if MAIL_ADDRESS.search(word) or ADDRESS_SCHEME.search(word) else word for word in _words(text)
    )
    return _cut(DIALLED_NUMBER.sub("#", words), CHANGE_BYTES_MAX)


def _words(text: str) -> list[str]:
    """Split at white space; of a text too long the last word goes, which may be half an address."""
    words = [CONTROL.sub("", word) for word in text[:TEXT_CHARS_MAX].split()]
    return words[:-1] if len(text) > TEXT_CHARS_MAX else words


def _is_address(word: str) -> bool:
    return "@" in word or ADDRESS_SCHEME.search(word) is not None


def _cut(text: str, bytes_max: int) -> str:
    return text.encode()[:bytes_max].decode(errors="ignore")
