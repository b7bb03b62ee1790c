"""What pyxis asks of an importer: an image by enroot's form of names, for a step of a job (pure).

Invariants:
- a name becomes a Reference or is refused; its user part chooses nothing here, as logins are found
  where all of registryctl finds them;
- ids are digits, so that names of files and pins can be made of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from registryd.oci.errors import ReferenceInvalid, UsageError
from registryd.oci.reference import Reference

SCHEME: Final = "docker://"

_USER = re.compile(r"(?P<user>[^@/#]*)@(?!sha(?:256|512):)(?P<rest>.*)", re.DOTALL)
_ID = re.compile(r"[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a job on this node."""

    job: str
    step: str

    @property
    def pin(self) -> str:
        """The name of its pin."""
        return f"pyxis:{self.job}.{self.step}"

    @property
    def file(self) -> str:
        """The name of its squashfs."""
        return f"{self.job}.{self.step}.sqsh"


def step_of(environ: Mapping[str, str]) -> Step:
    """The step that pyxis names. Raises UsageError."""
    ids = [environ.get(name, "") for name in ("SLURM_JOB_ID", "SLURM_STEP_ID")]
    if not all(map(_ID.fullmatch, ids)):
        raise UsageError("SLURM_JOB_ID and SLURM_STEP_ID are not set: pyxis runs this")
    return Step(*ids)


def image_of_uri(text: str) -> Reference:
    """The image of ``docker://[USER@][REGISTRY#|REGISTRY/]IMAGE[:TAG][@DIGEST]``.

    Raises UsageError for another scheme, ReferenceInvalid.
    """
    scheme, found, rest = text.partition("://")
    if not found:
        rest = text
    elif f"{scheme}://" != SCHEME:
        raise UsageError(f"{scheme[:20]}:// is not imported here: {SCHEME}IMAGE is")
    match = _USER.fullmatch(rest)
    if match is not None:
        rest = match["rest"]
    registry, marked, image = rest.partition("#")
    if marked and not (registry and image):
        raise ReferenceInvalid(f"{text[:80]!r}: write {SCHEME}REGISTRY#IMAGE")
    return Reference.parse(f"{registry}/{image}" if marked else rest)
