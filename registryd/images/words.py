"""Words in the names of images as files, which can be read without touching a file."""

from __future__ import annotations

from typing import Final, Literal

#: The path that means stdin or stdout.
STREAM: Final = "-"
#: What an image is made into that is one of all its layers.
FlatForm = Literal["rootfs", "bundle", "squashfs", "sif", "ext4", "erofs"]
_POSITION_DIGITS: Final = 6


def position_of(tag: str) -> int | None:
    """The number in ``@N``, as skopeo writes the Nth image of several; None for another tag."""
    number = tag.removeprefix("@")
    plain = number != tag and number.isascii() and number.isdecimal()
    return int(number) if plain and len(number) <= _POSITION_DIGITS else None
