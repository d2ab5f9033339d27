"""What text of an event may be kept: labels, reasons and changes, without people's numbers and addresses.

A label is taken whole or not at all: cutting one would join two tenants into one; what stands for it says
`engine/decode/mask.py`. Free text is cut, and only its tell-tale parts are replaced. A number is dialled if
it has + and seven digits, or 0 and eight more, or an area in brackets, or is grouped as in North America
(415-555-1234). So versions, dates, hashes and build numbers are none; a number with its country and no sign
of it (4915112345678) looks like a build, and is taken for a number in labels and reasons alone. Lengths
bound the work, and no expression here can backtrack over more than one number or word.
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
LONG_NUMBER = re.compile(r"\d{3,}")
_GAP = r"[ ()._/\u2010-\u2015\u2212-]{0,3}"  # between two digits of one number
GROUPED_NUMBER = re.compile(rf"\d(?:{_GAP}\d){{6,}}")
_STAMP = r"20[2-9]\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:\d{4}|\d{6})?(?!\d)"
_NO_NUMBER = rf"""(?P<kept>
    [0-9a-f]{{8}}(?:-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}   # a UUID
    | \d\.\d[\w.-]{{0,32}}\+{_STAMP}                       # a version with its build: 1.2.3-rc1+20261128
    | (?<!\d){_STAMP}                                      # a build: 20261128, 20261128093000
    # A hash, and no number amid letters; \d would begin anew at each digit of another script.
    | (?<![0-9a-f])(?=[0-9]+[a-f]+[0-9]+[a-f]|[a-f]+[0-9]+[a-f]+[0-9])[0-9a-f]{{20,}}
)"""
_DIALLED = rf"""
    \+\d(?:{_GAP}\d){{6,}}
    | (?<![^\W_])(?<!\d[.,:_/-])(?:
        (?!000|\d\d[./-]\d\d[./-]20\d\d(?!\d))0\d(?:{_GAP}\d){{7,}}    # no counter, no date
        | (?:1[ .-]?)?\((?:\d{{3}}|0\d{{0,4}})\)(?![ ]?20\d\d-)(?:{_GAP}\d){{6,}}
        | (?:1[ .-])?[2-9]\d\d[ ._-][2-9]\d\d[ ._-]\d{{4}}
    )(?![^\W_])
"""
_LONG_RUN = r"(?<!\d)(?!000)\d{10,}"
IN_CHANGE = re.compile(f"{_NO_NUMBER} | {_DIALLED}", re.VERBOSE | re.IGNORECASE)
IN_LABEL = re.compile(f"{_NO_NUMBER} | {_DIALLED} | {_LONG_RUN}", re.VERBOSE | re.IGNORECASE)


def clean_label(value: object) -> str | None:
    """Give a label as it may be kept, "" when missing; None: no string, too long, or not printable."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > LABEL_BYTES_MAX or CONTROL.search(value):
        return None
    return value if len(value.encode()) <= LABEL_BYTES_MAX else None


def is_number_like(value: str) -> bool:
    """Say whether a value may be a telephone number, or holds one.

    It may be one with seven digits and at most one letter, bare or as a SIP or tel address. It holds one if
    that is dialled, or has ten digits in a run that is no date, no counter (0000000012), no part of a hash
    (of twenty hexadecimal digits or more: in a shorter one they may be a number with a letter beside it).
    """
    bare = ADDRESS_SCHEME.sub("", value, count=1).partition("@")[0]
    if _digits(bare) >= NUMBER_DIGITS_MIN and sum(char.isalpha() for char in bare) <= 1:
        return True
    return _digits(value) >= NUMBER_DIGITS_MIN and any(
        match["kept"] is None for match in IN_LABEL.finditer(value)
    )


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
    """Give a part of a change note, at most 128 bytes, without addresses and dialled numbers.

    Versions, dates, digests and build numbers stay: they are its point.
    """
    words = " ".join(
        "@" if MAIL_ADDRESS.search(word) or ADDRESS_SCHEME.search(word) else word for word in _words(text)
    )
    return _cut(IN_CHANGE.sub(lambda match: match["kept"] or "#", words), CHANGE_BYTES_MAX)


def _digits(text: str) -> int:
    return sum(char.isdigit() for char in text)


def _words(text: str) -> list[str]:
    """Split at white space; of a text too long the last word goes, which may be half an address."""
    words = [CONTROL.sub("", word) for word in text[:TEXT_CHARS_MAX].split()]
    return words[:-1] if len(text) > TEXT_CHARS_MAX else words


def _is_address(word: str) -> bool:
    return "@" in word or ADDRESS_SCHEME.search(word) is not None


def _cut(text: str, bytes_max: int) -> str:
    return text.encode()[:bytes_max].decode(errors="ignore")
