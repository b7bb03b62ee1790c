"""How an image was made: the history in its configuration, with the layers that its steps left.

Image specification 1.1, "Image Configuration", property ``history``.

Invariant: every layer of the manifest is there once, in order, also where the history says less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cache.content import Descriptor
from registryd.oci import fields
from registryd.oci.errors import ManifestInvalid


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what was done, and the layer that it left; None where it left none."""

    layer: Descriptor | None
    created: str = ""
    created_by: str = ""
    comment: str = ""


def read_history(raw: bytes, layers: Sequence[Descriptor]) -> list[Step]:
    """The steps of a configuration, the oldest first. Raises ManifestInvalid."""
    left = list(layers)
    try:
        entries = fields.entries(fields.load(raw), "history")
        steps = [_step(value, f"history[{at}]", left) for at, value in enumerate(entries)]
    except fields.Malformed as error:
        raise ManifestInvalid(f"the image configuration is not usable: {error}") from None
    return steps + [Step(layer) for layer in left]


def _step(value: object, where: str, left: list[Descriptor]) -> Step:
    members = fields.mapping(value, where)
    empty = members.get("empty_layer") is True or not left
    return Step(
        None if empty else left.pop(0),
        fields.text(members, "created", f"{where}."),
        fields.text(members, "created_by", f"{where}."),
        fields.text(members, "comment", f"{where}."),
    )
