"""The media types that we give a meaning to, and what we say that we accept.

Image specification 1.1, "Media Types"; Docker's image manifest version 2, schema 2.
Every other media type is carried along untouched.
"""

from __future__ import annotations

from typing import Final

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_FOREIGN: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar"
OCI_FOREIGN_GZIP: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
OCI_FOREIGN_ZSTD: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"

DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar"
DOCKER_FOREIGN_GZIP: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
DOCKER_SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"

OCTET_STREAM: Final = "application/octet-stream"

#: Manifests of one image or artifact.
MANIFESTS: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
#: Lists of manifests.
INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
#: All that `/v2/NAME/manifests/` serves and takes.
DOCUMENTS: Final = MANIFESTS | INDEXES
#: What we recognise only to refuse it with a clear line.
SCHEMA1: Final = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})
#: Layers that a registry need not hold: they may carry URLs to fetch them from.
FOREIGN_LAYERS: Final = frozenset(
    {OCI_FOREIGN, OCI_FOREIGN_GZIP, OCI_FOREIGN_ZSTD, DOCKER_FOREIGN, DOCKER_FOREIGN_GZIP}
)

#: One header with all of them: some proxies keep only the first of several Accept headers,
#: and some registries answer with schema 1 when the OCI types are not listed.
ACCEPT: Final = ", ".join((OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))


def essence(content_type: str) -> str:
    """The media type without its parameters, in lower case (RFC 9110, 8.3.1)."""
    return content_type.partition(";")[0].strip().lower()
