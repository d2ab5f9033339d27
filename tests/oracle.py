"""The slow, obvious twins of every kernel and of the whole line, one module for each part of it.

A twin says what a kernel means, in plain Python over lists and dictionaries; where the two differ, the kernel
is wrong.
"""

from __future__ import annotations

from tests import oracle_ceiling as ceiling
from tests import oracle_decode as decode
from tests import oracle_erlang as erlang
from tests import oracle_evidence as evidence
from tests import oracle_headroom as headroom
from tests import oracle_judge as judge
from tests import oracle_latency as latency
from tests import oracle_observe as observe
from tests import oracle_rates as rates

__all__ = ["ceiling", "decode", "erlang", "evidence", "headroom", "judge", "latency", "observe", "rates"]
