"""Images of the node's gateway for commands that start or mount images: ``gateway:NAME``.

Invariant: whoever is in an image's list is handed its open file by the daemon; they need no path
of the cache, and no login for its registry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registryd.cli.command import Context

if TYPE_CHECKING:
    from registryd.cli.run_images import Found

#: What names an image of the gateway.
GATEWAY = "gateway:"


@dataclass(frozen=True, slots=True)
class Handed:
    """An open file, which is the caller's to close, and what the gateway says of its image."""

    file: int
    said: dict[str, Any]

    @property
    def digest(self) -> str:
        """The digest of the image's manifest, or of its file."""
        id = str(self.said.get("id"))
        return f"{'sha256' if len(id) == 64 else 'sha512'}:{id}"


def handed(context: Context, name: str) -> Handed:
    """The image of a gateway's name. Raises Fault."""
    from registryd.cli.gateway import dialled, gateway

    with gateway(context) as chosen, dialled(chosen) as daemon:
        found = chosen.call("gateway_lookup", {"image": name})
        return Handed(daemon.file("gateway_open", {"image": f"id:{found.get('id')}"}), found)


def found_in_gateway(context: Context, text: str) -> Found | None:
    """The image that is to be started, where this is a name of the gateway's. Raises Fault."""
    if not text.startswith(GATEWAY):
        return None
    from registryd.cli.platforms import own
    from registryd.cli.run_images import Found
    from registryd.oci.image_config import ImageConfig

    image = handed(context, text.removeprefix(GATEWAY))
    said = image.said
    config = ImageConfig(
        platform=own(),
        env=tuple(said.get("env") or ()),
        entrypoint=tuple(said.get("entry") or ()),
        cmd=tuple(said.get("cmd") or ()),
        working_dir=str(said.get("workdir") or ""),
        user=str(said.get("user") or ""),
        labels=dict(said.get("labels") or {}),
    )
    return Found(text, image.digest, config, opened=image.file)
