"""What comes of asking for an image (pure)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from registryd.gateway.names import ImageName
from registryd.gateway.record import Acl, Image, Request
from registryd.gateway.states import UNDER_WAY, State


@dataclass(frozen=True, slots=True)
class Standing:
    """What a caller has under a name: an import that goes on or has failed, or an image."""

    name: ImageName
    image: Image | None = None
    request: Request | None = None

    @property
    def state(self) -> State:
        """The newest of both."""
        if self.request is not None:
            return self.request.state
        return "EXPIRED" if self.image is None else self.image.state


def newest(image: Image | None, request: Request | None) -> tuple[State | None, float]:
    """The state of the newer one of both, and since when."""
    if request is not None and (
        request.state in UNDER_WAY or image is None or request.changed > image.last_pull
    ):
        return request.state, request.changed
    return (None, 0.0) if image is None else (image.state, image.last_pull)


def lists_differ(image: Image | None, request: Request, wanted: Acl | None) -> bool:
    """Whether a caller wants another list than the one they gave."""
    if image is None or wanted is None or not image.private:
        return False
    return image.lists.get(request.account.uid) != request.acl


def with_list_of(image: Image | None, request: Request, wanted: Acl | None) -> Request:
    """The request with the list that its puller gave before, where they give none now."""
    before = None if image is None else image.lists.get(request.account.uid)
    return replace(request, acl=before) if wanted is None and before is not None else request


def relisted(before: Request | None, request: Request, wanted: Acl | None) -> Request | None:
    """The import under way with another list, where its puller wants one; None: as it was."""
    if before is None or before.state not in UNDER_WAY or wanted is None:
        return None
    return None if before.acl == request.acl else replace(before, acl=request.acl)
