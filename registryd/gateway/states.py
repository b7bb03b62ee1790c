"""The states of an import and of an image, and when a name is pulled anew (pure).

The words are those of Shifter's image gateway. An import goes from INIT to READY or FAILURE; from
then on READY is the image's own state, which ends by EXPIRING in EXPIRED.
Invariants:
- no step is made that ``STEPS`` does not have;
- from every state of an import there is a way to its end, and after a restart back to PENDING.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

State = Literal[
    "INIT",
    "PENDING",
    "PULLING",
    "HASHING",
    "EXAMINATION",
    "CONVERSION",
    "TRANSFER",
    "READY",
    "FAILURE",
    "EXPIRING",
    "EXPIRED",
]

#: What may follow on each state.
STEPS: Final[Mapping[State, frozenset[State]]] = {
    "INIT": frozenset({"PENDING"}),
    "PENDING": frozenset({"PULLING", "HASHING", "FAILURE"}),
    # READY at once: the image is here already, and only who may read it was new.
    "PULLING": frozenset({"EXAMINATION", "CONVERSION", "TRANSFER", "READY", "FAILURE", "PENDING"}),
    "HASHING": frozenset({"EXAMINATION", "CONVERSION", "TRANSFER", "READY", "FAILURE", "PENDING"}),
    "EXAMINATION": frozenset({"CONVERSION", "TRANSFER", "FAILURE", "PENDING"}),
    "CONVERSION": frozenset({"TRANSFER", "FAILURE", "PENDING"}),
    "TRANSFER": frozenset({"READY", "FAILURE", "PENDING"}),
    "READY": frozenset({"EXPIRING"}),
    "FAILURE": frozenset({"PENDING"}),
    "EXPIRING": frozenset({"EXPIRED"}),
    "EXPIRED": frozenset({"READY"}),
}
#: Somebody works on it, or will.
UNDER_WAY: Final[frozenset[State]] = frozenset(
    {"PENDING", "PULLING", "HASHING", "EXAMINATION", "CONVERSION", "TRANSFER"}
)


def follows(before: State, after: State) -> bool:
    """Whether this step may be made."""
    return after in STEPS[before]


Verdict = Literal["begin", "tell"]


def pull_verdict(
    state: State | None,
    age: float,
    *,
    update_timeout: float,
    again: bool = False,
    new_login: bool = False,
) -> Verdict:
    """Whether a pull begins, or is told how the one before it stands.

    ``state`` is that of the newest thing the caller has under the name, None for nothing; ``age``
    is how long ago (seconds) it came into it. A failure is remembered for a while, so that who asks
    twice a second does not make us ask its registry as often; not where the caller wants it
    ``again``, or comes with a login that has not been tried.
    """
    if state is None or state in ("EXPIRED", "EXPIRING"):
        return "begin"
    if state == "FAILURE" and (again or new_login):
        return "begin"
    if state in ("READY", "FAILURE"):
        return "begin" if age > update_timeout else "tell"
    return "tell"
