"""registryd at work, with no outside network: one image, one node, each byte fetched once.

    scripts/run [--keep | --stop | --down] [--dir DIR] [--json FILE]

Two daemons run on free loopback ports: an origin, which is a plain registry, and a node, which
knows the origin as its upstream ``origin.test``. Two images made of this machine's files are pushed
to the origin and pulled through the node: the first one cold and warm, then one that shares its
layers. Then the node is read over HTTP as a runtime reads it, and by skopeo where there is one.

Invariants:
- whatever goes wrong is one line, the end of the log of the daemon concerned, and exit code 1;
- no daemon is left running, except on ``--keep``.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

if not __package__:  # run as a command: the folder above makes this one importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.demo_daemons import Daemon, DemoFailed, start, wait_ready
from scripts.demo_image import make_images
from scripts.demo_place import Place, earlier, fresh
from scripts.demo_steps import CHECKOUT, ORIGIN, Stage, environment, program
from scripts.demo_table import Results

#: Of this machine's files, what the image has as its data (MB, unpacked).
DATA_MB = 100
DEFAULT_DIR = CHECKOUT / ".run"
LOG_TAIL = 12
INTERRUPTED = 130

ORIGIN_CONFIG = """\
# A plain registry: a path without a registry's name means its own images.
[daemon]
socket = {socket}
socket_mode = 0o600
drain_timeout = "5s"
[[daemon.listen]]
address = "127.0.0.1:0"
default_registry = "localhost"
[cache]
root = {root}
"""
NODE_CONFIG = """\
# The daemon of a node: {name} is where the origin listens, other registries are the real ones.
[daemon]
socket = {socket}
socket_mode = 0o600
drain_timeout = "5s"
[[daemon.listen]]
address = "127.0.0.1:0"
[cache]
root = {root}
[registries."{name}"]
endpoint = "{endpoint}"
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    options = _parser().parse_args(arguments)
    options.dir = options.dir.absolute()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        return _down(options.dir) if options.down else _show(options)
    except DemoFailed as failure:
        print(f"demo: {failure}", file=sys.stderr)
        if failure.log is not None:
            _print_tail(failure.log)
        return 1
    except OSError as error:  # a full disk, results that cannot be written, a reader that left
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/run", description="Show registryd at work, with no outside network."
    )
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--keep", action="store_true", help="leave both daemons running")
    end.add_argument(
        "--stop", action="store_true", help="end both at once (default on a terminal: on Enter)"
    )
    end.add_argument("--down", action="store_true", help="end what --keep has left, and no more")
    parser.add_argument("--dir", type=Path, default=DEFAULT_DIR, help="default: .run here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument(
        "--data",
        type=int,
        default=DATA_MB,
        metavar="MB",
        help="of the image (default: %(default)s)",
    )
    return parser


def _leave(number: int, _frame: object) -> None:
    """Be told to end: by an exception, so that the daemons are ended on the way out."""
    sys.exit(128 + number)


# The ends


def _down(root: Path) -> int:
    with earlier(root) as place:
        ended = place.stop_all()
    for daemon in ended:
        print(f"ended the {daemon.name} (process {daemon.pid})")
    if not ended:
        print(f"nothing of {root} runs")
    return 0


def _show(options: argparse.Namespace) -> int:
    waits = sys.stdin.isatty() and not (options.keep or options.stop)
    kept = False
    with fresh(options.dir) as place:
        try:
            stage = _daemons(place)
            results = _steps(stage, place.root / "image", options.data * 10**6)
            if options.json is not None:
                options.json.write_text(json.dumps(results.as_json(), indent=2) + "\n")
            print("", *results.lines(), sep="\n", flush=True)
            if options.keep or waits:
                print("", *_usage(stage, waits=waits), sep="\n", flush=True)
            if waits:
                _wait_for_enter()
            kept = options.keep
        finally:
            if not kept:
                place.stop_all()
    if kept:
        print(f"\nBoth daemons run. To end them: {_command('--down', options.dir)}")
    else:
        print(f"\nBoth daemons are stopped. Configurations, logs and caches are in {options.dir}")
    return 0


def _command(flag: str, root: Path) -> str:
    words = ["scripts/run", flag]
    return shlex.join(words if root == DEFAULT_DIR else [*words, "--dir", str(root)])


def _wait_for_enter() -> None:
    """Ctrl-C and Ctrl-D mean the same here."""
    try:
        input("\nBoth daemons run until you press Enter. ")
    except (EOFError, KeyboardInterrupt):
        print()


def _usage(stage: Stage, *, waits: bool) -> list[str]:
    """How to go on with the two daemons."""
    ctl = " ".join(program("registryctl", "registryd.cli.main"))
    node = stage.node
    alpine = f"docker://{node.address}/docker.io/library/alpine"
    return [
        f"The node listens on {node.socket} and {node.address}.",
        "Things to try:" if not waits else "Things to try in another terminal:",
        "",
        f"  export REGISTRYD_SOCKET={node.socket}",
        f"  {ctl} images",
        f"  {ctl} pull alpine        # from Docker Hub",
        f"  curl {node.base}/v2/{ORIGIN}/demo/app/tags/list",
        f"  skopeo copy --src-tls-verify=false {alpine} oci:alpine",
    ]


def _print_tail(log: Path) -> None:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return
    print(f"-- the end of {log}:", *lines[-LOG_TAIL:], sep="\n", file=sys.stderr)


# The daemons


def _daemons(place: Place) -> Stage:
    """Both daemons, answering. Raises DemoFailed."""
    home = place.root / "home"
    home.mkdir()
    environ = environment(home, os.environ)
    origin = _daemon(place, "origin", ORIGIN_CONFIG, environ)
    endpoint = f"http://{origin.address}"
    node = _daemon(place, "node", NODE_CONFIG, environ, name=ORIGIN, endpoint=endpoint)
    return Stage(origin, node, environ, place.root)


def _daemon(
    place: Place, which: str, config: str, environ: dict[str, str], **values: str
) -> Daemon:
    """Begin a daemon, and wait until it answers. Raises DemoFailed."""
    sock, log = place.sockets / f"{which}.sock", place.root / f"{which}.log"
    file = place.root / f"{which}.toml"
    # A JSON string is a TOML string, whatever the path has in it.
    paths = {"socket": json.dumps(str(sock)), "root": json.dumps(str(place.root / which))}
    file.write_text(config.format(**paths, **values))
    command = [*program("registryd", "registryd.daemon"), "--config", str(file)]
    daemon, process = start(which, command, environ, sock, log)
    place.record(daemon)
    daemon = replace(daemon, address=wait_ready(daemon, process))
    place.record(daemon)
    print(f"{which}: process {daemon.pid} on {daemon.address}", flush=True)
    return daemon


# The steps


def _steps(stage: Stage, layout: Path, data_bytes: int) -> Results:
    """What is shown, step by step. Raises DemoFailed."""
    _heading("two images of this machine's files")
    began = time.monotonic()
    try:
        first, second = make_images(layout, data_bytes)
    except (OSError, subprocess.CalledProcessError) as error:
        raise DemoFailed(f"the image cannot be made: {error}") from error
    for image in (first, second):
        print(f"{image.digest}  {image.size:,} bytes in {len(image.blobs)} blobs")
    print(f"made in {time.monotonic() - began:.1f} s")
    _heading("pushed to the origin")
    pushes = (stage.push(layout, first), stage.push(layout, second))
    _heading("pulled through the node, cold: nothing is held")
    cold = stage.pull(first)
    _heading("pulled again, warm: everything is held")
    warm = stage.pull(first)
    _heading("the second image: only its own layer is fetched")
    other = stage.pull(second)
    _heading("read from the node as a runtime does")
    reading = stage.read(first)
    skopeo = stage.skopeo(first)
    return Results((first, second), pushes, cold, warm, other, reading, skopeo, stage.keeps())


def _heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
