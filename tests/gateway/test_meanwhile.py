"""What is asked of the gateway while an import is under way."""

from __future__ import annotations

from pathlib import Path

import pytest

from registryd.gateway.record import NO_LIST, Acl
from registryd.secrets import Login, Secret
from tests.gateway.test_gateway import ANN, BOB, EVE, NAME, ONE, House, ended, finds


@pytest.mark.parametrize(
    "lists, found",
    [
        (Acl(frozenset({1003})), [ONE, "", ONE]),  # other users than at first
        (NO_LIST, [ONE, ONE, ""]),  # no wish of another
    ],
)
async def test_another_list(tmp_path: Path, lists: Acl, found: list[str]) -> None:
    """Who may read an image is as its puller said last, before it was READY too; in the site's
    folder as well."""
    house = House(tmp_path, image_dir=tmp_path / "site")
    (tmp_path / "site").mkdir()
    house.maker.gate.clear()
    async with house.open() as gateway:
        await gateway.pull(ANN, NAME, lists=Acl(frozenset({1002})))
        await house.maker.begun.wait()
        await gateway.pull(ANN, NAME, lists=lists)
        house.maker.gate.set()

        assert "READY" == await ended(gateway, ANN)
        assert found == [await finds(gateway, who) for who in (ANN, BOB, EVE)]
        (image,) = await gateway.images(ANN)
        users = ",".join(map(str, sorted(image.acl.uids)))
        assert f"USERACL: {users}\n" in (tmp_path / "site" / f"{ONE}.meta").read_text()


async def test_another_login(tmp_path: Path) -> None:
    """It is tried where the first one does not do, and no login is kept when the import has
    ended: the next one without a login goes with none."""
    house = House(tmp_path)
    house.maker.private["docker.io/a/b:1"] = "right"
    house.maker.gate.clear()
    wrong, right = (Login("u", Secret(word)) for word in ("wrong", "right"))
    async with house.open() as gateway:
        await gateway.pull(ANN, NAME, login=wrong)
        await house.maker.begun.wait()
        await gateway.pull(ANN, NAME, login=right)
        house.maker.gate.set()
        assert "READY" == await ended(gateway, ANN)
        house.maker.gate.clear()
        house.maker.begun.clear()
        house.clock.now += 1000
        await gateway.pull(ANN, NAME, login=right)
        await house.maker.begun.wait()
        await gateway.pull(ANN, NAME, login=wrong)
        house.maker.gate.set()
        assert "READY" == await ended(gateway, ANN)
        house.clock.now += 1000
        await gateway.pull(ANN, NAME)
        await ended(gateway, ANN)

        assert [wrong, right, right, None] == [login for _, _, login in house.maker.seen]
