"""Names: one spelling for each image, and no name that leads elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.errors import Fault
from registryd.gateway.names import parse, read, reference_of


@pytest.mark.parametrize(
    ("text", "default", "name", "reference"),
    [
        ("alpine", "docker.io", "docker:alpine:latest", "docker.io/library/alpine:latest"),
        ("docker:alpine:3", "docker.io", "docker:alpine:3", "docker.io/library/alpine:3"),
        ("docker:library/alpine:3", "docker.io", "docker:alpine:3", "docker.io/library/alpine:3"),
        ("index.docker.io/a/b:1", "docker.io", "docker:a/b:1", "docker.io/a/b:1"),
        ("a/b:1", "reg.site", "docker:a/b:1", "reg.site/a/b:1"),
        ("reg.site/a/b:1", "reg.site", "docker:a/b:1", "reg.site/a/b:1"),
        ("docker.io/a/b:1", "reg.site", "docker:docker.io/a/b:1", "docker.io/a/b:1"),
        ("alpine", "reg.site", "docker:alpine:latest", "reg.site/alpine:latest"),
        ("h:5000/x", "docker.io", "docker:h:5000/x:latest", "h:5000/x:latest"),
    ],
)
def test_one_spelling(text: str, default: str, name: str, reference: str) -> None:
    """However it is written, an image has one name, which means it."""
    found = parse(text, default)

    assert name == str(found)
    assert reference == str(reference_of(found.tag, default))


@pytest.mark.parametrize(
    "text",
    ["custom:a/../b:1", "custom:", "custom:/a", "custom:a b", "id:", "id:" + "0" * 63, "id:../../x",
     "docker:", "docker:A", "docker:a:", "custom:.x:1", "custom:a:b:c", "id:" + "A" * 64],
)  # fmt: skip
def test_what_is_no_name(text: str) -> None:
    """It is refused in one line."""
    with pytest.raises(Fault) as caught:
        parse(text, "docker.io")

    assert 64 == caught.value.exit_code
    assert 1 == len(str(caught.value).splitlines())


@given(st.sampled_from(("docker", "custom", "id", "local", "")), st.text(max_size=80))
def test_any_text(itype: str, tag: str) -> None:
    """Any text is a name whose spelling is its own, or is refused."""
    try:
        name = read(itype, tag, "reg.site")
    except Fault as fault:
        assert 64 == fault.exit_code
    else:
        assert name == read(name.itype, name.tag, "reg.site")
        assert ".." not in name.tag.split("/")
