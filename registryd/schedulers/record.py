"""What a prolog has done for a job on this node, as lines that a shell can read (pure).

Invariants:
- each line is a key and the rest of the line; nothing in a value ends a line or moves a cursor;
- the epilog and steps need nothing but this; that it is missing means that no image was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

State = Literal["fetching", "ready", "failed"]

#: Where records are: root's folder, which a step can read.
FOLDER: Final = "/run/registryd/slurm"
#: Characters of an error: one line of a job's output.
ERROR_LIMIT: Final = 300


@dataclass(frozen=True, slots=True)
class Record:
    """``asked`` as the job asks for it, ``image`` by its digest once that is known.

    ``code`` is the exit code of what failed: 3 is no access with the node's logins.
    """

    state: State
    asked: str
    image: str = ""
    code: int = 0
    error: str = ""

    def text(self) -> str:
        """The file."""
        values = (
            ("state", self.state),
            ("asked", self.asked),
            ("image", self.image),
            ("code", str(self.code)),
            ("error", self.error[:ERROR_LIMIT]),
        )
        return "".join(f"{key} {_one_line(value)}\n" for key, value in values)


def file_of(job: str) -> str:
    """The name of a job's record."""
    return f"job-{job}"


def _one_line(value: str) -> str:
    line = " ".join(value.split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)
