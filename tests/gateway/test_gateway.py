"""The gateway's rules over a maker that does as it is told: queue, lists, logins, expiry."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cache.errors import StoreUnusable
from registryd.cluster.beside import beside
from registryd.gateway.book import MOST_OF_ONE, Book, QueueFull
from registryd.gateway.errors import ImageUnknown
from registryd.gateway.gateway import Gateway
from registryd.gateway.names import ImageName, parse
from registryd.gateway.record import NO_LIST, Account, Acl, Request
from registryd.gateway.states import UNDER_WAY
from registryd.gateway_config import GatewayConfig
from registryd.oci.errors import Denied
from registryd.secrets import Login, Secret
from tests.fakes.making import SQUASHFS, FakeFound, FakeMaker
from tests.fakes.waiting import until

ANN, BOB, EVE = (Account(uid, uid, principal=f"uid:{uid}") for uid in (1001, 1002, 1003))
ROOT = Account(0, 0, admin=True)
NAME = parse("a/b:1", "docker.io")
ONE, TWO = "1" * 64, "2" * 64


class Clock:
    """A time that stands until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class House:
    """A gateway that can be closed and opened again, as a daemon that is restarted."""

    def __init__(self, root: Path, **config: object) -> None:
        self.root = root
        self.config = replace(GatewayConfig(), **config)  # type: ignore[arg-type]
        self.clock = Clock()
        self.maker = FakeMaker({"docker.io/a/b:1": FakeFound(ONE)})
        self.maker.gate.set()

    @asynccontextmanager
    async def open(self, *, working: bool = True) -> AsyncIterator[Gateway]:
        async with Gateway.open(self.root, self.config, self.clock) as gateway:
            if not working:
                yield gateway
                return
            async with beside(lambda: gateway.run(self.maker)):
                yield gateway


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def ended(gateway: Gateway, account: Account, name: ImageName = NAME) -> str:
    """Wait until a caller's import has ended; the state and message."""
    async with asyncio.timeout(10):
        while True:
            moved = gateway.moved()
            standing = await gateway.standing(account, name)
            request = standing.request
            if request is None or request.state not in UNDER_WAY:
                return standing.state if request is None else f"{request.state}: {request.message}"
            await moved.wait()


async def pulled(gateway: Gateway, account: Account, **more: object) -> str:
    """Pull, and wait for the end."""
    await gateway.pull(account, NAME, **more)  # type: ignore[arg-type]
    return await ended(gateway, account)


def in_book(house: House, act: Callable[[Book], object]) -> None:
    """Do this in the database of a gateway that is closed."""
    book = Book(house.root / "gateway.db")
    act(book)
    book.close()


async def finds(gateway: Gateway, account: Account | None, name: ImageName = NAME) -> str:
    """The id that a caller finds, "" for none."""
    try:
        return (await gateway.lookup(account, name)).id
    except ImageUnknown:
        return ""


async def test_a_private_image(house: House) -> None:
    """No list means the puller alone; a list adds to it, groups with the puller's own; another
    puller's list takes nothing away; the puller's stays when they give none."""
    by_id = ImageName("id", ONE)
    async with house.open() as gateway:
        assert "READY" == await pulled(gateway, ANN)
        assert [ONE, "", "", ONE] == [await finds(gateway, who) for who in (ANN, BOB, None, ROOT)]
        assert ["", ""] == [await finds(gateway, who, by_id) for who in (BOB, None)]
        assert ([], []) == (await gateway.images(BOB), await gateway.queue(BOB))
        assert "READY" == await pulled(gateway, ANN, lists=Acl(frozenset({1002})))
        assert [ONE, ONE, ""] == [await finds(gateway, who) for who in (ANN, BOB, EVE)]
        assert "READY" == await pulled(gateway, BOB, lists=Acl(gids=frozenset({77})))
        (image,) = await gateway.images(ANN)
        assert Acl(frozenset({1001, 1002}), frozenset({77, 1002})) == image.acl
        assert ONE == await finds(gateway, Account(9, 9, frozenset({77})))
        house.clock.now += 1000
        assert "READY" == await pulled(gateway, ANN)
        assert [ONE, ONE, ""] == [await finds(gateway, who) for who in (ANN, BOB, EVE)]
        (image,) = await gateway.images(ANN)
        assert {
            1001: Acl(frozenset({1001, 1002})),
            1002: Acl(frozenset({1002}), frozenset({77, 1002})),
        } == image.lists
        assert 1 == house.maker.images["docker.io/a/b:1"].conversions


async def test_what_is_public_and_what_becomes_private(house: House) -> None:
    """A public image is for all; under its own name it can become private, not by another one that
    has the same bytes."""
    other = parse("x/copy:1", "docker.io")
    house.maker.images["docker.io/x/copy:1"] = FakeFound(ONE)
    house.maker.images["docker.io/a/b:1"].public = True
    async with house.open() as gateway:
        await pulled(gateway, ANN, lists=Acl(frozenset({1002})))
        await gateway.pull(BOB, other)
        assert "READY" == await ended(gateway, BOB, other)
        assert [ONE] * 4 == [await finds(gateway, who) for who in (ANN, BOB, EVE, None)]
        house.maker.images["docker.io/a/b:1"].public = False
        house.clock.now += 1000
        await pulled(gateway, EVE)
        assert [ONE, ONE, ONE, ""] == [await finds(gateway, who) for who in (ANN, BOB, EVE, None)]


async def test_a_tag_that_moves(house: House) -> None:
    """A name means the newest image that its caller may read: another user's newer one is not
    seen; an id stays what it was."""
    async with house.open() as gateway:
        await pulled(gateway, ANN)
        house.maker.images["docker.io/a/b:1"] = FakeFound(TWO)
        house.clock.now += 1000
        await pulled(gateway, BOB)
        assert [ONE, TWO] == [await finds(gateway, who) for who in (ANN, BOB)]
        house.clock.now += 1000
        await pulled(gateway, ANN)
        assert [TWO, TWO] == [await finds(gateway, who) for who in (ANN, BOB)]
        assert [(ONE, ()), (TWO, (NAME,))] == [(i.id, i.names) for i in await gateway.images(ANN)]
        assert ONE == await finds(gateway, ANN, ImageName("id", ONE))


async def test_a_restart_loses_nothing(house: House) -> None:
    """What waited waits, what was under way is begun anew; a login that was lost is told, and who
    comes with it again is served at once. The file holds no password."""
    house.maker.private["docker.io/a/b:1"] = "secret word"
    house.maker.gate.clear()
    login = Login("u", Secret("secret word"))
    async with house.open() as gateway:
        await gateway.pull(ANN, NAME, login=login)
        await gateway.pull(BOB, NAME, login=login)
        await house.maker.begun.wait()
    assert [] == [f for f in house.root.rglob("*") if f.is_file() and b"secret" in f.read_bytes()]
    house.maker.gate.set()
    async with house.open(working=False) as gateway:
        waiting = await gateway.queue(ROOT)
        assert [("PENDING", 1001), ("PENDING", 1002)] == [(e.state, e.account.uid) for e in waiting]
        await gateway.pull(BOB, NAME, login=login)  # as a client that polls
        async with beside(lambda: gateway.run(house.maker)):
            assert "READY" == await ended(gateway, BOB)
            assert (lost := await ended(gateway, ANN)).startswith(
                "FAILURE: the daemon was restarted"
            )
            assert lost == await pulled(gateway, ANN)
            assert "READY" == await pulled(gateway, ANN, login=login)
    async with house.open(working=False) as gateway:
        assert ([], ONE) == (await gateway.queue(ROOT), await finds(gateway, ANN))


async def test_a_failure_is_remembered_for_a_while(house: House) -> None:
    """Who polls does not make us ask again; another login, or a wish, or time does."""
    house.maker.private["docker.io/a/b:1"] = "right"
    wrong, right = (Login("u", Secret(word)) for word in ("wrong", "right"))
    async with house.open() as gateway:
        for _ in range(3):
            assert "FAILURE: docker.io/a/b:1: login wanted" == await pulled(
                gateway, ANN, login=wrong
            )
        assert 1 == len(house.maker.seen)
        await pulled(gateway, ANN, login=wrong, again=True)
        house.clock.now += 1000
        await pulled(gateway, ANN, login=wrong)
        assert 3 == len(house.maker.seen)
        assert "READY" == await pulled(gateway, ANN, login=right)
        assert "READY" == await pulled(gateway, ANN)
        assert 4 == len(house.maker.seen)


async def test_a_login_is_its_bearer_s(house: House) -> None:
    """Two users who ask for one image at once each go with their own login, or none."""
    house.maker.private["docker.io/a/b:1"] = "right"
    async with house.open() as gateway:
        await gateway.pull(EVE, NAME)
        await gateway.pull(ANN, NAME, login=Login("u", Secret("right")))
        assert (await ended(gateway, EVE)).startswith("FAILURE: docker.io/a/b:1: login wanted")
        assert "READY" == await ended(gateway, ANN)
        assert {(1003, False), (1001, True)} == {
            (u, bool(login)) for _, u, login in house.maker.seen
        }


async def test_expiry(house: House) -> None:
    """A lookup puts it off; autoexpire takes what is over; only admins do either. An image that was
    expiring when the daemon ended is gone after the next start; it can be pulled again."""
    async with house.open() as gateway:
        await pulled(gateway, ANN)
        for act in (gateway.autoexpire(ANN), gateway.expire(ANN, NAME)):
            with pytest.raises(Denied):
                await act
        house.clock.now += house.config.expiration - 1
        assert ONE == await finds(gateway, ANN)
        house.clock.now += house.config.expiration - 1
        assert [] == await gateway.autoexpire(ROOT)
        house.clock.now += 2
        assert [ONE] == await gateway.autoexpire(ROOT)
        assert ("", False) == (await finds(gateway, ROOT), gateway.shelf.has(ONE))
        assert "READY" == await pulled(gateway, ANN)
    await asyncio.to_thread(in_book, house, lambda book: book.expiring([ONE]))
    async with house.open() as gateway:
        assert ("", False) == (await finds(gateway, ROOT), gateway.shelf.has(ONE))
        assert "READY" == await pulled(gateway, ANN)
        assert [(1001, NAME, ONE)] * 1 == [
            (e.uid, e.name, e.id) for e in await gateway.lookups(ROOT, 1)
        ]
        assert [] == await gateway.lookups(ANN, 5)


async def test_what_is_ready_again_is_not_dropped(house: House, tmp_path: Path) -> None:
    """An image that was pulled anew while it was about to go stays; udiRoot's lines on it have the
    lists of all its pullers, and go with it."""
    (site := tmp_path / "site").mkdir()
    house.config = replace(house.config, image_dir=site)
    async with house.open() as gateway:
        await pulled(gateway, ANN)
        house.clock.now += 1000
        await pulled(gateway, BOB)
        await gateway._drop([ONE])
        meta = (site / f"{ONE}.meta").read_text()
        assert (ONE, True) == (await finds(gateway, ANN), "USERACL: 1001,1002\n" in meta)
        assert [ONE] == await gateway.expire(ROOT, NAME)
        assert [] == os.listdir(site)


async def test_a_file_of_the_work(house: House, tmp_path: Path) -> None:
    """The id of a squashfs is the digest of all of it; a failure leaves no file; what is left of
    work that was cut off is swept at the next start, but not what waits."""
    name = ImageName("custom", "x:1")
    ids = []
    async with house.open() as gateway:
        for last in (b"a", b"b"):
            file = gateway.shelf.new_file()
            file.write_bytes(SQUASHFS + b"\0" * 2_000_000 + last)
            wanted = hashlib.sha256(file.read_bytes()).hexdigest()
            await gateway.import_file(ANN, name, file, "squashfs", NO_LIST)
            assert "READY" == await ended(gateway, ANN, name)
            ids.append(await finds(gateway, ANN, name))
            assert wanted == ids[-1]
        assert ("", 2) == (await finds(gateway, BOB, name), len(set(ids)))
        for content in (b"", b"#!/bin/sh", SQUASHFS[:40], SQUASHFS[:-1]):
            file = gateway.shelf.new_file()
            file.write_bytes(content)
            await gateway.import_file(BOB, name, file, "squashfs", NO_LIST)
            assert "squashfs" in await ended(gateway, BOB, name)
        await until(lambda: not os.listdir(gateway.shelf.work))  # READY comes before
    async with house.open(working=False) as gateway:
        waits = gateway.shelf.new_file()
        left = await asyncio.to_thread(gateway.shelf.new_folder)
        waits.write_bytes(SQUASHFS)
        (left / "x").mkdir(mode=0)
        await gateway.import_file(EVE, name, waits, "squashfs", NO_LIST)
    async with house.open() as gateway:
        assert "READY" == await ended(gateway, EVE, name)
        await until(lambda: not os.listdir(gateway.shelf.work))  # READY comes before


async def test_a_manifest_alone_opens_nothing(house: House) -> None:
    """Who hands in a file with the manifest of another's private image gets it only when all of its
    layers are in the file too; its puller may name their own as they like."""
    name = ImageName("custom", "x:1")
    archive = house.maker.images["oci-archive"] = FakeFound(ONE, proven=False, lacks="sha256:0")

    async def imports(account: Account) -> str:
        file = gateway.shelf.new_file()
        await asyncio.to_thread(file.touch)
        await gateway.import_file(account, name, file, "oci-archive")
        return await ended(gateway, account, name)

    async with house.open() as gateway:
        await pulled(gateway, ANN)
        assert "FAILURE: it lacks its layer sha256:0" == await imports(EVE)
        assert ["", ""] == [await finds(gateway, EVE, each) for each in (name, NAME)]
        assert "READY" == await imports(ANN)
        archive.lacks = ""
        assert "READY" == await imports(EVE)
        assert ONE == await finds(gateway, EVE, name)
        assert [] == await asyncio.to_thread(os.listdir, gateway.shelf.work)


async def test_too_many(house: House) -> None:
    """One user's queue has an end, which is no other user's; another registryd's file is left."""
    async with house.open(working=False) as gateway:
        for number in range(MOST_OF_ONE):
            await gateway.pull(ANN, parse(f"a/b:{number}", "docker.io"))
        with pytest.raises(QueueFull):
            await gateway.pull(ANN, parse("a/b:more", "docker.io"))
        await gateway.pull(BOB, NAME)
        assert [NAME] == [each.name for each in await gateway.queue(BOB)]
    newer = "PRAGMA user_version = 99"
    await asyncio.to_thread(in_book, house, lambda book: book._db.execute(newer))
    with pytest.raises(StoreUnusable, match="schema 99"):
        await asyncio.to_thread(in_book, house, lambda book: None)


async def test_failures_do_not_pile_up(house: House) -> None:
    """Of one user the last few failures are kept, and none for long; another's are left alone."""

    def fail(book: Book) -> None:
        for account, count in ((ANN, MOST_OF_ONE + 5), (BOB, 1)):
            for number in range(count):
                name = parse(f"a/b:{number}", "docker.io")
                waiting = Request(
                    name=name, account=account, acl=NO_LIST, created=0.0, changed=0.0
                ).moved("PENDING", 0.0)
                book.put(waiting.moved("FAILURE", 900.0 + number / 10, "no", 1))

    await asyncio.to_thread(in_book, house, fail)
    async with house.open(working=False) as gateway:
        assert MOST_OF_ONE + 6 == len(await gateway.queue(ROOT))
        await gateway.pull(ANN, parse("c/d:1", "docker.io"))
        mine = {each.name.tag for each in await gateway.queue(ANN)}
        assert (MOST_OF_ONE + 1, False, 1) == (
            len(mine),
            "a/b:0" in mine,
            len(await gateway.queue(BOB)),
        )
        house.clock.now += 2 * 86400
        await gateway.pull(EVE, NAME)
        assert ["c/d:1", "a/b:1"] == [each.name.tag for each in await gateway.queue(ROOT)]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("echo one; echo two >&2; exit 3", "(status 3): two"),
        ("printf 'a\\033[1mb\\n\\n'; exit 1", "(status 1): a?[1mb"),
        ("exit 1", "(status 1): it says nothing"),
        ("kill -9 $$", "(signal 9): it says nothing"),
        ("sleep 60 & wait", "has not ended in 1 s"),
    ],
)
async def test_the_examiner_says_no(tmp_path: Path, lines: str, said: str) -> None:
    """Any end but status 0 is a no, with its last line; one that has no end is ended."""
    program = tmp_path / "examiner"
    program.write_text(f"#!/bin/sh\n{lines}\n")
    program.chmod(0o755)
    house = House(tmp_path / "root", examiner=program, examiner_timeout=1.0)
    house.root.mkdir()
    async with house.open() as gateway:
        assert said in (failed := await pulled(gateway, ANN)), failed
        await until(lambda: not os.listdir(gateway.shelf.work))
        assert not gateway.shelf.has(ONE)
        assert 3 == (await gateway.queue(ANN))[0].exit_code


async def test_what_was_made_is_no_squashfs(house: House) -> None:
    """A conversion that says that all is well, and made something else, is a failure."""
    house.maker.images["docker.io/a/b:1"].content = b"not at all"
    async with house.open() as gateway:
        assert "FAILURE: what was made is no squashfs" == await pulled(gateway, ANN)
        assert ("", False) == (await finds(gateway, ANN), gateway.shelf.has(ONE))
