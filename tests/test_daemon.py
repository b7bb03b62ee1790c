"""The program as a process: start, signals, restarts, systemd."""

import asyncio
import os
import random
import re
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from cache.content import Digest
from tests.fakes.registry import FakeRegistry
from tests.fakes.upstream import Upstream
from tests.fakes.waiting import until
from tests.real.daemon import DaemonProcess, started

MIB = 1 << 20
CONTENT = random.Random(11).randbytes(24 * MIB)
DIGEST = Digest.of(CONTENT)
#: What may be fetched twice when the process was killed (bytes).
CHUNK = 8 * MIB


@pytest.fixture
async def upstream() -> AsyncIterator[FakeRegistry]:
    async with Upstream().serve() as server:
        server.add_blob("team/app", CONTENT)
        yield server


def write_config(folder: Path, *, root: str = "cache", name: str = "d", more: str = "") -> Path:
    """A configuration with a root, a socket and a free port; ``more`` TOML at its end."""
    path = folder / f"{name}.toml"
    path.write_text(
        f'[daemon]\nsocket = "{folder / name}.sock"\ndrain_timeout = "20s"\n'
        f'[[daemon.listen]]\naddress = "127.0.0.1:0"\n'
        f'[cache]\nroot = "{folder / root}"\n{more}'
    )
    return path


def plain_http(upstream: FakeRegistry) -> str:
    return f'[registries."{upstream.name}"]\nplain_http = true\n'


def blob_path(upstream: FakeRegistry) -> str:
    return f"/v2/{upstream.name}/team/app/blobs/{DIGEST}"


async def healthy(daemon: DaemonProcess) -> bool:
    """Whether both doors answer."""
    async with daemon.client() as unix, aiohttp.ClientSession(daemon.url) as tcp:
        answers = []
        for client in (unix, tcp):
            async with client.get("/healthz") as answer:
                answers.append(await answer.text())
    return answers == ["ok\n", "ok\n"]


async def test_start_and_end(tmp_path: Path) -> None:
    """It answers on both doors, and a SIGTERM ends it with 0 and takes the socket file away."""
    config = write_config(tmp_path)
    async with started(config) as daemon:
        answered = await healthy(daemon)
        mode = Path(daemon.socket).stat().st_mode & 0o777
        daemon.send(signal.SIGTERM)
        code = await daemon.ended()

    assert (True, 0o666, 0) == (answered, mode, code)
    assert not (tmp_path / "d.sock").exists()
    assert "stopped" in daemon.lines[-1]


async def test_a_socket_file_that_was_left_is_replaced(tmp_path: Path) -> None:
    """After a crash the file of the dead process does not stop the next one."""
    config = write_config(tmp_path)
    async with started(config) as first:
        first.send(signal.SIGKILL)
        await first.ended()
    left = (tmp_path / "d.sock").exists()
    async with started(config) as second:
        assert (True, True) == (left, await healthy(second))


async def test_a_second_daemon_on_the_same_root(tmp_path: Path) -> None:
    """One line that names the one who has it, exit code 1; the first goes on."""
    async with (
        started(write_config(tmp_path)) as first,
        started(write_config(tmp_path, name="other"), ready=False) as second,
    ):
        code = await second.ended()
        answered = await healthy(first)

    assert (1, 1, True) == (code, len(second.lines), answered)
    assert re.search(rf"\b{first.pid}\b", second.lines[0])
    assert second.lines[0].startswith("registryd: ")
    assert not (tmp_path / "other.sock").exists()


async def test_a_second_daemon_on_the_same_socket(tmp_path: Path) -> None:
    """A socket that somebody answers on is not taken away from them."""
    config = write_config(tmp_path)
    async with started(config) as first, started(config, ready=False) as second:
        code = await second.ended()
        answered = await healthy(first)

    assert (64, 1, True) == (code, len(second.lines), answered)
    assert "another process answers" in second.lines[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[cache]\nsize = 5\n", "cache.size"),
        ("[daemon]\ndrain_timeout = 5\n", "daemon.drain_timeout"),
        ('[[daemon.listen]]\naddress = "0.0.0.0:80"\n', "daemon.listen"),
        ("no toml", "TOML"),
        (None, "cannot be read"),
    ],
)
async def test_a_bad_configuration(tmp_path: Path, text: str | None, said: str) -> None:
    """One line with the key's path, and exit code 64."""
    config = tmp_path / "bad.toml"
    if text is not None:
        config.write_text(text)
    async with started(config, ready=False) as daemon:
        code = await daemon.ended()

    assert (64, 1) == (code, len(daemon.lines))
    assert said in daemon.lines[0] and str(config) in daemon.lines[0]


async def test_a_stop_waits_for_answers_under_way(tmp_path: Path, upstream: FakeRegistry) -> None:
    """After SIGTERM nobody new is let in, and who is being answered gets the whole."""
    gate = asyncio.Event()
    upstream.stall("GET .*/blobs/", gate, at=2 * MIB)
    async with started(write_config(tmp_path, more=plain_http(upstream))) as daemon:
        async with daemon.client() as client, client.get(blob_path(upstream)) as answer:
            first = await answer.content.readexactly(MIB)
            daemon.send(signal.SIGTERM)
            await daemon.said("stopping")
            refused = False
            async with asyncio.timeout(20):
                while not refused:
                    try:
                        _, writer = await asyncio.open_unix_connection(daemon.socket)
                        writer.close()
                        await writer.wait_closed()
                    except (ConnectionRefusedError, FileNotFoundError):
                        refused = True
            gate.set()
            whole = first + await answer.read()
        code = await daemon.ended()

    assert (CONTENT == whole, 0) == (True, code)


async def test_a_killed_pull_is_resumed(tmp_path: Path, upstream: FakeRegistry) -> None:
    """kill -9 in the middle of a blob: the next process asks for the rest, and upstream sends no
    byte twice beyond one chunk, by its own count."""
    config = write_config(tmp_path, more=plain_http(upstream))
    gate = asyncio.Event()
    upstream.stall("GET .*/blobs/", gate, at=16 * MIB)
    async with (
        started(config) as first,
        first.client() as client,
        client.get(blob_path(upstream)) as answer,
    ):
        await answer.content.readexactly(16 * MIB - 64 * 1024)
        first.send(signal.SIGKILL)
        await first.ended()
    gate.set()
    async with (
        started(config) as second,
        second.client() as client,
        client.get(blob_path(upstream)) as answer,
    ):
        body = await answer.read()
    ranges = [seen.headers.get("Range", "") for seen in upstream.asked("GET .*/blobs/")]
    start = int(re.findall(r"bytes=(\d+)-", ranges[1])[0])

    assert (True, "", 2) == (body == CONTENT, ranges[0], len(ranges))
    assert 16 * MIB - CHUNK <= start <= 16 * MIB
    assert upstream.sent[str(DIGEST)] <= len(CONTENT) + CHUNK


async def test_it_tells_systemd(tmp_path: Path) -> None:
    """READY when it serves, signs of life, RELOADING and READY around a reload, STOPPING."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        loop = asyncio.get_running_loop()
        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        heard: list[str] = []

        async def hear(words: str) -> None:
            async with asyncio.timeout(30):
                while not heard or words not in heard[-1]:
                    heard.append((await loop.sock_recv(manager, 4096)).decode())

        async with started(write_config(tmp_path), environ) as daemon:
            await hear("READY=1")
            first = len(heard)
            await hear("WATCHDOG=1")
            heard.append("")
            await hear("WATCHDOG=1")
            daemon.send(signal.SIGHUP)
            await hear("RELOADING=1\nMONOTONIC_USEC=")
            await hear("READY=1")
            daemon.send(signal.SIGTERM)
            await hear("STOPPING=1")
            code = await daemon.ended()

    assert (1, 0) == (first, code)


async def test_reload(tmp_path: Path) -> None:
    """SIGHUP takes over the log level, names what needs a restart, and survives a bad file."""
    config = write_config(tmp_path)
    async with started(config) as daemon:
        good = config.read_text()
        config.write_text(good + "[transfer]\njobs = 2\n")
        daemon.send(signal.SIGHUP)
        changed = await daemon.said("restart to apply")
        config.write_text("bad")
        daemon.send(signal.SIGHUP)
        await daemon.said("reload refused")
        quiet = good.replace("[daemon]", '[daemon]\nlog_level = "warning"')
        config.write_text(quiet.replace('/cache"', '/other"'))
        daemon.send(signal.SIGHUP)
        await daemon.said("restart to apply the changes in: cache")
        answered = await healthy(daemon)
        async with daemon.client() as client, client.get("/v2/") as answer:
            await answer.read()

    assert ("transfer", True) == (changed.rpartition(": ")[2], answered)
    assert not any("path=/v2/" in line for line in daemon.lines)


async def test_socket_activation(tmp_path: Path) -> None:
    """Both sockets can be handed over by the service manager; their file is left to it."""
    program = shutil.which("systemd-socket-activate")
    assert program is not None, "systemd-socket-activate is not installed (Debian: systemd)"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = tmp_path / "handed.sock"
    under = [program, "-l", str(path), "-l", f"127.0.0.1:{port}", "-E", f"HOME={tmp_path}",
             "-E", f"PYTHONPATH={os.getcwd()}"]  # fmt: skip
    config = write_config(tmp_path)
    config.write_text(
        config.read_text().replace(
            '"127.0.0.1:0"', f'"127.0.0.1:{port}"\ndefault_registry = "localhost"'
        )
    )
    async with started(config, under=under, ready=False) as daemon:
        await daemon.said("Listening on")
        await until(path.exists)
        # The first connection starts it; the path without a registry is the node's own here.
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
            client.get("/v2/app/tags/list") as answer,
        ):
            tcp = (answer.status, await answer.text())
        await daemon.said(" ready: ")
        answered = await healthy(daemon)
        doors = daemon.doors
        daemon.send(signal.SIGTERM)
        code = await daemon.ended()

    assert ([f"unix:{path}", f"127.0.0.1:{port}"], True, 0) == (doors, answered, code)
    assert (404, True) == (tcp[0], "localhost/app" in tcp[1])
    assert path.exists() and not (tmp_path / "d.sock").exists()


async def test_check_says_whether_the_configuration_is_good(tmp_path: Path) -> None:
    """--check looks at the configuration alone."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "registryd.daemon", "--check", "--config", str(write_config(tmp_path))),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()

    assert (0, b"the configuration is good\n") == (process.returncode, out)
    assert not (tmp_path / "cache").exists()
