"""What images weigh: brought up to date, the same as worked out anew."""

from hypothesis import example, given
from hypothesis import strategies as st

from cache.weights import Weights

NUMBERS = st.integers(0, 3)
NEEDS = st.lists(st.frozensets(NUMBERS), min_size=4, max_size=4)
#: Which images there are, and which numbers are written, with a size and a time each.
ROUNDS = st.lists(
    st.tuples(
        st.sets(NUMBERS), st.sets(st.tuples(NUMBERS, st.integers(2, 9), st.integers(2, 9)))
    ),
    min_size=2,
    max_size=5,
)  # fmt: skip


@given(NEEDS, ROUNDS)
@example([{1}, set(), set(), set()], [({0}, set()), ({0}, {(1, 5, 5)})])  # only its own blob
def test_weights_are_as_if_worked_out_anew(needs, rounds):
    """Whatever images come and go, and whatever is written."""
    sizes, used = [1] * 4, [1] * 4
    weights, expected, found = Weights(sizes, used), [], []
    for images, written in rounds:
        for number, size, at in written:
            sizes[number], used[number] = size, at
            weights.written(number)
        anew = Weights(sizes, used)
        for each in (anew, weights):
            each.bring(images, lambda image: {image, *needs[image]})
        expected.append(dict(anew.all()))
        found.append(dict(weights.all()))

    assert expected == found
