"""Stories: who is let in by the peers' door of a real daemon, what they get, and what is said."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from registryd.cluster.identity_files import IdentityFiles, write_identity
from tests.fakes.members import HOST, NOW, PATIENCE, Site, stranger_client
from tests.real.cluster import Cluster, Node, cluster, free_ports, push_image
from tests.real.registry import RealRegistry, open_registry
from tests.real.runtimes import attempt, module, plain_environ, server
from tests.real.stories import UP, answers, daemon, toml, upstream_at

SIZES = (300_000,)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """An upstream with an image."""
    with open_registry(tmp_path_factory.mktemp("upstream")) as running:
        yield running


@pytest.fixture
def two(tmp_path: Path, registry: RealRegistry) -> Iterator[Cluster]:
    """Two nodes."""
    with cluster(tmp_path / "c", upstream_at(registry.url), 2) as nodes:
        yield nodes


def ask(
    node: Node, tls: ssl.SSLContext, path: str, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    """Status and body of a GET at the peers' door. Raises OSError where there is no answer."""
    tls.check_hostname = False
    connection = http.client.HTTPSConnection(HOST, node.port, context=tls, timeout=60)
    with closing(connection):
        connection.request("GET", path, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()


def shut_out(node: Node, tls: ssl.SSLContext, path: str) -> bool:
    """Whether the door ends the connection without an answer."""
    try:
        ask(node, tls, path, {"Registryd-Node": node.id})
    except (ssl.SSLError, ConnectionError, http.client.HTTPException):
        return True
    return False


def blob_ask(path: str, size: int, node: Node) -> tuple[str, dict[str, str]]:
    """A request for a whole small blob."""
    said = {"Range": f"bytes=0-{size - 1}", "Registryd-Size": str(size)}
    return path, said | {"Registryd-Node": node.id, "Registryd-Owed": "1"}


def test_strangers(two: Cluster, registry: RealRegistry, tmp_path: Path) -> None:
    """Without a certificate, with another cluster's, with an old one or without TLS nobody gets a
    word, and upstream hears nothing; the log has one line for the address, and no traceback."""
    blobs = push_image(registry, "lib/strange", SIZES, 1)
    digest, before = next(iter(blobs)), len(answers(registry))
    path = f"/v2/{UP}/lib/strange/blobs/{digest}"
    node, trusted = two[0], two[0].files.ca_file
    other = Site.make(tmp_path / "other").node("n2")
    old = two.site.node("old", at=NOW - timedelta(days=60), days=2)
    refused = [
        shut_out(node, stranger_client(trusted, shown), path) for shown in (None, other, old)
    ]
    with closing(socket.create_connection((HOST, node.port), PATIENCE)) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n")
        said = plain.recv(4096)
    asked = [line for line in answers(registry)[before:] if "seen" not in line[1]]
    lines = [line for line in node.daemon.log.splitlines() if "entrance" in line]

    assert ([True] * 3, b"") == (refused, said)
    assert [] == asked
    assert 1 == len(lines)
    assert f"WARNING registryd.server.entrance: refused: peer {HOST}: it has shown no" in lines[0]


def test_certificates_that_are_no_nodes(two: Cluster, registry: RealRegistry) -> None:
    """A web server's certificate of the same authority opens TLS, and gets 403; upstream hears
    nothing of it."""
    blobs = push_image(registry, "lib/web", SIZES, 2)
    web, before = two.site.web_server("web"), len(answers(registry))
    path = f"/v2/{UP}/lib/web/blobs/{next(iter(blobs))}"
    status, body = ask(
        two[0], stranger_client(web.ca_file, web), path, {"Registryd-Node": two[1].id}
    )

    assert (403, True) == (status, b"its certificate is no node's" in body)
    assert [] == [line for line in answers(registry)[before:] if "seen" not in line[1]]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", b"no node's name"),
        ("n2", b"does not know it (is cluster.peers the same text"),
        ("n9:5051", b"it is not n9:5051"),
        (f"{HOST}:1", b"does not know it"),
    ],
)
def test_who_says_to_be_another(two: Cluster, name: str, said: bytes) -> None:
    """A member that names another node, or one that is on no list here, is told so, and no more."""
    files = two[1].files
    status, body = ask(
        two[0], stranger_client(files.ca_file, files), "/peer/v1/node", {"Registryd-Node": name}
    )

    assert (403, True) == (status, said in body), body
    assert " WARNING registryd.server.app: request: method=GET path=/peer/v1/node status=403" in (
        two[0].daemon.log
    )


def test_only_for_nodes(two: Cluster) -> None:
    """What serves people and runtimes is not at this door: no API, no metrics, no tags, no push;
    and what nodes ask one another all day has no line in the log."""
    files = two[1].files
    me = {"Registryd-Node": two[1].id}
    found = [
        ask(two[0], stranger_client(files.ca_file, files), path, me)[0]
        for path in (
            "/peer/v1/node", "/metrics", "/api/v1/status", "/readyz", "/v2/", "/token",
            f"/v2/{UP}/lib/app/tags/list", f"/v2/{UP}/lib/app/manifests/latest",
        )
    ]  # fmt: skip

    assert (200, False) == (found[0], "/peer/v1/node" in two[0].daemon.log)
    assert all(400 <= status < 500 for status in found[1:]), found


def test_a_private_blob_under_another_name(two: Cluster, registry: RealRegistry) -> None:
    """A blob that is here is given to a member under its own repository, and not under one that
    has no such blob: a digest alone opens nothing."""
    blobs = push_image(registry, "team/secret", SIZES, 3)
    push_image(registry, "lib/mine", (1000,), 4)
    two.pull(f"{UP}/team/secret:1", two.nodes[:1])
    digest, size = max(blobs.items(), key=lambda each: each[1])
    files = two[1].files
    found = [
        ask(
            two[0],
            stranger_client(files.ca_file, files),
            *blob_ask(f"/v2/{UP}/{name}/blobs/{digest}", size, two[1]),
        )
        for name in ("team/secret", "lib/mine")
    ]

    assert (206, size) == (found[0][0], len(found[0][1]))
    assert 404 == found[1][0]
    assert size > len(found[1][1])


def renew(site: Site, files: IdentityFiles, name: str) -> None:
    """Put a new certificate of a node into its files."""
    identity = site.authority.issue(name, (HOST,), now=NOW, days=300)
    fresh = write_identity(files.cert.parent / "fresh", identity, site.authority)
    for old, new in ((files.cert, fresh.cert), (files.key, fresh.key)):
        os.replace(new, old)
    shutil.rmtree(fresh.cert.parent)


def serial(node: Node, tls: ssl.SSLContext) -> object:
    """The number of the certificate that a node shows."""
    tls.check_hostname = False
    with (
        closing(socket.create_connection((HOST, node.port), PATIENCE)) as plain,
        tls.wrap_socket(plain) as shaken,
    ):
        return (shaken.getpeercert() or {})["serialNumber"]


def wait_for(node: Node, words: str) -> None:
    """Until the daemon has said this."""
    while words not in node.daemon.log:
        assert node.daemon.process.poll() is None, node.daemon.log


def test_renewed(two: Cluster, registry: RealRegistry) -> None:
    """SIGHUP takes over a new certificate of the node, for those who come and for where it goes;
    another node's is refused, and all goes on."""
    node, files = two[0], two[1].files
    before = serial(node, stranger_client(files.ca_file, files))
    renew(two.site, node.files, "n1")
    node.reload()
    wait_for(node, "reloaded: ")
    after = serial(node, stranger_client(files.ca_file, files))
    renew(two.site, node.files, "n7")
    node.reload()
    wait_for(node, "reload refused, going on as before: ")
    refused = next(line for line in node.daemon.log.splitlines() if "reload refused" in line)
    kept = serial(node, stranger_client(files.ca_file, files))
    push_image(registry, "lib/renewed", SIZES, 5)
    two.pull(f"{UP}/lib/renewed:1")

    assert before != after == kept
    assert "cert.pem: is of another node (n7 of hpc): restart the daemon to become it" in refused


def write_config(folder: Path, files: IdentityFiles, listen: str) -> Path:
    """A configuration with a cluster of one other node."""
    section = {
        "listen": listen,
        "peers": [listen, "n2:5051"],
        "ca_file": files.ca_file,
        "cert": files.cert,
        "key": files.key,
    }
    path = folder / "config.toml"
    path.write_text(
        toml(
            {
                "cache": {"root": folder / "root"},
                "daemon": {"socket": folder / "d.sock", "listen": []},
                "cluster": section,
            }
        )
    )
    return path


def spoil_key(site: Site, files: IdentityFiles) -> None:
    files.key.write_text("no key\n")


def let_end(site: Site, files: IdentityFiles) -> None:
    old = site.node("old", at=NOW - timedelta(days=60), days=2)
    os.replace(old.cert, files.cert)
    os.replace(old.key, files.key)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_key, "key.pem: holds no private key (PEM)"),
        (let_end, "cert.pem: other nodes would refuse this node: its certificate, or the"),
    ],
)
def test_files_that_cannot_be_used(
    tmp_path: Path, spoil: Callable[[Site, IdentityFiles], None], said: str
) -> None:
    """The start, and --check, end with one clear line and leave nothing behind."""
    site = Site.make(tmp_path / "site")
    files = site.node("n1")
    spoil(site, files)
    config = write_config(tmp_path, files, f"{HOST}:{free_ports(1)[0]}")
    for flags in ((), ("--check",)):
        ran = attempt(
            module("registryd.daemon", "--config", str(config), *flags),
            plain_environ(tmp_path / "home"),
        )

        assert (1, 1) == (ran.code, len(ran.err.splitlines())), ran.err
        assert said in ran.err
    assert not (tmp_path / "d.sock").exists()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """The line names the key; sockets that were made before it are taken away again."""
    files = Site.make(tmp_path / "site").node("n1")
    with closing(socket.create_server((HOST, 0))) as taken:
        listen = f"{HOST}:{taken.getsockname()[1]}"
        ran = attempt(
            module("registryd.daemon", "--config", str(write_config(tmp_path, files, listen))),
            plain_environ(tmp_path / "home"),
        )

    assert (64, f"registryd: cluster.listen: cannot listen on {listen}: Address already in use\n") \
        == (ran.code, ran.err)  # fmt: skip
    assert not (tmp_path / "d.sock").exists()


ACTIVATED = """
import os, socket, sys
from registryd.daemon import main
address, port, path, config = sys.argv[1:]
local = socket.create_server(path, family=socket.AF_UNIX)
made = socket.create_server((address, int(port)))
for number, sock in ((20, local), (21, made)):
    os.dup2(sock.fileno(), number)
    os.dup2(number, number - 17)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"}
sys.exit(main(["--config", config]))
"""


def test_a_warning_before_the_end(tmp_path: Path) -> None:
    """A certificate that ends within a month is a warning at the start."""
    site, listen = Site.make(tmp_path / "site"), f"{HOST}:{free_ports(1)[0]}"
    logs = []
    for name, days in (("soon", 20), ("late", 90)):
        files = site.node(name, days=days)
        own = {
            "listen": listen, "peers": [listen],
            "ca_file": files.ca_file, "cert": files.cert, "key": files.key,
        }  # fmt: skip
        with daemon(tmp_path / name, {"cluster": own}) as running:
            logs.append(running.log)

    assert "cert.pem: this node's certificate ends in 19 days: make a new one" in logs[0]
    assert "certificate ends" not in logs[1]


def test_a_socket_that_was_handed_over(tmp_path: Path) -> None:
    """A socket of the service manager with the address of cluster.listen is the peers' door."""
    site, port = Site.make(tmp_path / "site"), free_ports(1)[0]
    files, peer = site.node("n1"), site.node("n2")
    config = write_config(tmp_path, files, f"{HOST}:{port}")
    command = [
        sys.executable,
        "-c",
        ACTIVATED,
        HOST,
        str(port),
        str(tmp_path / "a.sock"),
        str(config),
    ]
    with server(command, tmp_path, plain_environ(tmp_path / "home")) as process:
        node = Node("n1", None, files, port)  # type: ignore[arg-type]
        tls = stranger_client(peer.ca_file, peer)
        status, _ = ask(node, tls, "/peer/v1/node", {"Registryd-Node": "n2:5051"})
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)

    assert (200, 0) == (status, process.returncode)
