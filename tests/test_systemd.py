"""The units: systemd takes them without a word, they confine well, and agree with the code."""

import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from registryd.config import default_config, system_places
from registryd.systemd import notify
from registryd.units import parse_duration

UNITS = Path(__file__).parent.parent / "systemd"
#: The highest exposure (0 to 10) that systemd may find in the unit.
MOST_EXPOSED = 2.0

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None
    or not (os.geteuid() == 0 or Path("/run/systemd").is_dir()),
    reason="systemd-analyze is not here, or needs root to make /run/systemd",
)


def settings(name: str) -> dict[str, list[str]]:
    """The settings of a unit: key -> its values in order."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", (UNITS / name).read_text(), re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The outcome of systemd-analyze."""
    command = ["systemd-analyze", "--no-pager", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units with programs that exist."""
    for name in ("registryd.service", "registryd.socket"):
        text = (UNITS / name).read_text()
        text = re.sub("/opt/registryd/bin/registryd|/bin/kill", "/bin/true", text)
        (tmp_path / name).write_text(text)
    return tmp_path


@needs_systemd
def test_units_are_valid(installed: Path) -> None:
    """systemd finds nothing to say about our units, not even a warning."""
    run = analyze(
        "verify", "--man=no", installed / "registryd.service", installed / "registryd.socket"
    )
    ours = [line for line in run.stderr.splitlines() if "registryd" in line]

    assert ([], 0) == (ours, run.returncode), run.stderr


@needs_systemd
def test_verify_would_speak(installed: Path) -> None:
    """A misspelt setting is noticed: the test above can fail."""
    unit = installed / "registryd.service"
    unit.write_text(unit.read_text().replace("ProtectHome", "ProtectHomes"))

    assert "ProtectHomes" in analyze("verify", "--man=no", unit).stderr


@needs_systemd
def test_service_is_confined(installed: Path) -> None:
    """What an intruder could reach from the daemon is little."""
    run = analyze("security", "--offline=true", installed / "registryd.service")
    match = re.search(r"Overall exposure level for registryd.service: ([0-9.]+)", run.stdout)

    assert match, run.stdout + run.stderr
    assert float(match[1]) <= MOST_EXPOSED


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not here")
def test_user_is_made(tmp_path: Path) -> None:
    """The user that the service runs as is the one that sysusers makes."""
    (tmp_path / "etc").mkdir()
    command = ["systemd-sysusers", f"--root={tmp_path}", str(UNITS / "registryd.sysusers.conf")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    users = (tmp_path / "etc/passwd").read_text()

    assert 0 == run.returncode, run.stderr
    assert [users.split(":")[0]] == settings("registryd.service")["User"]


def test_units_agree_with_the_defaults() -> None:
    """Paths, addresses, modes and times of the units are those of the code."""
    places = system_places()
    daemon = default_config(places).daemon
    service, socket = settings("registryd.service"), settings("registryd.socket")
    addresses = [str(daemon.socket), *(listen.address for listen in daemon.listen)]

    assert addresses == socket["ListenStream"]
    assert daemon.socket_mode == int(socket["SocketMode"][0], 8)
    assert [f"/opt/registryd/bin/registryd --config {places.config}"] == service["ExecStart"]
    assert [places.root.name] == service["StateDirectory"]
    assert daemon.drain_timeout < parse_duration(service["TimeoutStopSec"][0])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give capabilities away")
def test_what_the_gateway_needs_is_said(tmp_path: Path) -> None:
    """With the capabilities that the page names a user's file is read as that user; with none, as
    in the unit, it is not."""
    said = re.search(r"^CapabilityBoundingSet=(.+)$", (UNITS / "README.md").read_text(), re.M)
    assert said
    named = "".join(f",+{each.removeprefix('CAP_').lower()}" for each in said[1].split())
    words = f"""
from pathlib import Path
from registryd.gateway.handing import copy_as
from registryd.gateway.record import Account
try:
    copy_as(Account(61011, 61011), "/etc/passwd", Path({str(tmp_path)!r}, "x"), lambda fd: None)
except Exception as error:
    print(error)
"""
    found = []
    for more in ("", named):
        bound = ["setpriv", f"--bounding-set=-all{more}", "--inh-caps=-all", "--no-new-privs"]
        run = subprocess.run(
            [*bound, sys.executable, "-c", words],
            capture_output=True,
            text=True,
            cwd=UNITS.parent,
            check=True,
        )
        found.append("Operation not permitted" in run.stdout)
        (tmp_path / "x").unlink()

    assert [True, False] == found
    assert "" == run.stdout


def test_a_manager_that_has_gone(tmp_path):
    """A service manager that does not listen any more ends no daemon."""
    path = tmp_path / "notify"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(str(path))
        notify({"NOTIFY_SOCKET": str(path)}, "READY=1")

        assert b"READY=1" == manager.recv(100)
    for place in (path, tmp_path / "none"):
        notify({"NOTIFY_SOCKET": str(place)}, "WATCHDOG=1")
