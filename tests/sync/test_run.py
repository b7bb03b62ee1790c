"""A plan carried out between places in memory: outcomes, order, what goes along, what is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from registryd.oci.errors import ManifestUnknown, UsageError
from registryd.oci.media_types import OCI_INDEX, OCI_MANIFEST
from registryd.sync.plan import Plan, RegistryStep, RepositoryStep, Step
from registryd.sync.rationed import Ration
from registryd.sync.run import How, Outcome, carry_out
from registryd.sync.tag_choice import NameRule, TagRule
from registryd.sync.whole import Extras, Mover, backup_of, digest_tags
from tests.fakes.endpoints import image
from tests.sync.memory import BOTH, ONE, TWO, Memory, R, at, attached, bare, step


async def ran(memory: Memory, *steps: Step, **how: object) -> list[Outcome]:
    """The outcomes of these steps."""
    return await carry_out(Plan(steps), memory, How(**how))  # type: ignore[arg-type]


def states(outcomes: Sequence[Outcome]) -> list[str]:
    """Their states."""
    return [outcome.state for outcome in outcomes]


async def test_outcomes_keep_the_order_of_the_plan() -> None:
    """Tags are chosen, each image has one outcome, and what is there is not moved."""
    memory = Memory({f"{R}:1": ONE, f"{R}:2": TWO, f"{R}:x": TWO, "b.test/m/app:2": TWO})
    rule = TagRule(NameRule((r"\d",)))
    outcomes = await ran(
        memory,
        RepositoryStep(bare(R), bare("b.test/m/app"), Extras(), (rule,)),
        step(f"{R}:x", "b.test/m/app:new"),
        step(f"{R}:1", "b.test/m/app:1"),
        RegistryStep("a.test", "b.test/all", rules=(rule,), repositories=NameRule(("no",))),
    )

    assert ["copied", "unchanged", "copied", "skipped"] == states(outcomes)
    assert ["b.test/m/app:1", "b.test/m/app:2", "b.test/m/app:new", "b.test/all"] == [
        outcome.target for outcome in outcomes
    ]
    assert (ONE.root, TWO.root) == (
        memory.images["b.test/m/app:1"].root,
        memory.images["b.test/m/app:new"].root,
    )


@pytest.mark.parametrize(
    ("keep_going", "expected"),
    [
        (False, ["copied", "failed", "skipped", "skipped"]),
        (True, ["copied", "failed", "copied", "failed"]),
    ],
)
async def test_a_failure_ends_the_run_or_does_not(keep_going: bool, expected: list[str]) -> None:
    """What was not begun is skipped; every failure has its own words."""
    memory = Memory({f"{R}:1": ONE, f"{R}:2": TWO}, broken={f"{R}:bad": ManifestUnknown("bad")})
    steps = [step(f"{R}:{tag}", f"b.test/m/app:{tag}") for tag in ("1", "bad", "2", "none")]
    told: list[Outcome] = []
    outcomes = await ran(memory, *steps, jobs=1, keep_going=keep_going, told=told.append)

    assert expected == states(outcomes)
    assert "bad" == str(outcomes[1].fault)
    assert [each for each in outcomes if each.reason != "not begun"] == told


async def test_so_many_at_once() -> None:
    """No more images than ``jobs`` are under way, and no fewer."""
    memory = Memory({f"{R}:{n}": image(bytes([n])) for n in range(9)}, gate=asyncio.Event())
    steps = [step(f"{R}:{n}", f"b.test/m/app:{n}") for n in range(9)]
    async with asyncio.TaskGroup() as group:
        group.create_task(ran(memory, *steps, jobs=3))
        for _ in range(200):
            await asyncio.sleep(0)
        assert memory.gate is not None
        memory.gate.set()

    assert 3 == memory.most


async def test_what_is_attached_comes_after_and_again_when_the_image_is_there() -> None:
    """Artifacts of the image, its children and one another; ``fast`` asks for none of it."""
    signature = attached(BOTH, b"signature")
    child = attached(ONE, b"of a child")
    chain = attached(signature, b"of the signature")
    memory = Memory({f"{R}:1": BOTH}, [child, chain, signature])
    first = (await ran(memory, step(f"{R}:1", "b.test/m/app:1", Extras(referrers=True))))[0]
    late = attached(TWO, b"of something else")
    memory.attached.append(late)
    again = (await ran(memory, step(f"{R}:1", "b.test/m/app:1", Extras(referrers=True))))[0]
    memory.attached.append(attached(BOTH, b"new"))
    new = (await ran(memory, step(f"{R}:1", "b.test/m/app:1", Extras(referrers=True))))[0]
    memory.asked.clear()
    fast = Extras(referrers=True, fast=True)
    quick = (await ran(memory, step(f"{R}:1", "b.test/m/app:1", fast)))[0]

    assert ["copied", "unchanged", "copied", "unchanged"] == states([first, again, new, quick])
    whole = [each.whole for each in (first, again, new)]
    assert [(3, 3), (3, 0), (4, 1)] == [(w.attached, w.attached_new) for w in whole if w]
    assert "b.test/m/app:1" == memory.order[0]
    assert f"b.test/m/app@{late.root.digest}" not in memory.images
    assert [] == memory.asked


@pytest.mark.parametrize("extras", [Extras(referrers=True), Extras(digest_tags=True)])
async def test_what_has_no_place_is_told_before_anything_is_moved(extras: Extras) -> None:
    """A folder holds one image: nothing of it is written when more was asked for."""
    memory = Memory({f"{R}:1": BOTH})
    (outcome,) = await ran(memory, step(f"{R}:1", "dir:/x", extras))

    assert isinstance(outcome.fault, UsageError)
    assert [] == memory.order


async def test_digest_tags_and_their_own() -> None:
    """Tags of the image and its children that say more; what signs a signature comes too."""
    tag = f"sha256-{BOTH.root.digest.hex}"
    child = f"sha256-{ONE.root.digest.hex}.att"
    chain = f"sha256-{TWO.root.digest.hex}.sig"
    names = {"1": BOTH, f"{tag}.sig": TWO, tag: ONE, child: ONE, chain: ONE, "sha256-ab": ONE}
    memory = Memory({f"{R}:{name}": sample for name, sample in names.items()})
    await ran(memory, step(f"{R}:1", "b.test/m/app:1", Extras(digest_tags=True)))

    assert {"1", f"{tag}.sig", child, chain} == {
        name.removeprefix("b.test/m/app:") for name in memory.images if name.startswith("b.test")
    }


def test_the_bare_digest_tag_is_the_list_of_referrers() -> None:
    """It is not copied as it is: the list at the destination has entries of its own."""
    tag = f"sha256-{ONE.root.digest.hex}"

    assert [f"{tag}.sig", f"{tag}-x"] == digest_tags(
        [tag, f"{tag}.sig", f"{tag}-x", "latest"], [ONE.root.digest]
    )


async def test_backups() -> None:
    """What is overwritten is kept first; what is new or the same has no backup."""
    memory = Memory({f"{R}:1": ONE, f"{R}:2": TWO})
    extras = Extras(backup="old-{{.Ref.Tag}}")
    await ran(memory, step(f"{R}:1", "b.test/m/app:x", extras))
    await ran(memory, step(f"{R}:1", "b.test/m/app:x", extras))
    none = "b.test/m/app:old-x" in memory.images
    await ran(memory, step(f"{R}:2", "b.test/m/app:x", extras), rehearse=True)
    rehearsed = "b.test/m/app:old-x" in memory.images
    await ran(memory, step(f"{R}:2", "b.test/m/app:x", extras))

    assert (False, False) == (none, rehearsed)
    assert ONE.root == memory.images["b.test/m/app:old-x"].root
    assert ["b.test/m/app:old-x", "b.test/m/app:x"] == memory.order[-2:]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("old", "b.test/m/app:old"),
        ("{{ .Ref.Tag }}-old", "b.test/m/app:x-old"),
        ("c.test/{{.Ref.Repository}}:{{.Ref.Tag}}", "c.test/m/app:x"),
    ],
)
def test_where_backups_go(words: str, expected: str) -> None:
    """Another tag, or a name of its own."""
    assert expected == str(backup_of(at("b.test/m/app:x"), words))


@pytest.mark.parametrize("words", ["{{time.Now}}", "a b"])
def test_backups_that_cannot_be(words: str) -> None:
    """One line."""
    with pytest.raises(UsageError):
        backup_of(at("b.test/m/app:x"), words)


async def test_a_ration_is_kept() -> None:
    """While too few requests are left nothing is read; what is there already is not waited for."""
    memory = Memory({f"{R}:1": ONE, "b.test/m/app:2": ONE}, allowed={"a.test": 4})
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        """Time passes, and the allowance grows."""
        assert "b.test/m/app:1" not in memory.images
        waits.append(seconds)
        memory.allowed["a.test"] += 3

    said: list[Any] = []
    mover = Mover(memory, report=said.append, sleep=sleep)
    extras = Extras(ration=Ration(10, 30.0))
    await mover.move(at(f"{R}:1"), at("b.test/m/app:2"), extras)
    calm = list(waits)
    await mover.move(at(f"{R}:1"), at("b.test/m/app:1"), extras)
    memory.allowed.clear()
    await mover.move(at(f"{R}:1"), at("b.test/m/app:3"), extras)

    assert ([], [30.0, 30.0]) == (calm, waits)
    assert 1 + len(waits) == memory.heads  # after each wait the registry is asked anew
    assert "4 requests are left, 10 are to be kept" in said[0]["message"]


async def test_types_that_are_not_wanted() -> None:
    """They are skipped, and say of which type they are."""
    memory = Memory({f"{R}:1": ONE, f"{R}:2": BOTH})
    extras = Extras(media_types=frozenset({OCI_INDEX}))
    steps = [step(f"{R}:{tag}", f"b.test/m/app:{tag}", extras) for tag in "12"]
    outcomes = await ran(memory, *steps)

    assert ["skipped", "copied"] == states(outcomes)
    assert OCI_MANIFEST in outcomes[0].reason


async def test_a_look_and_a_rehearsal_write_nothing() -> None:
    """What differs, what is missing and what is the same; what would be sent."""
    memory = Memory({f"{R}:1": ONE, f"{R}:2": TWO, "b.test/m/app:1": TWO, "b.test/m/app:2": TWO})
    steps = [step(f"{R}:{tag}", f"b.test/m/app:{tag}") for tag in "12"]
    new = step(f"{R}:1", "b.test/m/app:new")
    before = dict(memory.images)
    looked = await ran(memory, *steps, new, look=True)
    rehearsed = await ran(memory, *steps, new, rehearse=True, jobs=1)

    assert ["differs", "unchanged", "differs"] == states(looked)
    assert ["copied", "unchanged", "copied"] == states(rehearsed)
    assert [3, 0] == [each.whole.sent_blobs for each in rehearsed[::2] if each.whole]
    assert before == memory.images


async def test_no_clobber_skips() -> None:
    """A name that means something else stays, with the reason; the others come."""
    memory = Memory({f"{R}:1": ONE, f"{R}:2": TWO, "b.test/m/app:1": TWO})
    steps = [step(f"{R}:{tag}", f"b.test/m/app:{tag}") for tag in "12"]
    outcomes = await ran(memory, *steps, clobber=False)

    assert ["skipped", "copied"] == states(outcomes)
    assert str(TWO.root.digest) in outcomes[0].reason
    assert TWO.root == memory.images["b.test/m/app:1"].root


async def test_the_keys_of_a_result() -> None:
    """They are an API."""
    memory = Memory({f"{R}:1": ONE})
    done, failed = await ran(
        memory, step(f"{R}:1", "b.test/m/a:1"), step(f"{R}:2", "b.test/m/a:2"), keep_going=True
    )
    sizes = sum(map(len, ONE.blobs.values()))

    assert {
        "source": f"{R}:1",
        "target": "b.test/m/a:1",
        "state": "copied",
        "digest": str(ONE.root.digest),
        "index": None,
        "sent": sizes,
        "sent_blobs": 3,
        "held": 0,
        "held_blobs": 0,
        "attached": 0,
    } == done.as_json()
    assert {
        "source": f"{R}:2",
        "target": "b.test/m/a:2",
        "state": "failed",
        "error": f"cannot find {R}:2",
        "code": "MANIFEST_UNKNOWN",
    } == failed.as_json()
