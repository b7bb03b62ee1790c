"""Media types: what we accept, and how a Content-Type is reduced to one."""

import pytest

from registryd.oci import media_types


def test_accept_is_one_line_with_all_documents() -> None:
    """The Accept header lists every document we understand, and never schema 1."""
    listed = media_types.ACCEPT.split(", ")

    assert sorted(media_types.DOCUMENTS) == sorted(listed)
    assert not media_types.SCHEMA1 & set(listed)


def test_indexes_and_manifests_are_apart() -> None:
    """No type is both a manifest and an index."""
    assert frozenset() == media_types.MANIFESTS & media_types.INDEXES


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", "application/json"),
        ("application/json; charset=utf-8", "application/json"),
        (" Application/JSON ;charset=x", "application/json"),
        ("", ""),
        ("; charset=utf-8", ""),
    ],
)
def test_essence(content_type: str, expected: str) -> None:
    """Parameters, spaces and case say nothing about the type."""
    assert expected == media_types.essence(content_type)
