"""What happens during a conversion, told as events; see ``transfer.report`` for their rules."""

from __future__ import annotations

from cache.content import Descriptor, Digest
from registryd.conversion.recipe import Recipe
from registryd.oci.reference import Reference
from registryd.transfer.report import Event


def converting(digest: Digest, recipe: Recipe, offset: int, total: int) -> Event:
    """So many bytes of an image's layers have been read, each layer twice."""
    return {
        "event": "converting",
        "digest": str(digest),
        "form": recipe.form,
        "offset": offset,
        "total": total,
    }


def converted(
    reference: Reference,
    digest: Digest,
    recipe: Recipe,
    blob: Descriptor,
    *,
    made: bool,
    seconds: float,
) -> Event:
    """An image (its manifest's ``digest``) is here as one file; ``made``: just now, by this."""
    return {
        "event": "done",
        "reference": str(reference),
        "digest": str(digest),
        "form": recipe.form,
        "recipe": str(recipe),
        "blob": str(blob.digest),
        "size": blob.size,
        "media_type": blob.media_type,
        "made": made,
        "seconds": round(seconds, 3),
    }
