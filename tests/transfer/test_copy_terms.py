"""Copies with terms: kept and stripped indexes, names that stay, rehearsals, what is there."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typing_extensions import override

from cache.content import Descriptor, Digest
from registryd.images.folder import FolderSink
from registryd.images.layout import LayoutSink
from registryd.oci.errors import (
    Denied,
    ManifestBlobUnknown,
    ManifestUnknown,
    NameUnknown,
    UsageError,
)
from registryd.oci.manifest import Document, Index
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.ports import Sink
from registryd.transfer.copy import Terms, copy_image
from registryd.transfer.endpoints import RegistrySink, RegistrySource
from registryd.transfer.standing import WouldOverwrite
from registryd.transfer.turns import SharedTurns
from tests.fakes.endpoints import MemorySink, MemorySource, Sample, image, index
from tests.transfer.test_copy_endpoints import FakeRemote

AMD, ARM, RISC = map(Platform.parse, ("linux/amd64", "linux/arm64", "linux/riscv64"))
NAME = Reference.parse("registry.example/team/app:1")


def three() -> Sample:
    """An index of three platforms."""
    return index(
        amd64=image(b"shared", b"amd"),
        arm64=image(b"shared", b"arm", architecture="arm64"),
        riscv64=image(b"shared", b"risc", architecture="riscv64"),
    )


@dataclass
class Counting(FakeRemote):
    """A registry that counts what it is asked, and knows what was pushed to it."""

    asked: Counter[str] = field(default_factory=Counter)
    missing: type[Exception] = ManifestUnknown
    #: Whether an index is taken whose images are not all there.
    sparse: bool = True

    @override
    async def resolve(self, reference: Reference) -> Descriptor:
        """By name, or by digest of what was pushed."""
        self.asked["HEAD manifest"] += 1
        for name, document in self.pushed.items():
            if name == str(reference) or document.digest == reference.digest:
                return document.descriptor
        raise self.missing(f"cannot find {reference}")

    @override
    async def fetch_manifest(self, reference: Reference) -> Document:
        self.asked["GET manifest"] += 1
        return await super().fetch_manifest(reference)

    @override
    async def has_blob(self, repository: Reference, digest: Digest) -> bool:
        self.asked["HEAD blob"] += 1
        return await super().has_blob(repository, digest)

    @override
    async def push_manifest(self, reference: Reference, document: Document) -> None:
        self.asked["PUT manifest"] += 1
        here = {each.digest for each in self.pushed.values()}
        if not self.sparse and isinstance(document, Index):
            missing = {child.digest for child in document.children} - here
            if missing:
                raise ManifestBlobUnknown(f"{reference}: it lacks {len(missing)}", status=400)
        await super().push_manifest(reference, document)


class Origin(Counting):
    """A registry that has the sample under its name."""

    @override
    async def resolve(self, reference: Reference) -> Descriptor:
        self.asked["HEAD manifest"] += 1
        return self.sample.root.descriptor


def registry(sample: Sample | None = None) -> Counting:
    """A destination."""
    return Counting(sample or three())


class TestIndex:
    """What becomes of an index."""

    async def test_stripped(self) -> None:
        """A new index of the wanted images alone, whose digest and fate are told."""
        sample, sink = three(), MemorySink()
        done = await copy_image(
            MemorySource(sample), sink, platforms=[AMD, ARM], terms=Terms("strip")
        )
        whole, made = json.loads(sample.root.raw), sink.root

        assert made is not None
        assert {**whole, "manifests": whole["manifests"][:2]} == json.loads(made.raw)
        assert ("stripped", made.descriptor) == (done.index, done.descriptor)
        assert made.digest != sample.root.digest
        assert {made.digest, *(c.digest for c in made.children)} == set(sink.documents)

    @pytest.mark.parametrize(
        ("form", "platforms", "fate", "manifests"),
        [
            ("keep", [ARM], "kept", 2),
            ("strip", [ARM], "stripped", 2),
            ("usual", [ARM], None, 1),
            ("usual", [AMD, ARM], "kept", 3),
            ("keep", [AMD, ARM, RISC], "whole", 4),
            ("strip", [AMD, ARM, RISC], "whole", 4),
            ("alone", [], "kept", 1),
            ("usual", [], "whole", 4),
        ],
    )
    async def test_fates(
        self, form: str, platforms: list[Platform], fate: str | None, manifests: int
    ) -> None:
        """What is asked for, and what comes of it."""
        sink = MemorySink()
        terms = Terms(form)  # type: ignore[arg-type]
        done = await copy_image(MemorySource(three()), sink, platforms=platforms, terms=terms)

        assert (
            (fate, manifests) == (done.index, done.manifests) == (done.index, len(sink.documents))
        )
        assert (fate in ("kept", "whole")) == (three().root == sink.root)

    async def test_a_registry_that_wants_all_images(self) -> None:
        """A sparse index that is refused: the line says what to write instead."""
        remote = Counting(three(), sparse=False)
        with pytest.raises(ManifestBlobUnknown, match="use --strip"):
            await copy_image(
                MemorySource(three()), RegistrySink(remote, NAME), platforms=[AMD, ARM]
            )


class TestStanding:
    """What is there already."""

    async def test_the_same_root_costs_two_questions(self) -> None:
        """One HEAD at each end, and nothing is read anywhere."""
        source, target = Origin(three()), registry()
        first = await copy_image(RegistrySource(source, NAME), RegistrySink(target, NAME))
        source.asked.clear(), target.asked.clear()
        done = await copy_image(RegistrySource(source, NAME), RegistrySink(target, NAME))

        assert ({"HEAD manifest": 1}, {"HEAD manifest": 1}) == (source.asked, target.asked)
        assert (True, first.descriptor, "whole") == (done.unchanged, done.descriptor, done.index)

    @pytest.mark.parametrize("missing", [ManifestUnknown, NameUnknown, Denied])
    async def test_a_destination_is_never_read(self, missing: type[Exception]) -> None:
        """Whatever a registry says of what it does not have, it is asked by HEAD only."""
        target = Counting(three(), missing=missing)
        await copy_image(MemorySource(three()), RegistrySink(target, NAME))

        assert {"HEAD manifest", "HEAD blob", "PUT manifest"} == set(target.asked)

    async def test_a_kept_index_is_there_only_with_its_images(self) -> None:
        """The root alone proves nothing where others of its images were copied before."""
        sample, target = three(), registry()
        source, sink = MemorySource(sample), RegistrySink(target, NAME)
        await copy_image(source, sink, platforms=[AMD, ARM], terms=Terms("keep"))
        again = await copy_image(source, sink, platforms=[AMD, ARM], terms=Terms("keep"))
        other = await copy_image(source, sink, platforms=[ARM, RISC], terms=Terms("keep"))

        assert (True, False) == (again.unchanged, other.unchanged)
        assert sample.root.children[2].digest in {each.digest for each in target.pushed.values()}

    async def test_recheck_looks_at_everything(self) -> None:
        """A blob that was lost behind a manifest comes back."""
        sample, target = three(), registry()
        await copy_image(MemorySource(sample), RegistrySink(target, NAME))
        target.blobs.clear()
        await copy_image(
            MemorySource(sample), RegistrySink(target, NAME), terms=Terms(recheck=True)
        )

        assert sample.blobs == target.blobs

    async def test_a_cache_may_hold_a_part(self) -> None:
        """Behind a daemon's socket a manifest says nothing about what it points to."""
        target = registry()
        sink = RegistrySink(target, NAME, whole=False)
        await copy_image(MemorySource(three()), sink, platforms=[AMD, ARM])
        await copy_image(MemorySource(three()), sink)

        assert three().blobs == target.blobs

    @pytest.mark.parametrize("kind", ["oci", "dir"])
    async def test_files_are_looked_at_whole(self, kind: str, tmp_path: Path) -> None:
        """A file destination has it when all of the image is there; else what is missing comes."""
        place = tmp_path / "out"
        sink: Sink = LayoutSink(place, "v1") if kind == "oci" else FolderSink(place)
        await copy_image(MemorySource(three()), sink, platforms=[AMD, ARM])
        grown = await copy_image(MemorySource(three()), sink)
        again = await copy_image(MemorySource(three()), sink)
        risc = Digest.of(b"risc")
        (place / ("blobs/sha256" if kind == "oci" else "") / risc.hex).unlink()
        mended = await copy_image(MemorySource(three()), sink)

        assert (False, True, False) == (grown.unchanged, again.unchanged, mended.unchanged)
        assert 1 == mended.sent_blobs

    async def test_a_digest_in_the_destinations_name_counts(self) -> None:
        """NAME:TAG@DIGEST there: the tag's meaning does not do for another digest."""
        target = registry()
        await copy_image(MemorySource(three()), RegistrySink(target, NAME))
        sink = RegistrySink(target, NAME.with_digest(Digest.of(b"other")))

        assert not await sink.has_whole(three().root.descriptor)


class TestClobber:
    """A name that is to stay as it is."""

    async def test_another_meaning_stays(self) -> None:
        """Nothing is moved, and the line says what is there."""
        target, other = registry(), image(b"new")
        await copy_image(MemorySource(three()), RegistrySink(target, NAME))
        source = MemorySource(other)
        with pytest.raises(WouldOverwrite, match=str(three().root.digest)):
            await copy_image(source, RegistrySink(target, NAME), terms=Terms(clobber=False))

        assert [] == source.opened
        assert three().root == target.pushed[str(NAME)]

    async def test_the_same_and_a_new_name_are_fine(self) -> None:
        """The same digest is a success; so is a name that nobody has."""
        target, terms = registry(), Terms(clobber=False)
        first = await copy_image(MemorySource(three()), RegistrySink(target, NAME), terms=terms)
        again = await copy_image(MemorySource(three()), RegistrySink(target, NAME), terms=terms)

        assert (False, True) == (first.unchanged, again.unchanged)

    async def test_who_cannot_be_asked_is_not_overwritten(self) -> None:
        """A refusal is no proof that nothing is there."""
        target, terms = Counting(three(), missing=Denied), Terms(clobber=False)
        with pytest.raises(Denied):
            await copy_image(MemorySource(three()), RegistrySink(target, NAME), terms=terms)
        with pytest.raises(UsageError, match="--no-clobber"):
            await copy_image(MemorySource(three()), MemorySink(), terms=terms)

        assert {} == target.pushed


async def test_a_rehearsal_writes_nothing() -> None:
    """What would be sent is counted by HEAD; nothing is opened, nothing is put."""
    target, source = registry(), MemorySource(three())
    held = Digest.of(b"shared")
    target.blobs[held] = b"shared"
    done = await copy_image(source, RegistrySink(target, NAME), terms=Terms(rehearse=True))

    assert (1, 6, 4, 6) == (done.held_blobs, done.held, done.manifests, done.sent_blobs)
    assert ({held: b"shared"}, {}, []) == (target.blobs, target.pushed, source.opened)
    assert 0 == target.asked["PUT manifest"]


async def test_two_copies_move_what_they_share_once() -> None:
    """With shared turns what one has moved the other does not even ask for; each has its name."""
    target, turns = registry(), SharedTurns()
    sources = [MemorySource(three()), MemorySource(index(amd64=image(b"shared", b"amd")))]
    for at, source in enumerate(sources):
        await copy_image(source, RegistrySink(target, NAME.with_tag(str(at))), turns=turns)

    assert [7, 0] == [len(source.opened) for source in sources]
    assert 7 == target.asked["HEAD blob"]
    assert 5 == target.asked["PUT manifest"]
    assert {str(NAME.with_tag("0")), str(NAME.with_tag("1"))} < set(target.pushed)


async def test_nobody_puts_a_manifest_while_an_index_of_it_is_put() -> None:
    """A manifest that gets a name of its own waits until the index that lists it is there."""
    turns, began, target = SharedTurns(), asyncio.Event(), registry()
    order: list[str] = []

    class Slow(RegistrySink):
        @override
        async def put_manifest(self, document: Document, *, root: bool) -> None:
            """Take many turns of the loop for an index."""
            order.append(f"begin {root} {document.media_type}")
            if isinstance(document, Index):
                began.set()
                for _ in range(200):
                    await asyncio.sleep(0)
            await super().put_manifest(document, root=root)
            order.append(f"end {root} {document.media_type}")

    async def other() -> None:
        await began.wait()
        sink = Slow(target, NAME.with_tag("other"))
        await copy_image(MemorySource(three()), sink, platforms=[AMD], turns=turns)

    async with asyncio.TaskGroup() as group:
        group.create_task(copy_image(MemorySource(three()), Slow(target, NAME), turns=turns))
        group.create_task(other())

    named = [line.rpartition(".")[0].split()[:2] for line in order if " True " in line]
    assert [["begin", "True"], ["end", "True"]] * 2 == named
