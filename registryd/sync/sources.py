"""Images to mirror that no file lists: a repository, or a folder that skopeo has filled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from registryd.images.transports import ImageLocation
from registryd.oci.errors import UsageError
from registryd.oci.reference import Reference
from registryd.sync.plan import ImageStep, Plan
from registryd.sync.skopeo_file import Target, image_step, repository_step
from registryd.sync.whole import Extras

#: Folders that are looked into: a mirror of everything that a site uses.
FOLDERS_LIMIT: Final = 100_000


def of_repository(text: str, target: Target, extras: Extras) -> Plan:
    """All tags of a repository, or the one image that the text names. Raises UsageError."""
    source = Reference.parse(text, default_tag=None)
    if source.target:
        return Plan((image_step(source, target, extras),))
    return Plan((repository_step(source, target, extras),))


def of_folder(text: str, target: Target, extras: Extras) -> Plan:
    """The images in the folders below one (``dir:``), by their paths. Raises UsageError."""
    root = Path(text.removeprefix("dir:"))
    if target.kind != "docker":
        raise UsageError(f"images of the folder {root} go to a registry (--dest docker)")
    steps = []
    for path in sorted(_images(root)):
        name = path.relative_to(root)
        words = str(name) if str(name) != "." else root.name
        scope = f"{root.name}/" if target.scoped and str(name) != "." else ""
        prefix = target.place.removeprefix("docker://").rstrip("/")
        place = ImageLocation.parse(f"{prefix}/{scope}{words}{target.suffix}")
        steps.append(ImageStep(ImageLocation("dir", path), place, extras))
    if not steps:
        raise UsageError(f"{root} holds no image in the form that dir: has")
    return Plan(tuple(steps))


def _images(root: Path) -> Iterator[Path]:
    """The folders that hold an image, links not followed."""

    def unreadable(error: OSError) -> None:
        raise UsageError(f"{error.filename}: {error.strerror}") from error

    for count, (folder, below, files) in enumerate(os.walk(root, onerror=unreadable)):
        if count > FOLDERS_LIMIT:
            raise UsageError(f"{root} has more than {FOLDERS_LIMIT} folders")
        if "manifest.json" in files:
            below.clear()
            yield Path(folder)
