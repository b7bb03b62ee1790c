"""What a store keeps of its index in memory: it saves hops, and never gives another answer."""

import asyncio
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache.errors import NameNotFound
from cache.hops import hop
from cache.memo import Memo
from cache.store import BlobStore
from tests.cache.gated_store import GatedStore
from tests.cache.gates import turns
from tests.cache.samples import layer, parent
from tests.contract.blob_store import CONTENT, DESCRIPTOR, DIGEST, NAME, REPOSITORY, arrive, image


@pytest.fixture
async def gated(root):
    """A store whose threads can be stopped."""
    async with GatedStore.open(root) as store:
        yield store


# the memo alone


async def test_a_question_is_asked_once():
    """An answer is kept, whatever it is; another question has its own."""
    asked = []

    def ask(*question):
        asked.append(question)
        return None if question == (1, 1) else sum(question)

    with ThreadPoolExecutor(1) as thread:
        memo = Memo(ask, partial(hop, thread))
        answers = [await memo.answer(1, right) for right in (1, 2, 1, 2)]

    assert [None, 3, None, 3] == answers
    assert [(1, 1), (1, 2)] == asked


async def test_the_least_used_leaves_first():
    """A memo does not grow: what was asked for longest ago is asked again."""
    asked = []
    with ThreadPoolExecutor(1) as thread:
        memo = Memo(asked.append, partial(hop, thread), kept=2)
        for question in (1, 2, 1, 3, 1, 2):
            await memo.answer(question)

    assert [1, 2, 3, 2] == asked
    assert 2 == len(memo)


async def test_a_failed_question_is_asked_again():
    """An error is no answer."""
    answers = iter([OSError("busy"), "here"])

    def ask(_question):
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    with ThreadPoolExecutor(1) as thread:
        memo = Memo(ask, partial(hop, thread))
        with pytest.raises(OSError, match="busy"):
            await memo.answer("what")

        assert "here" == await memo.answer("what")


# in the store


async def test_a_hot_question_costs_no_hop(gated):
    """What was asked before is answered without the index's thread."""
    root, _ = await image(gated, "a")
    await gated.add_member(REPOSITORY, root.digest)
    await gated.grants.add(REPOSITORY, "me", 60)

    async def ask():
        return [
            (await gated.resolve(NAME)).descriptor,
            await gated.is_member(REPOSITORY, root.digest),
            await gated.media_type(root.digest),
            await gated.grants.covers(REPOSITORY, ["*", "me"]),
        ]

    cold = await ask()
    hops = gated.rows.hops

    assert [root, True, root.media_type, True] == cold
    assert cold == await ask()
    assert hops == gated.rows.hops


async def test_an_answer_from_before_a_change_is_not_kept(gated):
    """A question is under way, the change overtakes its answer: the next one is asked anew."""
    root, _ = await image(gated, "a", tag=False)
    questions = [
        (lambda: gated.resolve(NAME), lambda: gated.tag(NAME, REPOSITORY, root)),
        (lambda: gated.is_member("b", DIGEST), lambda: gated.add_member("b", DIGEST)),
        (lambda: gated.resolve(NAME), lambda: gated.untag(NAME)),
        (lambda: gated.media_type(root.digest), lambda: gated.remove([root.digest])),
        (lambda: gated.grants.covers("b", ["me"]), lambda: gated.grants.add("b", "me", 60)),
        (lambda: gated.grants.covers("b", ["*", "me"]), lambda: gated.grants.revoke("b")),
    ]
    for ask, change in questions:
        gate = gated.rows.hold(after=True)
        asking = asyncio.ensure_future(ask())
        await gate.reached.wait()
        changing = asyncio.ensure_future(change())
        await turns()  # the change is begun, behind the question
        gate.open()
        before, _ = await asyncio.gather(asking, changing)

        assert before != await ask()


async def test_a_cancelled_change_is_seen(gated):
    """Whoever begins a change and leaves has changed it: the old answer is not given again."""
    assert not await gated.is_member(REPOSITORY, DIGEST)

    gate = gated.rows.hold()
    changing = asyncio.ensure_future(gated.add_member(REPOSITORY, DIGEST))
    await gate.reached.wait()
    changing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await changing
    asking = asyncio.ensure_future(gated.is_member(REPOSITORY, DIGEST))
    gate.open()

    assert await asking
    assert await gated.is_member(REPOSITORY, DIGEST)


async def test_the_last_layer_completes_a_remembered_name(store):
    """A name that was asked for while it was incomplete is seen complete when all is here."""
    content, root, links = parent(DESCRIPTOR)
    await store.put(content, root, links=links)
    await store.tag(NAME, REPOSITORY, root)

    assert not (await store.resolve(NAME)).complete

    await arrive(store, CONTENT)

    assert (await store.resolve(NAME)).complete


# property: with and without a memory

REPOSITORIES = ("h/a", "h/b", "g/a")
LAYERS = tuple(layer(text) for text in ("x", "y"))
MANIFESTS = tuple(parent(*(of for _, of in LAYERS[:count])) for count in (1, 2))
ROOTS = tuple(root for _, root, _ in MANIFESTS)
DIGESTS = tuple(each.digest for each in (*ROOTS, *(of for _, of in LAYERS)))
#: The clock of the property ticks at each look; that grants end by it is tested elsewhere.
FOR_GOOD = 1e9
NAMES = tuple(f"{repository}:1" for repository in REPOSITORIES)

repositories, digests = st.sampled_from(REPOSITORIES), st.sampled_from(DIGESTS)
changes = st.one_of(
    st.tuples(st.just("layer"), st.sampled_from(LAYERS), repositories),
    st.tuples(st.just("manifest"), st.sampled_from(MANIFESTS), repositories),
    st.tuples(st.just("tag"), repositories, st.sampled_from(ROOTS)),
    st.tuples(st.just("untag"), repositories),
    st.tuples(st.just("check"), repositories),
    st.tuples(st.just("add"), repositories, digests),
    st.tuples(st.just("drop"), repositories, digests),
    st.tuples(st.just("remove"), st.sets(digests)),
    st.tuples(st.just("grant"), repositories, st.sampled_from("*me")),
    st.tuples(st.just("revoke"), st.none() | repositories, st.none() | st.just("*")),
)


async def change(store, verb, *words):
    """One change, as somebody makes it; what cannot be done now is left."""
    match verb, words:
        case "layer", ((content, descriptor), repository):
            await store.put(content, descriptor, repository=repository)
        case "manifest", ((content, descriptor, links), repository):
            await store.put(content, descriptor, repository=repository, links=links)
        case "tag", (repository, descriptor) if store.find(descriptor.digest):
            await store.tag(f"{repository}:1", repository, descriptor)
        case "untag", (repository,):
            with suppress(NameNotFound):
                await store.untag(f"{repository}:1")
        case "check", (repository,):
            entry = await store.resolve(f"{repository}:1")
            if entry is not None:
                await store.checked(entry)
        case "add", (repository, digest):
            await store.add_member(repository, digest)
        case "drop", (repository, digest):
            await store.drop_member(repository, digest)
        case "remove", (some,):
            await store.remove(some)
        case "grant", (repository, principal):
            await store.grants.add(repository, principal, FOR_GOOD)
        case "revoke", (repository, principal):
            await store.grants.revoke(repository, principal)


async def remembered(store):
    """What the store says."""
    return [
        *[await store.resolve(name) for name in NAMES],
        *[await store.is_member(r, d) for r in (*REPOSITORIES, "h/") for d in DIGESTS],
        *[await store.media_type(digest) for digest in DIGESTS],
        *[await store.grants.covers(repository, ["*", "me"]) for repository in REPOSITORIES],
    ]


async def asked(store):
    """The same by the index itself."""
    index = store._index

    def ask():
        return [
            *[index.name(name) for name in NAMES],
            *[index.is_member(r, d) for r in (*REPOSITORIES, "h/") for d in DIGESTS],
            *[index.media_type(digest) for digest in DIGESTS],
            *[index.grants.until(r, ["*", "me"]) > store._clock() for r in REPOSITORIES],
        ]

    return await store._db(ask)


@settings(max_examples=60)
@given(st.lists(st.lists(changes, min_size=1, max_size=4), max_size=6))
async def test_memory_changes_no_answer(rounds):
    """Whatever is changed, at the same time or in turn, while others ask: the index agrees."""
    ticks = iter(range(10_000))
    with tempfile.TemporaryDirectory() as name:
        async with BlobStore.open(Path(name) / "c", clock=lambda: float(next(ticks))) as store:
            for together in rounds:
                await remembered(store)
                acts = [change(store, *each) for each in together]
                await asyncio.gather(*acts, remembered(store))

                assert await asked(store) == await remembered(store)
