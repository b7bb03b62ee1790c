"""``inspect``: what an image is, in the words of skopeo; or its manifest or config as they are.

A name that the cache holds needs no network: the operations behind decide that.
"""

from __future__ import annotations

import json
from typing import Any

from registryd.cli.arguments import Parser, credential_flags, platform_flag, tls_flags
from registryd.cli.backend import Backend, Raw, backend
from registryd.cli.command import Context
from registryd.oci.errors import ManifestInvalid
from registryd.oci.reference import Reference
from registryd.secrets import Login


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("reference", metavar="REF")
    parser.add_argument(
        "--raw", action="store_true", default=False, help="the manifest's bytes, no more"
    )
    parser.add_argument(
        "--config", action="store_true", default=False, help="the image's configuration"
    )
    platform_flag(parser)
    credential_flags(parser)
    tls_flags(parser)


def run(context: Context) -> None:
    """Print what was asked for. Raises Fault."""
    from registryd.cli.logins import login_for

    options, console = context.options, context.console
    reference = Reference.parse(options.reference)
    login = login_for(context, reference.registry, reference.repository)
    with backend(context, reference.registry) as chosen:
        if not options.raw and not options.config:
            console.json(_described(chosen, reference, options.platform, login))
            return
        wanted = {"reference": str(reference), "platform": options.platform}
        answer = chosen.raw("config" if options.config else "manifest", wanted, login)
    if options.raw:
        console.raw(answer.content)
    else:
        console.json(_object(answer, f"config of {reference}"))


def _described(
    chosen: Backend, reference: Reference, platform: str | None, login: Login | None
) -> dict[str, Any]:
    """The members of skopeo's inspect; Digest is that of what the name means (an index's)."""
    root = chosen.raw("manifest", {"reference": str(reference)}, login)
    config = chosen.raw("config", {"reference": str(reference), "platform": platform}, login)
    manifest = root
    if config.manifest_digest and config.manifest_digest != root.digest:
        exact = f"{reference.name}@{config.manifest_digest}"
        manifest = chosen.raw("manifest", {"reference": exact}, login)
    layers = _object(manifest, f"manifest of {reference}").get("layers") or []
    image = _object(config, f"config of {reference}")
    settings = image.get("config") or {}
    return {
        "Name": reference.name,
        "Digest": root.digest,
        "RepoTags": [reference.tag] if reference.tag else [],
        "Created": image.get("created") or "",
        "Labels": settings.get("Labels") or {},
        "Architecture": image.get("architecture") or "",
        "Os": image.get("os") or "",
        "Layers": [layer.get("digest") for layer in layers],
        "LayersData": [_layer(layer) for layer in layers],
        "Env": settings.get("Env") or [],
    }


def _layer(layer: dict[str, Any]) -> dict[str, Any]:
    return {
        "MIMEType": layer.get("mediaType"),
        "Digest": layer.get("digest"),
        "Size": layer.get("size"),
        "Annotations": layer.get("annotations"),
    }


def _object(answer: Raw, what: str) -> dict[str, Any]:
    """The JSON object in an answer. Raises ManifestInvalid."""
    try:
        value = json.loads(answer.content)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ManifestInvalid(f"the {what} is not a JSON object (--raw shows it)")
    return value
