"""The worker of a node: what it brings, what it says, and when it ends."""

from __future__ import annotations

from dataclasses import replace

from cache.content import Digest
from registryd.config import RegistryConfig
from registryd.oci.reference import Reference
from tests.fakes.waiting import until
from tests.jobs.nodes import bench
from tests.jobs.samples import DIGEST, NOW, image, job

ALPINE = Reference.parse("alpine:3")
OTHER = Digest.of(b"other")


async def test_a_job_is_brought() -> None:
    """The image is pulled by its tag, which means the job's digest from now on; all is said."""
    async with bench() as node:
        await node.board.post(job())
        word = await node.until_said("done")

        assert ["docker.io/library/alpine:3"] == node.pulls.ended
        assert (1, 10, 10, 1, 1, "") == (
            word.revision, word.here, word.total, word.blobs, word.images, word.error
        )  # fmt: skip
        assert DIGEST == node.policy.pin(ALPINE, NOW)


async def test_a_job_for_others() -> None:
    """A job that is not for this node is not worked on, nor said a word of; it pins nothing."""
    async with bench() as node:
        await node.board.post(job(targets=("n2",)))
        await node.board.post(job(id="b" * 12))
        await node.until_said("done", "b" * 12)

        assert (1, None) == (len(node.pulls.begun), node.said())
        assert "0123456789ab" in node.worker.jobs()


async def test_a_configured_pin_goes_first() -> None:
    """Where the configuration has the tag mean something else, the job's digest is pulled by
    itself."""
    async with bench() as node:
        pins = {"library/alpine:3": str(OTHER)}
        node.policy.take_over({"docker.io": RegistryConfig(pins=pins)})
        await node.board.post(job())
        await node.until_said("done")

        assert [f"docker.io/library/alpine@{DIGEST}"] == node.pulls.ended
        assert OTHER == node.policy.pin(ALPINE, NOW)


async def test_a_failure_is_said() -> None:
    """What fails is said by its line, with how many of the images; the others are brought."""
    async with bench() as node:
        node.pulls.fail("broken")
        await node.board.post(job(images=(image(), image("ghcr.io/a/broken:1"))))
        word = await node.until_said("failed")

        assert "1 of 2 images: no space left on /cache" == word.error
        assert (1, ["docker.io/library/alpine:3"]) == (word.images, node.pulls.ended)


async def test_a_bug_is_said() -> None:
    """What nobody has thought of ends the job, not the worker; its text stays in the log."""
    async with bench() as node:
        node.pulls.fail("alpine", ValueError("s3cret"))
        await node.board.post(job())
        word = await node.until_said("failed")
        await node.board.post(job(id="b" * 12, images=(image("ghcr.io/a/b:1"),)))
        await node.until_said("done", "b" * 12)

        assert "internal error, see the daemon's log" == word.error


async def test_cancelled_in_the_middle() -> None:
    """A cancelled job ends at once, and its tags mean what their registry says again."""
    async with bench(open_gate=False) as node:
        await node.board.post(job())
        await node.until_said("fetching")
        await node.board.post(job().cancelled())
        word = await node.until_said("cancelled")

        assert (2, [], None) == (word.revision, node.pulls.ended, node.policy.pin(ALPINE, NOW))


async def test_what_is_heard_again() -> None:
    """A revision that is heard again, or late, changes nothing: a stream is read anew at times."""
    async with bench() as node:
        await node.board.post(job())
        await node.until_said("done")
        node.worker.take(job())
        await node.board.post(job().cancelled())
        await until(lambda: node.policy.pin(ALPINE, NOW) is None)
        node.worker.take(job())
        await node.board.post(job(id="b" * 12, images=(image("ghcr.io/a/b:1"),)))
        await node.until_said("done", "b" * 12)

        assert 2 == len(node.pulls.begun)
        assert node.policy.pin(ALPINE, NOW) is None


async def test_cancelled_after_it_was_done() -> None:
    """What was done is done: that is said of the cancelled revision, and the pin is gone."""
    async with bench() as node:
        await node.board.post(job())
        await node.until_said("done")
        await node.board.post(job().cancelled())
        await until(lambda: (word := node.said()) and word.revision == 2)

        assert "done" == (await node.until_said("done")).stage
        assert node.policy.pin(ALPINE, NOW) is None


async def test_cancelled_before_it_was_heard_of() -> None:
    """Who hears of a job by its end says that it has ended, and brings nothing."""
    async with bench() as node:
        await node.board.post(job().cancelled())
        await node.until_said("cancelled")

        assert [] == node.pulls.begun


async def test_a_job_that_was_cancelled_long_ago() -> None:
    """Who starts again and hears of an old job by its end leaves what it said of it then."""
    async with bench() as node:
        node.now[0] = NOW + 601
        await node.board.post(job().cancelled())
        await node.board.post(job(id="b" * 12))
        await node.until_said("done", "b" * 12)

        assert node.said() is None


async def test_a_job_whose_time_is_over() -> None:
    """A job that is heard of after its end is not worked on."""
    async with bench() as node:
        node.now[0] = NOW + 3600
        await node.board.post(job())
        await node.board.post(job(id="b" * 12, until=NOW + 7200))
        await node.until_said("done", "b" * 12)

        assert (1, None) == (len(node.pulls.begun), node.said())


async def test_a_pin_ends_with_its_job() -> None:
    """When a job's time is over, the tag means again what its registry says."""
    async with bench() as node:
        await node.board.post(job())
        await node.until_said("done")

        assert DIGEST == node.policy.pin(ALPINE, NOW + 3599)
        assert node.policy.pin(ALPINE, NOW + 3600) is None


async def test_time_that_ends_in_the_middle() -> None:
    """A job whose time is over while it is worked on has failed, and says why."""
    async with bench(open_gate=False) as node:
        node.now[0] = NOW + 3599.99
        await node.board.post(job())
        word = await node.until_said("failed")

        assert "its time was over" in word.error


async def test_a_new_meaning() -> None:
    """A revision with other images is brought in place of the one before, also in its middle."""
    moved = replace(image(), digest=OTHER)
    async with bench(open_gate=False) as node:
        await node.board.post(job())
        await node.until_said("fetching")
        await node.board.post(job().renewed((moved,), ()))
        await until(lambda: len(node.pulls.begun) == 2)
        node.pulls.gate.set()
        word = await node.until_said("done")

        assert (2, 1) == (word.revision, len(node.pulls.ended))
        assert OTHER == node.policy.pin(ALPINE, NOW)


async def test_the_same_meaning() -> None:
    """A revision with the same images costs nothing: what was done, or is under way, is its."""
    async with bench(open_gate=False) as node:
        await node.board.post(job())
        await node.until_said("fetching")
        await node.board.post(job().renewed(job().images, ()))
        await until(lambda: (word := node.said()) and word.revision == 2)
        node.pulls.gate.set()
        await node.until_said("done")
        await node.board.post(replace(job(), revision=3))
        await until(lambda: (word := node.said()) and word.revision == 3)

        assert ("done", 1) == ((await node.until_said("done")).stage, len(node.pulls.begun))


async def test_the_same_meaning_after_a_failure() -> None:
    """A revision with the same images is another try where the one before has failed."""
    async with bench() as node:
        node.pulls.fail("alpine")
        await node.board.post(job())
        await node.until_said("failed")
        node.pulls.fails.clear()
        await node.board.post(replace(job(), revision=2))
        await node.until_said("done")

        assert 2 == len(node.pulls.begun)


async def test_jobs_wait_in_line() -> None:
    """No more jobs than allowed are worked on at the same time; the others say that they wait."""
    ids = [letter * 12 for letter in "abc"]
    async with bench(at_once=2, open_gate=False) as node:
        for at, id in enumerate(ids):
            await node.board.post(job(id=id, images=(image(f"ghcr.io/a/b:{at}"),)))
        await until(lambda: len(node.pulls.begun) == 2)
        for _ in range(20):
            await until(lambda: True)
        waiting = node.said(ids[2])
        node.pulls.gate.set()
        for id in ids:
            await node.until_said("done", id)

        assert waiting is not None
        assert ("waiting", 3) == (waiting.stage, len(node.pulls.ended))


async def test_an_image_by_its_digest() -> None:
    """An image that was asked for by its digest is pulled so, whatever tag stands beside it."""
    exact = image(f"ghcr.io/a/b:1@{DIGEST}")
    async with bench() as node:
        await node.board.post(job(images=(exact,)))
        await node.until_said("done")

        assert [f"ghcr.io/a/b@{DIGEST}"] == node.pulls.ended
