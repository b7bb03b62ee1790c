"""``bundle:DIR``: what an image's configuration becomes, and that crun and runc start it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import gettempdir

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache.content import Descriptor
from registryd.images.bundle.configuration import Starter, configuration
from registryd.images.bundle.users import User, find_user
from registryd.images.errors import NotMade
from registryd.images.layers.names import Names
from registryd.images.layers.target import FlatTerms, open_flat
from registryd.oci.errors import UsageError
from registryd.oci.image_config import ImageConfig
from registryd.oci.platform import Platform
from registryd.transfer.copy import copy_image
from tests.fakes.endpoints import MemorySource, Sample, wire, written
from tests.images.layers.trees import layer, member, planned
from tests.real.dockerd import needs_root
from tests.real.runtimes import need

AMD64 = Platform("linux", "amd64")
PASSWD = b"root:x:0:0:root:/root:/bin/sh\nbad\n#x:x:1:1::/:\napp:x:1000:50::/home/app:/bin/sh\n"
PASSWD += b"far:x:99999999999:1::/:\n7:x:8:9::/seven:\n"
GROUP = b"root:x:0:\nstaff:x:50:app\nwheel:x:10:root,app\nbad:x:z:app\nmore:x:77:x,app\nno:x:88:\n"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.mark.parametrize(
    ("wanted", "user"),
    [
        ("", User(0, 0, (10,), "/root")),
        ("root", User(0, 0, (10,), "/root")),
        ("app", User(1000, 50, (10, 77), "/home/app")),
        ("1000", User(1000, 50, (10, 77), "/home/app")),
        ("app:wheel", User(1000, 10, (), "/home/app")),
        ("app:5", User(1000, 5, (), "/home/app")),
        ("2000", User(2000, 0)),
        ("2000:staff", User(2000, 50)),
        ("7", User(8, 9, (), "/seven")),
        (":wheel", User(0, 10, (), "/root")),
    ],
)
def test_who_the_program_is(wanted: str, user: User) -> None:
    """As docker looks them up in the image; a number needs no entry."""
    assert user == find_user(wanted, PASSWD, GROUP)


@pytest.mark.parametrize(
    "wanted", ["nobody", "far", "app:none", "99999999999", "-1", "app:99999999999", "²"]
)
def test_a_user_that_is_not_there(wanted: str) -> None:
    """It is refused, and is never root."""
    with pytest.raises(NotMade, match=r"is not in its /etc/(passwd|group)"):
        find_user(wanted, PASSWD, GROUP)


@given(st.text(max_size=30), st.binary(max_size=200), st.binary(max_size=200))
def test_any_files_give_a_user_or_none(wanted: str, passwd: bytes, group: bytes) -> None:
    """Whatever is in them: numbers that the kernel takes, or a refusal."""
    try:
        user = find_user(wanted, passwd, group)
    except NotMade:
        return

    assert all(0 <= each < 2**31 for each in (user.uid, user.gid, *user.groups))


def test_what_a_configuration_becomes() -> None:
    """Words, variables, annotations; docker's mounts; what a user may not mount is shown."""
    config = ImageConfig(
        platform=AMD64,
        created="2020-01-01T00:00:00Z",
        env=("A=1", "HOME=/mine", "none", "N=\0"),
        entrypoint=("e",),
        cmd=("c d",),
        working_dir="/w",
        stop_signal="SIGINT",
        exposed_ports=("80/tcp", "53/udp"),
        labels={"org.opencontainers.image.created": "label wins", "k": "ü"},
    )
    digest = f"sha256:{'ab' * 32}"
    made = configuration(config, User(5, 6, (7,)), digest, Starter(binds=("/etc/hosts",)))
    rootless = json.loads(configuration(config, User(5, 6), digest, Starter(1000, 100)))
    found = json.loads(made)
    process = found["process"]
    mounts = {each["destination"]: each["type"] for each in found["mounts"]}

    assert made == configuration(config, User(5, 6, (7,)), digest, Starter(binds=("/etc/hosts",)))
    assert (["e", "c d"], "/w", "abababababab") == (
        process["args"],
        process["cwd"],
        found["hostname"],
    )
    assert ["A=1", "HOME=/mine", "HOSTNAME=abababababab"] == process["env"][1:]
    assert process["env"][0].startswith("PATH=/usr/local/sbin:")
    assert {"uid": 5, "gid": 6, "additionalGids": [7]} == process["user"]
    assert ([], 14) == (
        process["capabilities"]["effective"],
        len(process["capabilities"]["bounding"]),
    )
    assert {
        "/proc": "proc",
        "/dev": "tmpfs",
        "/dev/pts": "devpts",
        "/dev/shm": "tmpfs",
        "/dev/mqueue": "mqueue",
        "/sys": "sysfs",
        "/sys/fs/cgroup": "cgroup",
        "/etc/hosts": "bind",
    } == mounts
    assert "label wins" == found["annotations"]["org.opencontainers.image.created"]
    assert "53/udp" in found["annotations"]["org.opencontainers.image.exposedPorts"]
    assert "/proc/kcore" in found["linux"]["maskedPaths"]
    assert "/proc/sys" in found["linux"]["readonlyPaths"]
    assert {"uid": 0, "gid": 0} == rootless["process"]["user"]
    assert [{"containerID": 0, "hostID": 100, "size": 1}] == rootless["linux"]["gidMappings"]
    assert ["sh"] == json.loads(
        configuration(ImageConfig(platform=AMD64), User(), digest, Starter())
    )["process"]["args"]


@pytest.mark.parametrize(
    ("link", "path"),
    [
        ("/usr/share/passwd", b"usr/share/passwd"),
        ("../usr/share/passwd", b"usr/share/passwd"),
        ("../../../../usr/share/passwd", b"usr/share/passwd"),
        ("./../usr/./share//passwd", b"usr/share/passwd"),
        ("passwd", None),
        ("/usr/share", None),
        ("/", None),
        ("..", None),
        ("/usr/share/..", None),
        ("/none/x", None),
    ],
)
def test_a_file_is_looked_up_inside(link: str, path: bytes | None) -> None:
    """A link is followed from the image's top; it never leads to a file of the machine."""
    plan = planned(layer(member("etc/passwd", kind="l", link=link), member("usr/share/passwd")))

    assert path == Names(plan).file("etc/passwd")


def busybox(**config: object) -> Sample:
    """An image with a shell and a user."""
    files = layer(
        member("bin/busybox", Path(need("busybox")).read_bytes(), mode=0o755),
        *(
            member(f"bin/{name}", kind="l", link="busybox")
            for name in ("sh", "id", "pwd", "env", "hostname", "mount", "ls")
        ),
        member("etc/passwd", kind="l", link="/usr/passwd"),
        member("usr/passwd", PASSWD),
        member("etc/group", GROUP),
        member("home/app", kind="d", uid=1000, gid=50),
    )
    descriptor = Descriptor.of("application/vnd.oci.image.layer.v1.tar", files)
    rootfs = {"type": "layers", "diff_ids": [str(descriptor.digest)]}
    raw = json.dumps({"os": "linux", "architecture": "amd64", "config": config, "rootfs": rootfs})
    configured = Descriptor.of("application/vnd.oci.image.config.v1+json", raw.encode())
    root = written(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": wire(configured),
            "layers": [wire(descriptor)],
        }
    )
    blobs = {descriptor.digest: files, configured.digest: raw.encode()}
    return Sample(root, {root.digest: root}, blobs)


async def bundled(path: Path, sample: Sample) -> list[str]:
    """Make the bundle of an image; what was warned of."""
    warned: list[str] = []
    terms = FlatTerms(dict(os.environ), warned.append)
    async with open_flat("bundle", path, spool=Path(gettempdir()), terms=terms) as sink:
        await copy_image(MemorySource(sample), sink)
    return warned


SCRIPT = 'pwd; id; echo "$V|$HOME"; hostname; ls -d /vol; mount'
#: crun does not take the mix of old and new control groups that some machines have.
CGROUPS = "[ ! -d /sys/fs/cgroup/unified ] || mount --bind /sys/fs/cgroup/unified /sys/fs/cgroup\n"
#: An ordinary user, who has no name here.
SOMEBODY = 4321


@pytest.fixture
def ground() -> Iterator[Path]:
    """A folder that any user reaches."""
    folder = Path(tempfile.mkdtemp(prefix="registryd-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_somebody(work: Callable[[], object]) -> None:
    """Do this in a process that is not root; what it raises fails the test."""
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setgroups([])
            os.setgid(SOMEBODY)
            os.setuid(SOMEBODY)
            work()
            status = 0
        finally:
            os._exit(status)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@needs_root
@pytest.mark.parametrize("whose", ["root", "user"])
@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_a_runtime_starts_it(ground: Path, runtime: str, whose: str) -> None:
    """Both runtimes, for root and for a user in a namespace of their own."""
    need(runtime)
    config = {
        "User": "app",
        "Env": ["PATH=/bin", "V=a b"],
        "Entrypoint": ["sh", "-c"],
        "Cmd": [SCRIPT],
        "WorkingDir": "/work/here",
        "Volumes": {"/vol": {}},
    }
    bundle, sample = ground / "bundle", busybox(**config)
    warnings = ground / "warnings"

    def make() -> None:
        said = asyncio.run(bundled(bundle, sample))
        warnings.write_text("".join(said))

    if whose == "user":
        os.chown(ground, SOMEBODY, SOMEBODY)
        as_somebody(make)
    else:
        make()
    ids = [f"--reuid={SOMEBODY}", f"--regid={SOMEBODY}", "--clear-groups"]
    flags = ["--root", str(ground / "state")]
    flags += ["--cgroup-manager=disabled"] if runtime == "crun" else []
    start = [runtime, *flags, "run", "-b", str(bundle), f"test-{os.getpid()}-{runtime}-{whose}"]
    words = ["setpriv", *(ids if whose == "user" else ["--clear-groups"]), *start]
    script = f'{CGROUPS if runtime == "crun" else ""}exec "$@"'
    ran = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script, "sh", *words],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(ground)},
    )
    assert 0 == ran.returncode, ran
    lines = ran.stdout.splitlines()
    who = {"root": "uid=1000(app) gid=50(staff) groups=10(wheel),", "user": "uid=0(root) gid=0("}

    assert ("/work/here", "a b|/home/app", 12) == (lines[0], lines[2], len(lines[3]))
    assert lines[1].startswith(who[whose])
    assert "/vol" in lines
    assert "mqueue on /dev/mqueue type mqueue" in ran.stdout
    assert "proc on /proc/sys type proc (ro" in ran.stdout
    said = warnings.read_text()
    assert ("is you: no other number" in said) == (whose == "user"), said
    assert 0o700 == bundle.stat().st_mode & 0o777


async def test_what_is_left_of_a_failure(tmp_path: Path) -> None:
    """A user that the image does not have is one line, and nothing is left."""
    with pytest.raises(NotMade, match="the image's user 'ghost' is not in its /etc/passwd"):
        await bundled(tmp_path / "x", busybox(User="ghost"))
    (tmp_path / "full/x").mkdir(parents=True)
    with pytest.raises(UsageError, match="a bundle goes into a new folder or an empty one"):
        await bundled(tmp_path / "full", busybox())

    assert ["full"] == os.listdir(tmp_path)
