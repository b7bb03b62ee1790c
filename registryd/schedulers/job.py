"""A job as Slurm's prolog and epilog are told of it, and the image that it asks for (pure).

Invariants:
- what a user wrote (an option, a comment, a script) is a Reference before anything is done with it;
- a job's id is digits, so that names and paths can be made of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from registryd.oci.errors import ReferenceInvalid, UsageError
from registryd.oci.reference import Reference

#: Where the image is, the first that is there counts: as the SPANK plugin resolved it at submit,
#: as it was given to the plugin's option, and (with no plugin) in the job's comment.
RESOLVED = "SPANK_REGISTRYD_IMAGE"
OPTION = "SPANK__SLURM_SPANK_OPTION_registryd_image"
COMMENT = "SLURM_JOB_COMMENT"

#: When the job must have ended, Unix seconds: Slurm says so from 23.02 on.
END = "SLURM_JOB_END_TIME"
#: Seconds that a pin may outlive the end of its job, as epilogs are late; and the longest that is
#: meant by any end (a job without a limit has one far away).
MARGIN, LONGEST = 3600.0, 366 * 86400.0

_ID = re.compile(r"[0-9]{1,10}")
_BETWEEN = re.compile(r"[\s,;]+")
_DIRECTIVE = re.compile(r"#(?:SBATCH|BB_LUA)\s+(?P<words>.*)")


@dataclass(frozen=True, slots=True)
class Job:
    """A job on this node: its id, the user who runs it, and the image that it asks for, if any."""

    id: str
    uid: int
    image: Reference | None = None

    @property
    def pin(self) -> str:
        """The name of its pin."""
        return f"job:{self.id}"


def job_of(environ: Mapping[str, str]) -> Job:
    """The job of this environment. Raises UsageError outside of one, and ReferenceInvalid."""
    id = job_id(environ.get("SLURM_JOB_ID", ""))
    uid = environ.get("SLURM_JOB_UID", "")
    if not _ID.fullmatch(uid):
        raise UsageError("SLURM_JOB_UID is not set: Slurm runs this, as its Prolog")
    return Job(id, int(uid), wanted(environ))


def job_id(text: str) -> str:
    """The id of a job. Raises UsageError."""
    if not _ID.fullmatch(text):
        raise UsageError(
            f"{text[:20]!r} is no job of Slurm's (SLURM_JOB_ID): Slurm runs this, as its Prolog"
        )
    return text


def kept_for(environ: Mapping[str, str], *, now: float) -> float | None:
    """Seconds for which the job's image is to be kept at most; None where Slurm does not say."""
    end = environ.get(END, "")
    if not re.fullmatch(r"[0-9]{1,20}", end) or int(end) <= now:
        return None
    return min(int(end) - now + MARGIN, LONGEST)


def wanted(environ: Mapping[str, str]) -> Reference | None:
    """The image that a job asks for. Raises ReferenceInvalid."""
    for name in (RESOLVED, OPTION):
        if environ.get(name):
            return image_of(environ[name])
    said = image_in(environ.get(COMMENT, ""))
    return None if said is None else image_of(said)


def image_in(comment: str) -> str | None:
    """What a comment says after ``image=``; other words in it are somebody else's."""
    for word in _BETWEEN.split(comment):
        if word.startswith("image="):
            return word.removeprefix("image=")
    return None


def image_in_script(lines: Iterable[str]) -> str | None:
    """The image that a batch script asks for in ``#SBATCH`` and ``#BB_LUA`` lines, the last one.

    As sbatch reads it: lines after the first command are not looked at.
    """
    found = None
    for line in lines:
        text = line.strip()
        if text and not text.startswith("#"):
            break
        match = _DIRECTIVE.fullmatch(text)
        if match:
            found = _image_option(match["words"]) or found
    return found


def _image_option(words: str) -> str | None:
    """``--image=REF``, ``--image REF``, ``image=REF`` or a comment with it."""
    text = words.replace('"', " ").replace("'", " ")
    match = re.search(r"(?:^|[\s,;=])(?:--image[\s=]+|image=)(?P<image>[^\s,;]+)", text)
    return match["image"] if match else None


def image_of(text: str) -> Reference:
    """A Reference of what a user wrote. Raises ReferenceInvalid."""
    if len(text) > 1024:
        raise ReferenceInvalid(f"{text[:40]!r}... is too long for the name of an image")
    return Reference.parse(text.removeprefix("docker://"))
