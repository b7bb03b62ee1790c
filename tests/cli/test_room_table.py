"""How ``cache df`` looks: in any terminal, in a file, with any images."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registryd.cli.room_table import Look, facts, table

MIB = 1 << 20


def image(reference: str, own: int, shared: int, digest: str = "") -> dict[str, Any]:
    sizes = {"size": own + shared, "own_size": own, "shared_size": shared}
    return {"reference": reference, **sizes, **({"digest": digest} if digest else {})}


IMAGES = [
    image("docker.io/library/python:3.12", 300 * MIB, 100 * MIB, "sha256:1"),
    image("localhost/mine:1", 300 * MIB, 100 * MIB, "sha256:1"),
    image("registry.example.org/a/very/long/path/that/goes/on/tool:2.7.1", 0, 100 * MIB),
]


def test_in_a_terminal_of_80_columns() -> None:
    """Blocks for what is an image's own, shades for what it shares; an image of two names has one
    row; a long name loses its beginning."""
    expected = [
        "IMAGE                                  SIZE   UNIQUE   SHARED  █ UNIQUE ░ SHARED",
        "docker.io/library/python:3.12 +1    400 MiB  300 MiB  100 MiB  █████████████░░░░",
        "…long/path/that/goes/on/tool:2.7.1  100 MiB      0 B  100 MiB  ░░░░",
    ]

    assert expected == table(IMAGES, Look(80, blocks=True))


def test_in_a_file() -> None:
    """Names are whole, and the bars of signs that any program takes."""
    lines = table(IMAGES, Look())

    assert IMAGES[2]["reference"] in lines[2]
    assert lines[1].endswith("  #############----")
    assert all(line.isascii() for line in lines)


names = st.text("abc/:1", min_size=1, max_size=90)
images = st.lists(st.builds(image, names, st.integers(0, 2**50), st.integers(0, 2**50)), min_size=1)


@given(images, st.integers(70, 300), st.booleans())
def test_no_row_is_wider_than_the_terminal(
    images: list[dict[str, Any]], width: int, blocks: bool
) -> None:
    """And an image that takes anything has a bar."""
    each = {str(image["reference"]): image for image in images}
    _, *rows = table(list(each.values()), Look(width, blocks=blocks))

    assert all(len(row) <= width for row in rows)
    for row, shown in zip(rows, each.values(), strict=True):
        assert not shown["size"] or row[-1] in "█░#-"


@pytest.mark.parametrize(
    ("df", "line"),
    [
        ({"saved": 3, "unique_size": 1}, ("saved by sharing", "3 B of 4 B (75 %)")),
        ({"saved": 0, "unique_size": 0}, ("saved by sharing", "0 B")),
        (
            {"max_size": 2 * MIB, "high_water": 90, "low_water": 80, "min_free": MIB},
            ("bounds", "at most 2.0 MiB (images go from 90 % to 80 %), 1.0 MiB stay free"),
        ),
        ({"other_size": 5}, ("other", "5 B")),
    ],
    ids=["saved", "nothing", "bounds", "other"],
)  # fmt: skip
def test_the_whole_in_words(df: dict[str, Any], line: tuple[str, str]) -> None:
    """Each is there where the daemon tells it, and not where not."""
    assert line in facts(df)
    assert ["cache", "blobs"] == [words for words, _ in facts({})]
