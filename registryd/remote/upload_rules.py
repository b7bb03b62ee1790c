"""How a registry wants its blobs: what is known of hosts, and what is learned of them (pure).

A blob goes out in one PUT with its Content-Length; these rules say what else a host takes when
that was refused or broken off. Two things hold for every host, so that no rule speaks of them: no
body is ever sent with ``Transfer-Encoding: chunked``, and the ``Content-Range`` of a chunk is
``FIRST-LAST``, without a unit (one registry refuses each of the other forms).
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

MIB: Final = 2**20
#: Chunks of this size suit every registry that takes chunks and says nothing else.
CHUNK: Final = 16 * MIB
#: Chunks that a host finds too large are halved, but not below this: something else is wrong then.
SMALLEST: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class UploadRule:
    """What hosts of these names take.

    ``chunks``: whether a blob may come in several; each has ``least`` bytes (but the last), and
    ``most`` (0: nothing is known). ``tells``: whether a session says how far it is.
    """

    hosts: tuple[str, ...]
    chunks: bool = True
    least: int = 0
    most: int = 0
    tells: bool = True


RULES: Final = (
    # Its answer to a PATCH is 201, its Range stays at the first chunk, its status is 404.
    UploadRule(
        ("*.dkr.ecr.*.amazonaws.com", "*.dkr.ecr.*.amazonaws.com.cn", "*.dkr.ecr-fips.*",
         "public.ecr.aws"),
        least=5 * MIB,
        tells=False,
    ),
    UploadRule(("gcr.io", "*.gcr.io", "*-docker.pkg.dev"), chunks=False),
    UploadRule(("ghcr.io",), most=4 * MIB),
)  # fmt: skip
OTHERS: Final = UploadRule(("*",))


def rule_for(registry: str) -> UploadRule:
    """The rule of a registry by its name in references; its port does not matter."""
    host = registry.rpartition(":")[0] if ":" in registry else registry
    for rule in RULES:
        if any(fnmatchcase(host, pattern) for pattern in rule.hosts):
            return rule
    return OTHERS


@dataclass(slots=True)
class Learned:
    """What one host has taught us while this process runs."""

    #: It refuses a blob in one piece.
    in_chunks: bool = False
    #: Chunks larger than this it has refused; 0: none so far.
    most: int = 0

    def refused_chunk(self, size: int) -> bool:
        """Take note that a chunk was too large; False when smaller ones make no sense."""
        if size // 2 < SMALLEST:
            return False
        self.most = size // 2
        return True


def chunk_size(rule: UploadRule, learned: Learned, least: int) -> int:
    """Bytes of a chunk; ``least`` is what the session asks for (OCI-Chunk-Min-Length).

    A host's own word counts more than what we know of it.
    """
    most = min(size for size in (CHUNK, rule.most, learned.most) if size)
    return max(most, rule.least, least)
