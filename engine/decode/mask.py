"""What stands in a label instead of a telephone number or an address: a fixed word, or a hash with a key.

Without a key every number is `__number__`: numbers are so few that a hash which needs no key hides none of
them, and a key of each start's own would make new labels, and so new alerts, at each start. With the key of
a deployment (`engine.label_key_file`) a number keeps one name, such as `number:` and sixteen letters, which
says that two rows have the same number, and not which; letters, so that it never looks like a number itself.
Whoever may read the API and asks for the headroom of a number is told its name, too.
A value that a limit of the register names is the operator's own, and stays as it is. With a key, values are
also learned as they came, in memory alone, so that a value costs its hash once and not in every row.
"""

from __future__ import annotations

from hashlib import blake2b

from engine.decode.redaction import is_address_like, is_number_like
from engine.limits import ADDRESS_MASK, NUMBER_MASK

NUMBER_PREFIX, ADDRESS_PREFIX = "number:", "address:"
DIGEST_BYTES = 8
_LETTERS = bytes.maketrans(b"0123456789abcdef", b"abcdefghijklmnop")


class LabelMask:
    """Decides on the values of labels; the same for every reader of one line."""

    def __init__(self, key: bytes = b"", allowed: frozenset[tuple[str, str]] = frozenset()) -> None:
        """Take the deployment's key (b"": none), and the (label, value) pairs that stay."""
        self._key = key
        self._allowed = allowed

    def shown(self, label: str, value: str) -> str:
        """Give a clean value as it may leave the process."""
        if self._stays(label, value):
            return value
        is_address = not is_number_like(value)
        if not self._key:
            return ADDRESS_MASK if is_address else NUMBER_MASK
        digest = blake2b(value.encode(), key=self._key, digest_size=DIGEST_BYTES).hexdigest()
        prefix = ADDRESS_PREFIX if is_address else NUMBER_PREFIX
        return prefix + digest.encode().translate(_LETTERS).decode()

    def may_be_learned(self, label: str, value: str) -> bool:
        """Say whether the value itself may stay in memory, to be known when it comes again."""
        return bool(self._key) or self._stays(label, value)

    def _stays(self, label: str, value: str) -> bool:
        # Dates and build numbers look like telephone numbers.
        is_number = label != "release" and is_number_like(value)
        return not (is_number or is_address_like(value)) or (label, value) in self._allowed


PLAIN_MASK = LabelMask()
