"""What the demonstration prints at its end, and writes as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from scripts.demo_image import Image
from scripts.demo_steps import Pull, Reading

HEADINGS = (
    "", "FETCHED", "BLOBS", "HELD", "BLOBS", "SECONDS", "MB/s", "SENT", "TOOK", "TIMES",
)  # fmt: skip


@dataclass(frozen=True)
class Results:
    """Everything that was seen."""

    images: tuple[Image, Image]
    pushes: tuple[dict[str, Any], ...]
    cold: Pull
    warm: Pull
    second: Pull
    reading: Reading
    skopeo: bool
    node_keeps: int

    @property
    def distinct(self) -> int:
        """Bytes of the blobs of both images, each counted once."""
        first, second = self.images
        return first.size + second.own_size(first)

    @property
    def origin_sent(self) -> int:
        """Bytes of blobs that the origin gave in all, by its own count."""
        return sum(act.origin_sent for act in self._acts)

    @property
    def node_taken(self) -> int:
        """Bytes of blobs that the node took from the origin in all, by its own count."""
        return sum(act.node_taken for act in self._acts)

    @property
    def _acts(self) -> tuple[Pull | Reading, ...]:
        return (self.cold, self.warm, self.second, self.reading)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON; sizes in bytes."""
        first, second = self.images
        return {
            "images": [
                {"tag": image.tag, "digest": image.digest, "size": image.size}
                for image in self.images
            ],
            "distinct_size": self.distinct,
            "second_own_size": second.own_size(first),
            "pushes": list(self.pushes),
            "pulls": {name: asdict(getattr(self, name)) for name in ("cold", "warm", "second")},
            "reading": asdict(self.reading),
            "skopeo": self.skopeo,
            "origin_sent": self.origin_sent,
            "node_taken": self.node_taken,
            "node_keeps": self.node_keeps,
            "times": self.origin_sent / self.distinct,
        }

    def lines(self) -> list[str]:
        """The table."""
        first, second = self.images
        rows = [
            HEADINGS,
            _pull_row("cold", self.cold, first.size),
            _pull_row("warm", self.warm, 0),
            _pull_row("second image", self.second, second.own_size(first)),
            _reading_row("read by HTTP", self.reading),
            _total_row(self),
        ]
        both = f"{_mega(first.size)} + {_mega(second.size)}"
        return [
            *_aligned(rows),
            "",
            "Sizes in MB (10^6 bytes) of configs and layers; MB/s of what was fetched or read.",
            "SENT: by the origin, TOOK: by the node, as each has counted in its /metrics.",
            "TIMES: sent, divided by what the node did not hold yet.",
            f"The two images have {both} MB; the node keeps {_mega(self.node_keeps)} MB.",
        ]


def _pull_row(name: str, pull: Pull, wanted: int) -> tuple[str, ...]:
    return (
        name,
        _mega(pull.fetched),
        str(pull.fetched_blobs),
        _mega(pull.held),
        str(pull.held_blobs),
        f"{pull.seconds:.2f}",
        _rate(pull.fetched, pull.seconds),
        _mega(pull.origin_sent),
        _mega(pull.node_taken),
        _times(pull.origin_sent, wanted),
    )


def _reading_row(name: str, reading: Reading) -> tuple[str, ...]:
    return (
        name,
        "-",
        "-",
        _mega(reading.bytes),
        str(reading.blobs),
        f"{reading.seconds:.2f}",
        _rate(reading.bytes, reading.seconds),
        _mega(reading.origin_sent),
        _mega(reading.node_taken),
        "-",
    )


def _total_row(results: Results) -> tuple[str, ...]:
    sent, taken = results.origin_sent, results.node_taken
    times = _times(sent, results.distinct)
    return ("in all", "", "", "", "", "", "", _mega(sent), _mega(taken), times)


def _mega(size: int) -> str:
    """Megabytes; what is written as 0 is not one byte more."""
    return f"{size / 1e6:,.1f}" if size else "0"


def _rate(size: int, seconds: float) -> str:
    return f"{size / seconds / 1e6:,.0f}" if size and seconds > 0 else "-"


def _times(sent: int, wanted: int) -> str:
    return f"{sent / wanted:.2f}" if wanted else "-"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with columns as wide as needed, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        row[0].ljust(widths[0])
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
