"""The names under which a person can put anything they like into the node cache."""

from __future__ import annotations

from registryd.oci.errors import UsageError
from registryd.oci.reference import DOCKER_HUB, Reference, names_registry

#: The node's own registry; what other names mean is for their registries to say.
OWN_REGISTRY = "localhost"


def own_name(reference: Reference) -> Reference:
    """The name of the node's own registry for what is called so elsewhere.

    ``alpine:3`` is ``localhost/alpine:3``, ``ghcr.io/org/app:1`` is ``localhost/org/app:1``.
    """
    repository = reference.repository
    if reference.registry == DOCKER_HUB:
        repository = repository.removeprefix("library/")
    return Reference(OWN_REGISTRY, repository, reference.tag or "latest")


def is_short(text: str) -> bool:
    """Whether a name was written without a registry."""
    first, slash, _ = text.partition("/")
    whole = "://" in text or "@" in text
    return not whole and not (slash and names_registry(first))


def check_own_name(reference: Reference) -> None:
    """Raise UsageError, with what to write, unless this is a name of the node's own registry."""
    if reference.registry != OWN_REGISTRY:
        own = f"{OWN_REGISTRY}/{reference.repository}:{reference.tag or 'latest'}"
        raise UsageError(
            f"cache:{reference} would say what {reference.registry} has under this name"
            f" (write cache:{own})"
        )
