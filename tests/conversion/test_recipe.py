"""Recipes: one text each, read back as the same."""

from __future__ import annotations

from typing import get_args

import pytest

from registryd.conversion.recipe import Form, Recipe
from registryd.oci.errors import UsageError

ALL = [
    Recipe(form, compressor, dressed)
    for form in get_args(Form)
    for compressor in ("zstd", "gzip")
    for dressed in (False, True)
    if form == "squashfs" or compressor == "zstd"
]


def test_each_has_a_text_of_its_own() -> None:
    """No two recipes share a text, and a text means its recipe."""
    assert len(ALL) == len({str(recipe) for recipe in ALL})
    assert ALL == [Recipe.parse(str(recipe)) for recipe in ALL]


@pytest.mark.parametrize(
    "text",
    ["", "squashfs", "squashfs;zstd;plain;v=2", "squashfs;plain;zstd;v=1", "sif;plain;v=1",
     "ext4;gzip;plain;v=1", "squashfs;zstd;plain;v=1;x"],
)  # fmt: skip
def test_what_is_none(text: str) -> None:
    """A later version's recipe, or no recipe at all, is refused."""
    with pytest.raises(UsageError, match="no recipe of this registryd"):
        Recipe.parse(text)


@pytest.mark.parametrize(
    ("form", "compat", "said"),
    [("tar", None, "is no form"), ("squashfs", "xz", "not offered"), ("erofs", "gzip", "squashfs")],
)
def test_words_that_mean_none(form: str, compat: str | None, said: str) -> None:
    """What a person wrote is refused in their words."""
    with pytest.raises(UsageError, match=said):
        Recipe.of(form, compat, dressed=False)
