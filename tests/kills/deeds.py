"""What a daemon is asked to do while it is killed: deeds, and what each changes of the names.

A deed that was answered has happened, whatever comes then; one that was cut off has happened whole,
or not at all; asked for again it succeeds.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from os import kill

from tests.fakes.registry import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST
from tests.images.layers.trees import layer, member
from tests.kills.node import Node, Refused, refusal
from tests.real.stories import UP

#: Stands for "whatever digest".
ANY = ""


@dataclass(frozen=True)
class Deed:
    """One thing that is asked for; ``makes`` names with their digests, ``takes`` names."""

    name: str
    do: Callable[[Node], object]
    makes: Mapping[str, str] = field(default_factory=dict)
    takes: frozenset[str] = frozenset()
    #: Names that may go for it.
    may_take: frozenset[str] = frozenset()
    #: Answers that are right where it had happened before: codes.
    content: frozenset[str] = frozenset()

    def __call__(self, node: Node, *, again: bool = False) -> None:
        """Do it. Raises Died and Refused."""
        try:
            self.do(node)
        except Refused as refused:
            if not (again and refused.code in self.content):
                raise


def pull(image: str, *may_take: str) -> Deed:
    """An image of the registry; names that may go for it."""
    name = f"{UP}/{image}:1"
    return Deed(
        f"pull {image}",
        lambda node: node.ask("pull", reference=name),
        {name: ANY},
        may_take=frozenset(may_take),
    )


def pulls(image: str, layer: str, count: int = 3) -> Deed:
    """The same image for several at once, and its largest layer for a runtime."""
    name = f"{UP}/{image}:1"

    def do(node: Node) -> None:
        with ThreadPoolExecutor(count + 1) as threads:
            asked = [threads.submit(node.ask, "pull", reference=name) for _ in range(count)]
            read = threads.submit(node.get, f"/v2/{UP}/{image}/blobs/{layer}")
            for each in asked:
                each.result()
            content = read.result()
        found = f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert found == layer, f"{layer} was given as {found}"

    return Deed(f"pull {image} by many", do, {name: ANY})


def tag(source: str, target: str, digest: str = ANY) -> Deed:
    """A name of the node's own."""
    do: Callable[[Node], object] = lambda node: node.ask("tag", source=source, target=target)  # noqa: E731
    return Deed(f"tag {target}", do, {target: digest})


def rmi(name: str) -> Deed:
    """Take a name away, with what nobody needs then."""
    do: Callable[[Node], object] = lambda node: node.ask("rmi", reference=name)  # noqa: E731
    return Deed(f"rmi {name}", do, takes=frozenset({name}), content=frozenset({"MANIFEST_UNKNOWN"}))


def collect(names: Sequence[str], **how: object) -> Deed:
    """Make room: these names may go."""
    return Deed("gc", lambda node: node.ask("cache/gc", **how), takes=frozenset(names))


def pin(name: str) -> Deed:
    """Keep an image."""
    return Deed(f"pin {name}", lambda node: node.ask("cache/pin", reference=name))


def unpin(name: str) -> Deed:
    """Keep it no longer."""
    do: Callable[[Node], object] = lambda node: node.ask("cache/unpin", reference=name)  # noqa: E731
    return Deed(f"unpin {name}", do)


def verify() -> Deed:
    """Read all blobs again."""
    return Deed("verify", lambda node: node.ask("cache/verify"))


def convert(name: str) -> Deed:
    """Make a squashfs of an image."""
    return Deed(f"convert {name}", lambda node: node.ask("convert", reference=name))


def stop() -> Deed:
    """SIGTERM, and wait for the end."""

    def do(node: Node) -> None:
        kill(node.pid, signal.SIGTERM)
        node.wait()

    return Deed("stop", do)


@dataclass(frozen=True)
class Pushed:
    """An image that is pushed by requests: each layer in pieces, or whole."""

    layers: tuple[bytes, ...]

    @classmethod
    def made(cls, seed: int, *sizes: int) -> Pushed:
        """An image of layers of these sizes that is like no other."""
        noise = random.Random(seed)
        return cls(tuple(layer(member("f", noise.randbytes(size))) for size in sizes))

    @property
    def contents(self) -> list[tuple[str, bytes]]:
        """Configuration and layers, with their digests."""
        ids = [digest_of(each) for each in self.layers]
        config = {"architecture": "amd64", "os": "linux",
                  "rootfs": {"type": "layers", "diff_ids": ids}}  # fmt: skip
        return [(digest_of(raw), raw) for raw in (json.dumps(config).encode(), *self.layers)]

    @property
    def manifest(self) -> bytes:
        kinds = [OCI_CONFIG, *[OCI_LAYER for _ in self.layers]]
        config, *layers = [
            {"mediaType": kind, "digest": digest, "size": len(raw)}
            for kind, (digest, raw) in zip(kinds, self.contents, strict=True)
        ]
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config}
        return json.dumps(document | {"layers": layers}).encode()

    def to(self, repository: str) -> Deed:
        """Push it as ``REPOSITORY:1``, as clients do: what is there is not sent."""
        top = f"/v2/{repository}"

        def do(node: Node) -> None:
            for digest, raw in self.contents:
                if node.request("HEAD", f"{top}/blobs/{digest}")[0] != 200:
                    _upload(node, top, digest, raw)
            kind = {"Content-Type": OCI_MANIFEST}
            _expect(201, node.request("PUT", f"{top}/manifests/1", self.manifest, kind))

        digest = digest_of(self.manifest)
        return Deed(f"push {repository}", do, {f"{repository}:1": digest})


def _upload(node: Node, top: str, digest: str, raw: bytes) -> None:
    """In one piece where it is small, else in chunks."""
    place = _expect(202, node.request("POST", f"{top}/blobs/uploads/"))["Location"]
    for start in range(0, len(raw) if len(raw) > 30_000 else 0, 100_000):
        piece = raw[start : start + 100_000]
        headers = {"Content-Range": f"{start}-{start + len(piece) - 1}",
                   "Content-Type": "application/octet-stream"}  # fmt: skip
        place = _expect(202, node.request("PATCH", place, piece, headers))["Location"]
    rest = raw if len(raw) <= 30_000 else b""
    mark = "&" if "?" in place else "?"
    _expect(201, node.request("PUT", f"{place}{mark}digest={digest}", rest))


def _expect(status: int, answer: tuple[int, bytes, Mapping[str, str]]) -> Mapping[str, str]:
    if answer[0] != status:
        raise refusal(answer[0], answer[1])
    return answer[2]


def digest_of(raw: bytes) -> str:
    """sha256 of bytes."""
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


@dataclass
class Ledger:
    """What names there must be: told of each deed before it begins, and when it was answered."""

    names: dict[str, str]
    #: Names that a deed under way may have changed, with all that they may mean (None: nothing).
    open: dict[str, set[str | None]] = field(default_factory=dict)

    def begin(self, deed: Deed) -> None:
        """A deed is under way."""
        for name, digest in self._changes(deed):
            self.open.setdefault(name, {self.names.get(name)}).add(digest)
        for name in deed.may_take:
            self.open.setdefault(name, {self.names.get(name)}).add(None)

    def done(self, deed: Deed) -> None:
        """It was answered."""
        for name, digest in self._changes(deed):
            self.open.pop(name, None)
            if digest is None:
                self.names.pop(name, None)
            else:
                self.names[name] = digest

    @staticmethod
    def _changes(deed: Deed) -> Iterator[tuple[str, str | None]]:
        yield from deed.makes.items()
        yield from ((name, None) for name in deed.takes)

    def faults(self, found: Mapping[str, str], where: str) -> Iterator[str]:
        """What is wrong with the names that were found."""
        for name in sorted({*self.names, *self.open, *found}):
            may = self.open.get(name, {self.names.get(name)})
            actual = found.get(name)
            if actual not in may and not (actual is not None and ANY in may):
                yield f"{where}: {name} is {actual}, not one of {sorted(map(str, may))}"
