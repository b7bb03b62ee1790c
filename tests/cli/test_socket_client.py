"""The thin client: JSON, bytes and streams over a unix socket, and every way they can break."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from registryd.cli.errors import DaemonRefused, DaemonUnreachable
from registryd.cli.socket_client import ROUTES, SocketBackend
from registryd.secrets import Login, Secret
from tests.fakes.daemon import Answer, FakeDaemon, fake_daemon

DIGEST = "sha256:" + "a" * 64
DONE = {"event": "done", "reference": "docker.io/library/alpine:3.20", "digest": DIGEST}


def test_call_gives_the_answers_json(daemon: FakeDaemon) -> None:
    """A GET operation puts its arguments into the query, and leaves out what is empty."""
    daemon.on("GET", "/api/v1/digest", Answer.of({"digest": DIGEST}))
    backend = SocketBackend(daemon.socket)

    assert backend.call("digest", {"reference": "a/b:1 +&", "platform": None}) == {"digest": DIGEST}
    assert daemon.requests[0].query == {"reference": "a/b:1 +&"}
    assert "authorization" not in daemon.requests[0].headers


def test_post_puts_arguments_into_the_body(daemon: FakeDaemon) -> None:
    """A POST operation sends its arguments as JSON."""
    daemon.on("POST", "/api/v1/tag", Answer.of({"reference": "b", "digest": DIGEST}))

    SocketBackend(daemon.socket).call("tag", {"source": "a", "target": "b"})

    assert daemon.requests[0].body == {"source": "a", "target": "b"}


def test_a_backend_can_be_used_again(daemon: FakeDaemon) -> None:
    """Each call has its own connection; the first one takes the one that proved the daemon."""
    daemon.on("GET", "/api/v1/images", Answer.of({"images": []}))
    backend = SocketBackend(daemon.socket)
    backend.connect()

    for _ in range(3):
        assert backend.call("images", {}) == {"images": []}
    backend.close()


@pytest.mark.parametrize(
    ("login", "pair"),
    [
        (Login("ann", Secret("s3:cret")), "ann:s3:cret"),
        (Login("ignored", identity_token=Secret("tok")), "<token>:tok"),
    ],
)
def test_the_login_goes_into_the_header(daemon: FakeDaemon, login: Login, pair: str) -> None:
    """A credential is handed over as Basic; an identity token has the user <token>."""
    daemon.on("GET", "/api/v1/tags", Answer.of({"tags": []}))

    SocketBackend(daemon.socket).call("tags", {"repository": "r"}, login)

    kind, encoded = daemon.requests[0].headers["authorization"].split()
    assert (kind, base64.b64decode(encoded).decode()) == ("Basic", pair)


def test_raw_gives_the_bytes_and_what_is_said_of_them(daemon: FakeDaemon) -> None:
    """Bytes come as they are, whatever they are."""
    headers = {
        "Content-Type": "application/x",
        "Docker-Content-Digest": DIGEST,
        "X-Registryd-Manifest-Digest": "sha256:m",
    }
    daemon.on("GET", "/api/v1/config", Answer(b"\x00\xff no json", headers=headers))

    raw = SocketBackend(daemon.socket).raw("config", {"reference": "r"})

    assert raw.content == b"\x00\xff no json"
    assert (raw.media_type, raw.digest, raw.manifest_digest) == (
        "application/x",
        DIGEST,
        "sha256:m",
    )


def test_stream_reports_each_event_and_gives_the_last(daemon: FakeDaemon) -> None:
    """Events come in order, unknown ones too; "done" is both reported and given back."""
    progress = {"event": "progress", "digest": DIGEST, "offset": 1, "total": 2}
    daemon.on("POST", "/api/v1/pull", Answer.events(progress, {"event": "new thing"}, DONE))
    seen: list[object] = []

    done = SocketBackend(daemon.socket).stream("pull", {"reference": "r"}, seen.append)

    assert done == DONE
    assert seen == [progress, {"event": "new thing"}, DONE]


def test_a_stream_is_read_to_its_end(tmp_path: Path) -> None:
    """The client stays until the daemon has ended the stream: leaving earlier is an abort."""
    with fake_daemon(tmp_path / "d.sock") as daemon:
        daemon.on("POST", "/api/v1/pull", Answer.events(DONE, pause=0.1))

        SocketBackend(daemon.socket).stream("pull", {}, lambda event: None)

    assert daemon.left_early == 0


def test_a_failed_event_is_the_error_it_tells_of(daemon: FakeDaemon) -> None:
    """The line and the exit code of "failed" are those of the command."""
    failed = {"event": "failed", "message": "no such tag", "code": "X", "exit_code": 2}
    daemon.on("POST", "/api/v1/pull", Answer.events(failed))

    with pytest.raises(DaemonRefused, match=r"^no such tag$") as caught:
        SocketBackend(daemon.socket).stream("pull", {}, lambda event: None)

    assert caught.value.ends_with == 2


@pytest.mark.parametrize("cut", [False, True])
def test_a_stream_without_its_last_event_is_broken(daemon: FakeDaemon, cut: bool) -> None:
    """A stream that ends well-formed or in mid-line, but without "done", is no success."""
    daemon.on("POST", "/api/v1/pull", Answer.events({"event": "resolved"}, cut=cut))

    with pytest.raises(DaemonUnreachable, match="broke off in the middle of pull"):
        SocketBackend(daemon.socket).stream("pull", {}, lambda event: None)


def test_a_last_line_without_its_end_is_broken(daemon: FakeDaemon) -> None:
    """An event counts when its line is whole."""
    daemon.on("POST", "/api/v1/pull", Answer(b'{"event": "done"}', stream=True))

    with pytest.raises(DaemonUnreachable, match="broke off in the middle of pull"):
        SocketBackend(daemon.socket).stream("pull", {}, lambda event: None)


def test_an_error_of_the_report_is_not_the_daemons(daemon: FakeDaemon) -> None:
    """What the caller's own report raises comes out as it is."""
    daemon.on("POST", "/api/v1/pull", Answer.events(DONE))

    def report(event: object) -> None:
        raise BrokenPipeError("stderr is gone")

    with pytest.raises(BrokenPipeError):
        SocketBackend(daemon.socket).stream("pull", {}, report)


def test_a_body_that_ends_short_is_broken(daemon: FakeDaemon) -> None:
    """Fewer bytes than announced are not an answer."""
    daemon.on("GET", "/api/v1/manifest", Answer(b"{}", cut=True))

    with pytest.raises(DaemonUnreachable, match="broke off"):
        SocketBackend(daemon.socket).raw("manifest", {"reference": "r"})


def test_a_refusal_carries_line_and_exit_code(daemon: FakeDaemon) -> None:
    """The API's error body becomes the error."""
    daemon.on("GET", "/api/v1/digest", Answer.refusal(429, "docker.io: too many requests", 4))

    with pytest.raises(DaemonRefused, match=r"^docker\.io: too many requests$") as caught:
        SocketBackend(daemon.socket).call("digest", {"reference": "r"})

    assert caught.value.ends_with == 4


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[]", b'{"errors": []}', b'{"errors": [1]}', b'{"errors": {}}', b"null", b""],
)
def test_an_error_without_explanation_names_the_status(daemon: FakeDaemon, body: bytes) -> None:
    """An error body of another make is told by its status."""
    daemon.on("GET", "/api/v1/images", Answer(body, status=500))

    with pytest.raises(DaemonRefused, match="answered images with status 500") as caught:
        SocketBackend(daemon.socket).call("images", {})

    assert caught.value.ends_with == 1


@pytest.mark.parametrize("code", [None, 0, -1, 256, "2", 2.5])
def test_an_exit_code_that_is_none_is_one(daemon: FakeDaemon, code: object) -> None:
    """Whatever a daemon says, a refusal never ends as a success."""
    daemon.on("GET", "/api/v1/images", Answer.refusal(500, "m", code))

    with pytest.raises(DaemonRefused) as caught:
        SocketBackend(daemon.socket).call("images", {})

    assert caught.value.ends_with == 1


@pytest.mark.parametrize("body", [b"<html>", b"[1]", b"\xff"])
def test_an_answer_that_is_no_object_is_not_ours(daemon: FakeDaemon, body: bytes) -> None:
    """Something else that listens on the socket is named."""
    daemon.on("GET", "/api/v1/images", Answer(body))

    with pytest.raises(DaemonUnreachable, match="is not registryd"):
        SocketBackend(daemon.socket).call("images", {})


def test_nobody_listens(tmp_path: Path) -> None:
    """A socket that is not there is one line with its path."""
    with pytest.raises(DaemonUnreachable, match=r"no daemon answers on .*/none: No such file"):
        SocketBackend(tmp_path / "none").connect()


def test_every_operation_has_a_route() -> None:
    """The table is whole: each path once."""
    assert len(set(ROUTES.values())) == len(ROUTES)
