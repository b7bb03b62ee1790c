"""Conversions by other nodes: who is asked, and what is not believed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest

from cache.content import Descriptor, Digest
from registryd.cluster.errors import PeerGone
from registryd.cluster.exchange import Exchange
from registryd.cluster.peer_lines import PeerLines
from registryd.cluster_ports import ClusterNode
from registryd.conversion.elsewhere import Elsewhere, Found
from registryd.conversion.recipe import ARTIFACT_TYPE, RECIPE, Recipe
from registryd.oci.artifact import ArtifactFile, artifact
from registryd.oci.manifest import Document, Manifest
from registryd.oci.reference import Reference
from registryd.secrets import Secret
from tests.conversion.test_conversions import LOW, sample
from tests.fakes.peer_client import KnownHolders, ScriptedPeers

NAME = Reference.parse("up.test/lib/app")
NODES = ["a:1", "b:1", "c:1", "d:1"]
RECIPES = Recipe(), Recipe(compressor="gzip")
IMAGE = cast("Manifest", sample(LOW).root)
BLOB = Descriptor(Recipe().media_type, Digest.of(b"made"), 4)


def made(
    *,
    subject: Descriptor = IMAGE.descriptor,
    recipe: object = RECIPES[0],
    kind: str = ARTIFACT_TYPE,
    blobs: tuple[Descriptor, ...] = (BLOB,),
) -> Document:
    """The manifest of a conversion."""
    files = [ArtifactFile(blob, "image") for blob in blobs]
    return artifact(kind, files, subject=subject, annotations={RECIPE: str(recipe)})


def last(document: Document) -> bytes:
    """The line with which a node ends well."""
    return json.dumps({"manifest": document.raw.decode()}).encode()


class Answers:
    """The lines of other nodes, by the order in which they are asked."""

    def __init__(self, *answers: list[bytes] | PeerGone) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []
        self.bodies: list[dict[str, str]] = []

    @asynccontextmanager
    async def lines(
        self, node: ClusterNode, path: str, body: bytes, token: Secret | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """As ``PeerLines.lines``."""
        self.asked.append(node.name)
        self.bodies.append(json.loads(body))
        answer = self._answers.pop(0)
        if isinstance(answer, PeerGone):
            raise answer

        async def each() -> AsyncIterator[bytes]:
            for line in answer:
                yield line

        yield each()


async def ask(
    answers: Answers, me: str = "e:1", *, able: bool = True
) -> tuple[Found | None, list[tuple[int, int]]]:
    """What comes of asking; and how far it was told to be."""
    told: list[tuple[int, int]] = []
    names = dict.fromkeys([*NODES, me])
    company = Exchange(KnownHolders(me, list(names)), ScriptedPeers(b"")).company
    elsewhere = Elsewhere(company, cast("PeerLines", answers))
    tell: Callable[[int, int], None] = lambda *at: told.append(at)  # noqa: E731
    found = await elsewhere.made(None, NAME, IMAGE, Recipe(), tell, able=able)
    return found, told


@pytest.mark.parametrize(
    "bad",
    [
        PeerGone("peer: it is gone"),
        [],
        [b"\n"],
        [b"[]\n"],
        [b'{"offset": "x", "total": 1}'],
        [b'{"failed": "its disk is full"}'],
        [b'{"manifest": "{}"}'],
        [last(IMAGE)],
        [last(made(recipe=RECIPES[1]))],
        [last(made(kind="text/x.note"))],
        [last(made(blobs=(BLOB, Descriptor(BLOB.media_type, Digest.of(b"x"), 1))))],
        [last(made(blobs=(Descriptor("text/x", Digest.of(b"x"), 1),)))],
        [last(made(subject=cast("Manifest", sample(LOW, LOW).root).descriptor))],
    ],
)
async def test_who_does_not_give_it_is_passed_over(bad: list[bytes] | PeerGone) -> None:
    """Gone, broken, failing or lying: the next in rank is asked, and then nobody."""
    once = Answers(bad, [b'{"offset": 1, "total": 2}', last(made())])
    found, told = await ask(once)
    twice = Answers(bad, bad)

    assert found is not None
    assert (made().digest, once.asked[1]) == (found.document.digest, found.node.name)
    assert (1, 2) in told
    assert (None, 2) == ((await ask(twice))[0], len(set(twice.asked)))
    assert {"repository", "manifest", "recipe"} == set(once.bodies[0])


async def test_all_ask_the_same_one() -> None:
    """Whoever asks, the same node makes it; that one asks nobody."""
    asked = {}
    for me in NODES:
        answers = Answers([last(made())])
        found, _ = await ask(answers, me)
        asked[me] = answers.asked
        assert (found is None) == (not answers.asked)

    assert {"a:1": ["c:1"], "b:1": ["c:1"], "c:1": [], "d:1": ["c:1"]} == asked


async def test_a_node_without_the_program_asks_on() -> None:
    """Where it would be its own turn, the next two are asked; itself never."""
    answers = Answers([], [])
    found, _ = await ask(answers, "c:1", able=False)

    assert (None, 2) == (found, len(set(answers.asked) - {"c:1"}))
