"""JSON for people."""

import json

from hypothesis import given
from hypothesis import strategies as st

from registryd.cli.indented import indented

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_it_is_what_the_library_writes(value):
    """The same text as json.dumps with an indent of two."""
    assert json.dumps(value, indent=2) == indented(value)
