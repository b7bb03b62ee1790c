"""What sites, modules and devices add: changes of the environment, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from registryd.launch.edits import Bind, Device, Edits, EnvChange, together
from registryd.launch.errors import LaunchRefused


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        (EnvChange("A", "1"), {"A": "0"}, {"A": "1"}),
        (EnvChange("A", "1", "default"), {}, {"A": "1"}),
        (EnvChange("A", "1", "default"), {"A": ""}, {"A": ""}),
        (EnvChange("A", "/n", "prepend"), {"A": "/o"}, {"A": "/n:/o"}),
        (EnvChange("A", "/n", "append", " "), {"A": "/o"}, {"A": "/o /n"}),
        (EnvChange("A", "/n", "append"), {"A": ""}, {"A": "/n"}),
        (EnvChange("A", how="unset"), {"A": "1", "B": "2"}, {"B": "2"}),
    ],
)
def test_one_change(change: EnvChange, before: dict[str, str], after: dict[str, str]) -> None:
    """A variable is set, joined or taken away; an empty one is joined as one that is not there."""
    assert after == change.applied(before)


def test_edits_are_applied_in_their_order() -> None:
    """Of two edits the later one wins, and all binds stay."""
    first = Edits(binds=(Bind("/a", "/x"),), env=(EnvChange("A", "1"), EnvChange("P", "/1")))
    second = Edits(binds=(Bind("/b//c/", "/y/."),), env=(EnvChange("P", "/2", "prepend"),))
    both = together([first, second])

    assert {"A": "1", "P": "/2:/1"} == both.environment({"A": "0"})
    assert (Bind("/a", "/x"), Bind("/b/c", "/y")) == both.binds


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Bind("a", "/x"),
        lambda: Bind("/a", "/x/../etc"),
        lambda: Bind("/a\0", "/x"),
        lambda: Device("dev/x", "/dev/x"),
        lambda: EnvChange("A=B", "1"),
        lambda: EnvChange("A", "1", "push"),
    ],
)
def test_no_invalid_edit_exists(wrong: Callable[[], object]) -> None:
    """A relative path, a way up, an unknown word: refused where the value is made."""
    with pytest.raises(LaunchRefused):
        wrong()
