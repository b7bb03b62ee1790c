"""Why goals were not reached, as a profiler told; and which goals README shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_CORES: Final = (
    "two cores do all of it, the registry beside: a pulled GiB costs this daemon about 1.1 s of"
    " processor (hash, page cache, sockets)."
)
_IMPORTS: Final = (
    "Python's start: `python -X importtime` shows imports alone, none of which stands out."
)
#: By the bench, and words of the goal's title and row; what is not here is not known yet.
REASONS: Final[Mapping[tuple[str, str], str]] = {
    ("pull", "MiB layer registryctl pull (daemon) / curl"): _CORES,
    ("pull", "MiB layer registryctl pull (in-process)"): _CORES,
    ("pull", "MiB layer registryctl pull (daemon) / skopeo"): _CORES,
    ("pull", "layers of"): _IMPORTS,
    ("manifests", ""): (
        "by a profile, sending the answer is 26 % of a request, finding the manifest and whether"
        " the caller may read it 30 %, the log line 11 %; routing and parsing are the rest."
    ),
    ("coalesce", "the last one / one client"): "32 clients and the daemon share two cores.",
    ("run", "exec"): _IMPORTS,
    ("scale", "images"): (
        "of about 0.4 s of processor 0.13 s are the start of the command, as with 20 images; the"
        " rest is making the lines, in the daemon and here."
    ),
    ("cluster", "last / floor"): "eight daemons and the links share two cores.",
}
#: What README says, by the bench and words of its goal.
HEADLINES: Final[Mapping[tuple[str, str], str]] = {
    ("pull", "MiB layer registryctl pull (daemon) / skopeo"): (
        "cold pull of a large layer, over `skopeo copy` (time)"
    ),
    ("coalesce", "upstream sent"): "32 clients, one cold blob: upstream sent it",
    ("proxy", "first byte: registryd"): (
        "first byte of a cold layer, over docker-registry as a proxy (time)"
    ),
    ("manifests", "registryd / docker-registry"): (
        "manifests a second, access checked, over docker-registry (rate)"
    ),
    ("serve", "8 client(s)"): "a held blob to 8 clients, over nginx with sendfile (time)",
    ("flatten", "skopeo, umoci, mksquashfs (zstd 3)"): (
        "pull to squashfs, over skopeo, umoci and mksquashfs with zstd 3 (time)"
    ),
    ("flatten", "ours / gzip 9"): "the same, over gzip 9, the default of apptainer (time)",
    ("cluster", "last / floor"): "8 nodes at once, the last one over the least there can be (time)",
    ("scale", "images as table"): "`images` of 20,000 images",
    ("scrub", "verify"): "`cache verify`, over `openssl dgst` (speed)",
}
