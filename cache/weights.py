"""Weights: how much room each image alone takes, and when that was last used, kept up to date.

Invariants:
- each number has a count of the images that need it, and their sum by exclusive or: where one
  image alone needs it, that is the image;
- what an image weighs is worked out anew when something that it alone needs, or itself, may have
  changed, and only then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple


class Weight(NamedTuple):
    """When an image, or what it alone needs, was last used (Unix seconds), and its own bytes."""

    used: float
    own: int


class Weights:
    """What images weigh, by numbers of which others say the sizes and the last uses."""

    def __init__(self, sizes: Sequence[int], used: Sequence[float]) -> None:
        self._sizes = sizes
        self._used = used
        #: By number: how many images need it, and which (see above). Numbers beyond: none.
        self.users: list[int] = []
        self.sole: list[int] = []
        self._needs: dict[int, Collection[int]] = {}
        self._known: dict[int, Weight] = {}
        self._stale: set[int] = set()

    def written(self, number: int) -> None:
        """A size or a last use may have changed."""
        self._stale.add(number)  # if it is an image itself
        if number < len(self.users) and self.users[number] == 1:
            self._stale.add(self.sole[number])

    def drop(self, image: int) -> None:
        """An image is there no more, or needs other things by now."""
        users, sole = self.users, self.sole
        self._known.pop(image, None)
        for number in self._needs.pop(image, ()):
            users[number] -= 1
            sole[number] ^= image
            if users[number] == 1:
                self._stale.add(sole[number])

    def bring(self, images: AbstractSet[int], closure: Callable[[int], Collection[int]]) -> None:
        """From now on these are the images; each needs what ``closure`` says when it is new."""
        for image in self._needs.keys() - images:
            self.drop(image)
        for image in images - self._needs.keys():
            self._add(image, closure(image))

    def _add(self, image: int, needs: Collection[int]) -> None:
        users, sole = self.users, self.sole
        more = [0] * (len(self._sizes) - len(users))
        users += more
        sole += more
        for number in needs:
            if users[number] == 1:
                self._stale.add(sole[number])
            users[number] += 1
            sole[number] ^= image
        self._needs[image] = needs
        self._stale.add(image)

    def all(self) -> Mapping[int, Weight]:
        """What each image weighs now."""
        for image in self._stale:
            if image in self._needs:
                self._known[image] = self.weighed(image, self.users)
        self._stale = set()
        return self._known

    def weighed(self, image: int, users: Sequence[int]) -> Weight:
        """What an image weighs where so many need each number."""
        own = [number for number in self._needs[image] if users[number] == 1]
        used = max(map(self._used.__getitem__, own), default=0.0)
        return Weight(max(self._used[image], used), sum(map(self._sizes.__getitem__, own)))
