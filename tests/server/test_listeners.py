"""Listening sockets: files that are in the way, and what is left when something fails."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web

from registryd.config import DaemonConfig, Listen
from registryd.oci.errors import ConfigInvalid
from registryd.server.listeners import inherited, make_doors, serving, withdraw
from tests.fakes.certificates import make_identity


def config(path: Path | None, *addresses: str, mode: int = 0o600) -> DaemonConfig:
    listen = tuple(Listen(address) for address in addresses)
    return DaemonConfig(socket=path, socket_mode=mode, listen=listen)


def test_doors_are_named_by_where_they_are(tmp_path: Path) -> None:
    """A free port is known by its number; the socket file has its mode, its folder is made."""
    path = tmp_path / "new" / "d.sock"
    doors = make_doors(config(path, "127.0.0.1:0", "[::1]:0"))
    ports = [door.sock.getsockname()[1] for door in doors[1:]]
    mode = path.stat().st_mode & 0o777
    withdraw(doors)

    assert [f"unix:{path}", f"127.0.0.1:{ports[0]}", f"[::1]:{ports[1]}"] == [
        door.name for door in doors
    ]
    assert (0o600, False) == (mode, path.exists())


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """What is not ours is not removed."""
    path = tmp_path / "d.sock"
    path.write_text("precious")

    with pytest.raises(ConfigInvalid, match="is not a socket"):
        make_doors(config(path))
    assert "precious" == path.read_text()


def test_a_socket_that_answers_is_left_alone(tmp_path: Path) -> None:
    """A daemon that lives keeps its socket."""
    first = make_doors(config(tmp_path / "d.sock"))
    with pytest.raises(ConfigInvalid, match="another process answers"):
        make_doors(config(tmp_path / "d.sock"))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "d.sock"))
    withdraw(first)


def test_a_socket_that_nobody_answers_is_replaced(tmp_path: Path) -> None:
    """A crash leaves a file that does not matter."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "d.sock"))
    doors = make_doors(config(tmp_path / "d.sock"))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "d.sock"))
    withdraw(doors)


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """The line names the address; the socket file that was made before is taken away again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        with pytest.raises(ConfigInvalid, match=f"cannot listen on {address}: Address already"):
            make_doors(config(tmp_path / "d.sock", address))
    assert not (tmp_path / "d.sock").exists()


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    """What the system refuses is one clear line."""
    with pytest.raises(ConfigInvalid, match=r"daemon\.socket: "):
        make_doors(config(tmp_path / ("x" * 200)))


def test_inherited_sockets_stand_for_what_the_configuration_says(tmp_path: Path) -> None:
    """A handed-over TCP socket has the default registry of its address; none is inherited on."""
    program = (
        "import os, socket, sys\n"
        "from registryd.config import Listen\n"
        "from registryd.server.listeners import inherited\n"
        "made = [socket.create_server(('127.0.0.1', 0)), socket.create_server(('127.0.0.1', 0))]\n"
        "ports = [each.getsockname()[1] for each in made]\n"
        "for number, each in enumerate(made): os.dup2(each.fileno(), 20 + number)\n"
        "for number in (0, 1): os.dup2(20 + number, 3 + number)\n"
        "doors = inherited(2, [Listen(f'127.0.0.1:{ports[1]}', 'ghcr.io')])\n"
        "print([door.default_registry for door in doors], [door.file for door in doors],\n"
        "      [door.sock.get_inheritable() for door in doors])\n"
        "os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-u", "-c", program], capture_output=True, text=True, timeout=60,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip

    assert "['docker.io', 'ghcr.io'] [None, None] [False, False]\n" == done.stdout, done.stderr
    assert inherited(0, []) == []


HANDED = """
import os, socket, ssl, sys
from pathlib import Path
from registryd.config import Listen
from registryd.oci.errors import ConfigInvalid
from registryd.server.listeners import inherited
address, cert, key = sys.argv[1:]
made = socket.create_server((address, 0))
port = made.getsockname()[1]
os.dup2(made.fileno(), 20)
os.dup2(20, 3)
entries = [Listen("127.0.0.1:1")]
if cert:
    entries.append(Listen(f"localhost:{port}", "docker.io", Path(cert), Path(key)))
try:
    (door,) = inherited(1, entries)
    print(door.entry, isinstance(door.tls, ssl.SSLContext), flush=True)
except ConfigInvalid as error:
    print(str(error).replace(str(port), "PORT"), flush=True)
os._exit(0)
"""


def handed(*arguments: str) -> str:
    """What becomes of a socket at this address, with this certificate and key."""
    command = [sys.executable, "-c", HANDED, *arguments]
    folder = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder)
    return done.stdout.strip() or done.stderr


def test_inherited_sockets_have_the_tls_of_their_address(tmp_path: Path) -> None:
    """The table with the same address decides, in either of its spellings."""
    identity = make_identity(tmp_path)

    assert "1 True" == handed("127.0.0.1", str(identity.cert_file), str(identity.key_file))
    assert "None False" == handed("127.0.0.1", "", "")


def test_an_inherited_socket_that_strangers_reach_is_refused() -> None:
    """Without a table that asks for certificates it would be open to the world."""
    said = handed("0.0.0.0", "", "")  # noqa: S104 - that is the point

    assert said.startswith("daemon.listen: the socket 0.0.0.0:PORT that was handed over can be")


async def ask(path: Path, target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which this was asked."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return reader, writer


async def test_who_answers_a_client_that_has_gone_ends_with_the_server(tmp_path: Path) -> None:
    """Nothing that a request began is left when the listeners are closed."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return web.Response()

    async def quick(request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    app.router.add_get("/slow", slow)
    app.router.add_get("/quick", quick)
    doors = await asyncio.to_thread(make_doors, config(tmp_path / "d.sock"))
    async with serving([(doors[0], app)], drain=0.0):
        _, leaving = await ask(tmp_path / "d.sock", "/slow")
        await began.wait()
        leaving.close()
        await leaving.wait_closed()
        for _ in range(3):  # by then the server has seen that the first one has gone
            reader, writer = await ask(tmp_path / "d.sock", "/quick")
            await reader.read()
            writer.close()
            await writer.wait_closed()

    assert ended.is_set()
