"""How one image is made one file: its layers planned, and written in its form.

Invariants:
- the layers are read where they are; nothing is unpacked and nothing else is written;
- a layer that does not unpack to what the image's configuration says is refused before that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cache.content import Descriptor, Digest
from registryd.conversion.recipe import Form, Recipe
from registryd.images.dressing.dress import dress
from registryd.images.errors import NotAnImage, NotMade
from registryd.images.files import in_thread
from registryd.images.filesystems.erofs import make_erofs
from registryd.images.filesystems.ext4 import make_ext4
from registryd.images.layers.contents import Opener
from registryd.images.layers.plan import Plan
from registryd.images.layers.squashfs import Squashed, make_squashfs, program, version
from registryd.images.layers.stored import LAYERS, StoredLayer, planned
from registryd.oci.errors import ManifestInvalid
from registryd.oci.image_config import ImageConfig
from registryd.oci.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Terms:
    """What a program that makes a file runs with: of the environment what it needs, and its nice
    level.
    """

    environ: Mapping[str, str]
    nice: int = 0


@dataclass(frozen=True, slots=True)
class Planned:
    """The files of an image, where their bytes are, and whose image it is."""

    plan: Plan
    openers: Sequence[Opener]
    where: str


Make = Callable[[Planned, Path, Recipe, Terms], Awaitable[None]]


async def _squashfs(planned: Planned, path: Path, recipe: Recipe, terms: Terms) -> None:
    squashed = Squashed(recipe.compressor, terms.environ, terms.nice)
    await make_squashfs(planned.plan, planned.openers, planned.where, path, squashed)


async def _ext4(planned: Planned, path: Path, recipe: Recipe, terms: Terms) -> None:
    await in_thread(make_ext4, planned.plan, planned.openers, planned.where, path)


async def _erofs(planned: Planned, path: Path, recipe: Recipe, terms: Terms) -> None:
    await in_thread(make_erofs, planned.plan, planned.openers, planned.where, path)


#: What writes a form into a file that is there and empty.
MAKERS: Final[Mapping[Form, Make]] = {"squashfs": _squashfs, "ext4": _ext4, "erofs": _erofs}


async def check(recipe: Recipe, terms: Terms) -> None:
    """Raise NotMade without the program that a form takes."""
    if recipe.form == "squashfs":
        await in_thread(program, terms.environ)


async def able_to(recipe: Recipe, terms: Terms) -> bool:
    """Whether the program that a form takes is here."""
    try:
        await check(recipe, terms)
    except NotMade:
        return False
    return True


async def tool_of(recipe: Recipe, terms: Terms) -> str:
    """What writes a form, with its version where that changes the bytes. Raises NotMade."""
    return await version(terms.environ) if recipe.form == "squashfs" else "registryd"


def layers_of(manifest: Manifest) -> Sequence[Descriptor]:
    """The layers of an image. Raises NotAnImage for what is none."""
    for layer in manifest.layers:
        if layer.media_type not in LAYERS:
            raise NotAnImage(f"{manifest.digest} is no image: it holds {layer.media_type[:140]}")
    return manifest.layers


async def plan_of(
    manifest: Manifest,
    config: ImageConfig,
    files: Mapping[Digest, int],
    told: Callable[[int], None],
    *,
    dressed: bool,
) -> Planned:
    """The plan of an image whose layers are in these open files; ``dressed`` for other tools too.

    Raises NotAnImage, ManifestInvalid, DigestMismatch, PathUnusable.
    """
    where, layers = str(manifest.digest), layers_of(manifest)
    diff_ids: Sequence[Digest | None] = config.diff_ids or [None] * len(layers)
    if len(diff_ids) != len(layers):
        raise ManifestInvalid(
            f"{where} has {len(layers)} layers, but its configuration tells of {len(diff_ids)}"
        )
    stored = [
        StoredLayer(files[layer.digest], layer, diff_id, told)
        for layer, diff_id in zip(layers, diff_ids, strict=True)
    ]
    plan = await in_thread(planned, stored, where)
    if dressed:
        plan = await in_thread(dress, plan, config)
    return Planned(plan, [layer.opened for layer in stored], where)
