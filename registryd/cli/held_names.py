"""Images of the cache as people name them who come from docker: by name, digest or its beginning.

Invariant: what is a name in the cache is that name, whatever digest begins so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cache.errors import DigestInvalid, NameNotFound
from registryd.oci.errors import ReferenceInvalid
from registryd.oci.reference import Reference

#: A digest, or the first digits of one, as ``images`` prints them.
_DIGEST = re.compile(r"(?:sha256:|sha512:)?([0-9a-f]{12,128})")
Images = Sequence[Mapping[str, Any]]


def looks_like_digest(text: str) -> bool:
    """Whether this may be a digest, or its beginning, and not a name."""
    return _DIGEST.fullmatch(text) is not None


def with_digest(images: Images, text: str) -> list[Reference]:
    """The names of the image that a digest, or its beginning, means; none when it is a name.

    Raises NameNotFound where no image, and where more than one image, begins so.
    """
    match = _DIGEST.fullmatch(text)
    if match is None or _is_name(images, text):
        return []
    found = [image for image in images if _begins(str(image.get("digest")), text, match[1])]
    digests = {image["digest"] for image in found}
    if len(digests) > 1:
        raise NameNotFound(f"{text} begins the digests of {len(digests)} images; write more of it")
    if not found:
        raise NameNotFound(f"no image in the cache has a digest that begins with {text}")
    return [Reference.parse(image["reference"], default_tag=None) for image in found]


def matching(images: Images, text: str) -> list[Mapping[str, Any]]:
    """The images of a repository, or the one of a tag, as ``images REPOSITORY[:TAG]`` means them.

    Raises ReferenceInvalid.
    """
    wanted = Reference.parse(text, default_tag=None)
    return [
        image
        for image in images
        if image.get("name") == wanted.name
        and (wanted.tag is None or image.get("tag") == wanted.tag)
        and (wanted.digest is None or image.get("digest") == str(wanted.digest))
    ]


def _begins(digest: str, text: str, digits: str) -> bool:
    return digest.startswith(text if ":" in text else f"{digest.partition(':')[0]}:{digits}")


def _is_name(images: Images, text: str) -> bool:
    try:
        name = str(Reference.parse(text))
    except (ReferenceInvalid, DigestInvalid):
        return False
    return any(image.get("reference") == name for image in images)
