"""The gateway where something fails beneath it: the database, the site's folder, a kill."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from registryd.gateway.gateway import Gateway
from tests.fakes.waiting import until
from tests.gateway.test_gateway import ANN, BOB, NAME, ONE, ROOT, TWO, House, ended, finds, pulled


@asynccontextmanager
async def hasty(house: House) -> AsyncIterator[Gateway]:
    """A gateway that tries again at once what its database did not take."""
    async with house.open() as gateway:
        gateway.rest = 0.01
        yield gateway


@pytest.mark.parametrize("states", ["'CONVERSION', 'FAILURE'", "'FAILURE'"])
async def test_a_step_that_is_not_written_down(
    tmp_path: Path, states: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An import whose step or end the database did not take is begun anew when it takes it again,
    and not at the next start only."""
    house = House(tmp_path)
    house.maker.images["docker.io/a/b:1"].lacks = "sha256:0"
    async with hasty(house) as gateway:
        with sqlite3.connect(tmp_path / "gateway.db") as db:
            db.execute(
                "CREATE TRIGGER no BEFORE INSERT ON requests"
                f" WHEN NEW.state IN ({states}) BEGIN SELECT RAISE(ABORT, 'no room'); END"
            )
        db.close()
        await gateway.pull(ANN, NAME)
        await until(lambda: "no room" in caplog.text)
        house.maker.images["docker.io/a/b:1"].lacks = ""
        with sqlite3.connect(tmp_path / "gateway.db") as db:
            db.execute("DROP TRIGGER no")
        db.close()

        assert ("READY", ONE) == (await ended(gateway, ANN), await finds(gateway, ANN))


async def test_what_is_not_published_takes_no_room(tmp_path: Path) -> None:
    """An image that was made and could not be put into the site's folder leaves no file; nor does,
    after the next start, one that was made when the daemon was killed."""
    house = House(tmp_path, image_dir=tmp_path / "site")
    shelf = tmp_path / "gateway" / "images"
    async with house.open() as gateway:
        assert (await pulled(gateway, ANN)).startswith(f"FAILURE: {tmp_path / 'site'}")
        assert [] == list(shelf.iterdir())
        (tmp_path / "site").mkdir()
        assert "READY" == await pulled(gateway, ANN, again=True)
    (shelf / f"{TWO}.squashfs").touch()
    async with house.open(working=False):
        assert [f"{ONE}.squashfs"] == [each.name for each in shelf.iterdir()]


async def test_what_has_expired_is_forgotten(tmp_path: Path) -> None:
    """Of an image that is gone no row stays: years of them would be looked through for ever."""
    house = House(tmp_path)
    async with house.open() as gateway:
        await pulled(gateway, ANN)
        assert [ONE] == await gateway.expire(ROOT, NAME)
        with sqlite3.connect(house.root / "gateway.db") as db:
            rows = db.execute(
                "SELECT id FROM images UNION SELECT id FROM lists UNION SELECT id FROM names"
            ).fetchall()
        db.close()

        assert [] == rows


async def test_a_database_that_is_damaged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is put aside and said, and the gateway begins anew: an image can be pulled again."""
    house = House(tmp_path)
    async with house.open() as gateway:
        await pulled(gateway, ANN)
    (house.root / "gateway.db").write_bytes(b"no database" * 1000)
    async with house.open() as gateway:
        assert f"{house.root / 'gateway.db'} was damaged" in caplog.text
        assert "" == await finds(gateway, ANN)
        assert "READY" == await pulled(gateway, ANN)
        assert ONE == await finds(gateway, ANN)


async def test_a_reason_that_is_no_text(tmp_path: Path) -> None:
    """An import may fail by a name that is not UTF-8: it is told as far as it can be written."""
    house = House(tmp_path)
    house.maker.images["docker.io/a/b:1"].lacks = "\udcff"
    async with house.open() as gateway:
        assert "FAILURE: it lacks its layer ?" == await pulled(gateway, ANN)


async def test_a_row_that_cannot_be_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is told again and again; imports go on as soon as it is mended."""
    house = House(tmp_path)
    async with hasty(house) as gateway:
        house.maker.gate.clear()
        await gateway.pull(ANN, NAME)
        await house.maker.begun.wait()
        with sqlite3.connect(tmp_path / "gateway.db") as db:
            db.execute(
                "INSERT INTO requests SELECT itype, 'x', 7, 'PENDING', '', 0, 'no account', acl,"
                " 0, 0, 0, kind, file, form, path FROM requests"
            )
        db.close()
        house.maker.gate.set()
        await until(lambda: "gateway: Expecting value" in caplog.text)
        await gateway.pull(BOB, NAME)
        with sqlite3.connect(tmp_path / "gateway.db") as db:
            db.execute("DELETE FROM requests WHERE tag = 'x'")
        db.close()

        assert "READY" == await ended(gateway, BOB)
