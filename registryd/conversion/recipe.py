"""Recipes: how an image is made one file system. Pure.

Invariant: two recipes with the same text make the same bytes of the same image, with the same
version of the program; what changes the bytes gets another text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, get_args

from cache.marks import override
from registryd.images.layers.squashfs import Compressor
from registryd.oci.errors import UsageError

Form = Literal["squashfs", "ext4", "erofs"]

#: What a conversion is among the artifacts that are attached to an image.
ARTIFACT_TYPE: Final = "application/vnd.registryd.conversion.v1"
#: What the blob is.
MEDIA_TYPES: Final[Mapping[Form, str]] = {
    "squashfs": "application/vnd.registryd.image.v1.squashfs",
    "ext4": "application/vnd.registryd.image.v1.ext4",
    "erofs": "application/vnd.registryd.image.v1.erofs",
}
#: Where a conversion's manifest says how it was made.
RECIPE: Final = "vnd.registryd.conversion.recipe"
FORM: Final = "vnd.registryd.conversion.form"
TOOL: Final = "vnd.registryd.conversion.tool"
#: Counts what makes other bytes though all else is the same.
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """The form, how it is compressed, and whether other tools' small files are put in.

    Raises UsageError where these do not fit.
    """

    form: Form = "squashfs"
    compressor: Compressor = "zstd"
    dressed: bool = True

    def __post_init__(self) -> None:
        if self.form != "squashfs" and self.compressor != "zstd":
            raise UsageError("--compat speaks of squashfs only")

    @classmethod
    def of(cls, form: str, compat: str | None, *, dressed: bool) -> Recipe:
        """The recipe that these words mean. Raises UsageError."""
        forms: dict[str, Form] = {each: each for each in get_args(Form)}
        compressors: dict[str | None, Compressor] = {None: "zstd", "gzip": "gzip"}
        if form not in forms:
            raise UsageError(f"{form[:40]!r} is no form of an image (want {', '.join(forms)})")
        if compat not in compressors:
            raise UsageError(f"--compat {str(compat)[:40]!r} is not offered (want gzip)")
        return cls(forms[form], compressors[compat], dressed)

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """The recipe with this text. Raises UsageError."""
        words = text.split(";")
        compressor: Compressor = "gzip" if "gzip" in words else "zstd"
        for form in get_args(Form):
            if form == words[0] and (form == "squashfs" or compressor == "zstd"):
                found = cls(form, compressor, "dressed" in words)
                if str(found) == text:
                    return found
        raise UsageError(f"{text[:80]!r} is no recipe of this registryd")

    @property
    def media_type(self) -> str:
        """The media type of what it makes."""
        return MEDIA_TYPES[self.form]

    @override
    def __str__(self) -> str:
        dressing = "dressed" if self.dressed else "plain"
        words = (
            [self.form, self.compressor, dressing]
            if self.form == "squashfs"
            else [
                self.form,
                dressing,
            ]
        )
        return ";".join((*words, f"v={_VERSION}"))
