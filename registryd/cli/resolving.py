"""What a name means now, asked of whoever works."""

from __future__ import annotations

from cache.content import Digest
from registryd.cli.backend import Backend
from registryd.oci.reference import Reference
from registryd.secrets import Login


def exact(chosen: Backend, image: Reference, login: Login | None = None) -> Reference:
    """An image by its digest: the one that it is named by, or what its tag means. Raises Fault."""
    if image.digest is not None:
        return image.with_digest(image.digest)
    meant = chosen.call("digest", {"reference": str(image)}, login)
    return image.with_digest(Digest.parse(str(meant["digest"])))
