"""The states of imports and images: the table of steps, and when a name is pulled anew."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.gateway.names import ImageName
from registryd.gateway.record import Account, Acl, Request
from registryd.gateway.states import STEPS, UNDER_WAY, State, follows, pull_verdict

STATES: tuple[State, ...] = get_args(State)


def test_every_state_has_its_place() -> None:
    """Every state has its steps; what is under way can fail, and be begun anew after a restart; an
    image ends by expiring, and from every state an import comes to its end."""
    assert set(STATES) == set(STEPS)
    for state in UNDER_WAY - {"PENDING"}:
        assert follows(state, "FAILURE")
        assert follows(state, "PENDING")
    assert follows("PENDING", "FAILURE")
    assert [s for s in STATES if follows("READY", s)] == ["EXPIRING"]
    for state in STATES:
        reached, wave = {state}, {state}
        while wave:
            wave = {after for each in wave for after in STEPS[each]} - reached
            reached |= wave
        assert "READY" in reached, state


@given(st.lists(st.sampled_from(STATES), max_size=30))
def test_a_request_takes_no_other_step(wanted: list[State]) -> None:
    """Whatever is asked of it, an import is only ever in a state to which a step led."""
    account = Account(1, 1)
    request = Request(
        name=ImageName("docker", "a:1"), account=account, acl=Acl(), created=0.0, changed=0.0
    )
    for number, state in enumerate(wanted, 1):
        before = request.state
        try:
            request = request.moved(state, float(number))
        except ValueError:
            assert request.state == before
            assert state not in STEPS[before]
        else:
            assert (state, float(number)) == (request.state, request.changed)
            assert state in STEPS[before]


@pytest.mark.parametrize(
    ("state", "age", "more", "verdict"),
    [
        (None, 0, {}, "begin"),
        ("EXPIRED", 1, {}, "begin"),
        ("EXPIRING", 1, {}, "begin"),
        ("READY", 299, {}, "tell"),
        ("READY", 301, {}, "begin"),
        ("READY", 1, {"again": True, "new_login": True}, "tell"),
        ("FAILURE", 299, {}, "tell"),
        ("FAILURE", 301, {}, "begin"),
        ("FAILURE", 1, {"again": True}, "begin"),
        ("FAILURE", 1, {"new_login": True}, "begin"),
        *((state, 1e9, {"again": True, "new_login": True}, "tell") for state in sorted(UNDER_WAY)),
    ],
)
def test_when_a_name_is_pulled_anew(
    state: State | None, age: float, more: dict[str, bool], verdict: str
) -> None:
    """Not while it is under way; not soon after it was READY; not soon after it failed, unless it
    is wanted, or comes with another login."""
    assert verdict == pull_verdict(state, age, update_timeout=300, **more)
