"""The demonstration, run as a person runs it: what it shows is so, and nothing is left running."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

DEMO = Path(__file__).resolve().parents[1] / "scripts" / "demo.py"
#: Seconds that a run may take, on a busy machine too.
LIMIT = 180


def run(*words: object, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run the demonstration with a small image and no terminal; ``path`` is looked in first."""
    environ = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]}
    return subprocess.run(
        [sys.executable, DEMO, "--data", "2", *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        env=environ,
        cwd="/",
    )


def processes_of(folder: Path) -> list[str]:
    """The command lines that name this folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in line:
            found.append(line.replace(b"\0", b" ").decode())
    return found


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str, list[str]]:
    """The results of a whole run, what it printed, and which daemons it left.

    Its folder is too deep for unix sockets in it.
    """
    place = tmp_path_factory.mktemp("demo") / "/".join(["deep" * 6] * 4)
    file = place.parent / "results.json"
    done = run("--stop", "--dir", place, "--json", file)
    assert 0 == done.returncode, done.stderr
    results: dict[str, Any] = json.loads(file.read_text())
    return results, done.stdout, processes_of(place)


def test_cold_pull(shown: tuple[dict[str, Any], str, list[str]]) -> None:
    """A cold pull fetches all bytes of the image, and the origin sends them once."""
    results, _, _ = shown
    size, cold = results["images"][0]["size"], results["pulls"]["cold"]

    assert [size, 0, size, size] == [
        cold[name] for name in ("fetched", "held", "origin_sent", "node_taken")
    ]


def test_warm_pull(shown: tuple[dict[str, Any], str, list[str]]) -> None:
    """A warm pull fetches nothing."""
    results, _, _ = shown
    size, warm = results["images"][0]["size"], results["pulls"]["warm"]

    assert [0, size, 0, 0] == [
        warm[name] for name in ("fetched", "held", "origin_sent", "node_taken")
    ]


def test_second_image(shown: tuple[dict[str, Any], str, list[str]]) -> None:
    """Of an image that shares layers, only its own config and layer are fetched."""
    results, _, _ = shown
    size, own = results["images"][1]["size"], results["second_own_size"]
    second = results["pulls"]["second"]

    assert 0 < own < size
    assert [own, 2, size - own, own] == [
        second[name] for name in ("fetched", "fetched_blobs", "held", "origin_sent")
    ]


def test_upstream_once(shown: tuple[dict[str, Any], str, list[str]]) -> None:
    """Each byte of both images leaves the origin once, whoever reads them from the node."""
    results, _, _ = shown
    size = results["distinct_size"]

    assert [size, size, 1.0] == [results[n] for n in ("origin_sent", "node_taken", "times")]


def test_reading(shown: tuple[dict[str, Any], str, list[str]]) -> None:
    """Read over HTTP, and by skopeo where there is one, the node gives the image as it was."""
    results, _, _ = shown
    image, reading = results["images"][0], results["reading"]
    has_skopeo = shutil.which("skopeo") is not None

    assert (image["size"], has_skopeo) == (reading["bytes"], results["skopeo"])


def test_table(shown: tuple[dict[str, Any], str, list[str]]) -> None:
    """The last table has a row for each pull, and says how often each byte was sent."""
    _, output, _ = shown
    rows = re.findall(r"^(cold|warm|second image|read by HTTP|in all) .*?([\d.]+|-)$", output, re.M)

    assert [
        ("cold", "1.00"),
        ("warm", "-"),
        ("second image", "1.00"),
        ("read by HTTP", "-"),
        ("in all", "1.00"),
    ] == rows


def test_nothing_left(shown: tuple[dict[str, Any], str, list[str]]) -> None:
    """After --stop no daemon runs."""
    _, _, left = shown

    assert [] == left


def test_keep_and_down(tmp_path: Path) -> None:
    """--keep leaves both daemons answering; --down ends them, and a second one finds nothing."""
    kept = run("--keep", "--dir", tmp_path)
    assert 0 == kept.returncode, kept.stderr
    try:
        records = json.loads((tmp_path / "demo.json").read_text())["daemons"]
        answers = [ready(record["address"]) for record in records]
    finally:
        down, again = run("--down", "--dir", tmp_path), run("--down", "--dir", tmp_path)

    assert [200, 200] == answers
    assert [] == processes_of(tmp_path)
    assert (0, 2) == (down.returncode, down.stdout.count("ended the "))
    assert (0, f"nothing of {tmp_path} runs\n") == (again.returncode, again.stdout)


def ready(address: str) -> int:
    """The status of /readyz."""
    with closing(http.client.HTTPConnection(address, timeout=10)) as connection:
        connection.request("GET", "/readyz")
        return connection.getresponse().status


def test_failing_step(tmp_path: Path) -> None:
    """A step that fails is one line and the end of a log, exit code 1, and no daemon is left."""
    programs, place = tmp_path / "bin", tmp_path / "run"
    programs.mkdir()
    (programs / "skopeo").write_text("#!/bin/sh\nexit 3\n")
    (programs / "skopeo").chmod(0o755)
    done = run("--keep", "--dir", place, path=str(programs))

    assert (1, []) == (done.returncode, processes_of(place))
    assert f"demo: skopeo ended with exit code 3\n-- the end of {place}/node.log:\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_folder_of_others(tmp_path: Path) -> None:
    """A folder that holds something else is refused, and left as it is."""
    file = tmp_path / "mine"
    file.write_text("text")
    done = run("--stop", "--dir", tmp_path)

    assert (1, [file]) == (done.returncode, list(tmp_path.iterdir()))
    assert f"demo: {tmp_path} is not empty" in done.stderr
