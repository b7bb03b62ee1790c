"""A picture of the layers that images share (pure): which images have which blobs.

Invariants:
- it is drawn of images that one caller may see, and of nothing else;
- what it leaves out (images beyond IMAGES, small blobs of an image) it counts;
- images that share most with one another stand together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from cache.content import Digest

#: Images that are drawn, and blobs of one of them: a screen has no room for more.
IMAGES: Final = 60
BLOBS: Final = 40

Sizes = Mapping[Digest, int]


def picture(images: Mapping[str, tuple[Digest, Sizes]]) -> dict[str, Any]:
    """The picture as JSON, by the names of images and what each needs and has."""
    sizes = {digest: size for _, each in images.values() for digest, size in each.items()}
    users = Counter(digest for _, each in _once(images).values() for digest in each)
    shown = sorted(images, key=lambda name: (-sum(images[name][1].values()), name))[:IMAGES]
    ranks = _ranks({d: sizes[d] * (count - 1) for d, count in users.items() if count > 1})
    shown.sort(key=lambda name: _place(images[name][1], ranks))
    drawn = {name: _drawn(images[name][1], ranks) for name in shown}
    numbers = {digest: number for number, digest in enumerate(_all(drawn.values(), ranks))}
    return {
        "images": [
            _image(name, images[name], [numbers[digest] for digest in drawn[name]], users)
            for name in shown
        ],
        "more": len(images) - len(shown),
        "layers": [
            {"digest": str(digest), "size": sizes[digest], "images": users[digest]}
            for digest in numbers
        ],
        "apart": sum(sum(each.values()) for _, each in _once(images).values()),
        "together": sum(sizes.values()),
    }


def _once(images: Mapping[str, tuple[Digest, Sizes]]) -> dict[Digest, tuple[Digest, Sizes]]:
    """Each image once, however many names it has."""
    return {image[0]: image for image in images.values()}


def _ranks(savings: Mapping[Digest, int]) -> dict[Digest, int]:
    """The blobs that save bytes by being shared, what saves most first."""
    best = sorted(savings, key=lambda digest: (-savings[digest], str(digest)))
    return {digest: rank for rank, digest in enumerate(best)}


def _place(sizes: Sizes, ranks: Mapping[Digest, int]) -> tuple[int, int]:
    return min((ranks.get(digest, len(ranks)) for digest in sizes), default=0), -sum(sizes.values())


def _drawn(sizes: Sizes, ranks: Mapping[Digest, int]) -> list[Digest]:
    """The largest blobs of an image, shared ones first."""
    large = sorted(sizes, key=lambda digest: (-sizes[digest], str(digest)))[:BLOBS]
    last = len(ranks)
    return sorted(large, key=lambda digest: (ranks.get(digest, last), -sizes[digest], str(digest)))


def _all(rows: Iterable[Sequence[Digest]], ranks: Mapping[Digest, int]) -> list[Digest]:
    """All blobs that are drawn: the shared ones by what they save, then the others."""
    met = dict.fromkeys(digest for row in rows for digest in row)
    return sorted(met, key=lambda digest: ranks.get(digest, len(ranks)))


def _image(
    name: str, image: tuple[Digest, Sizes], layers: Sequence[int], users: Counter[Digest]
) -> dict[str, object]:
    digest, sizes = image
    return {
        "reference": name,
        "digest": str(digest),
        "size": sum(sizes.values()),
        "own_size": sum(size for blob, size in sizes.items() if users[blob] == 1),
        "layers": list(layers),
    }
