"""The ``config.json`` of a bundle, from an image's configuration. Pure.

Runtime specification 1.0 and image specification 1.1, "Conversion to OCI Runtime Configuration";
what those leave open is as docker has it: capabilities, mounts, what of /proc and /sys is hidden.

Invariants:
- the same image gives the same bytes for the same user;
- root's has a network of its own, with nothing in it; a user's shares the machine's, as no user
  could set up another one. Nothing else of the machine is seen, but for its resolver and hosts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from registryd.images.bundle.users import User
from registryd.oci.capabilities import ROOT_KEEPS
from registryd.oci.image_config import ImageConfig

_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CAPABILITIES: Final = tuple(ROOT_KEEPS)
_MASKED: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
_READ_ONLY: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_ANNOTATION: Final = "org.opencontainers.image."
_HOSTNAME_LENGTH: Final = 12

Mount = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Starter:
    """Who will start a bundle: root, or a user with these numbers, who is root inside.

    ``binds`` are files of the machine that the program sees (its resolver and names of hosts).
    """

    uid: int = 0
    gid: int = 0
    binds: tuple[str, ...] = ()

    @property
    def privileged(self) -> bool:
        """Whether it is root who starts it."""
        return self.uid == 0


def configuration(config: ImageConfig, user: User, digest: str, starter: Starter) -> bytes:
    """The bytes of config.json; ``digest`` is that of the image's manifest."""
    hostname = digest.partition(":")[2][:_HOSTNAME_LENGTH]
    document = {
        "ociVersion": "1.0.2",
        "process": _process(config, user, hostname, starter),
        "root": {"path": "rootfs", "readonly": False},
        "hostname": hostname,
        "mounts": [*_mounts(starter), *map(_bind, starter.binds)],
        "annotations": _annotations(config),
        "linux": _linux(starter),
    }
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def arguments(config: ImageConfig) -> Sequence[str]:
    """The program and its words; a shell where the image names none."""
    return (*config.entrypoint, *config.cmd) or ("sh",)


def environment(config: ImageConfig, user: User, hostname: str) -> list[str]:
    """The image's variables, with those that docker adds where they are missing."""
    env = [each for each in config.env if "=" in each[1:] and "\0" not in each]
    names = {each.partition("=")[0] for each in env}
    before = [] if "PATH" in names else [_PATH]
    added = {"HOSTNAME": hostname, "HOME": user.home}
    return [*before, *env, *(f"{name}={added[name]}" for name in added if name not in names)]


def _process(config: ImageConfig, user: User, hostname: str, starter: Starter) -> Mount:
    ids = user if starter.privileged else User()
    inside: dict[str, object] = {"uid": ids.uid, "gid": ids.gid}
    if ids.groups:
        inside["additionalGids"] = ids.groups
    # A process that is not root has them by programs that give them, and not by itself.
    effective = _CAPABILITIES if ids.uid == 0 else ()
    return {
        "terminal": False,
        "user": inside,
        "args": arguments(config),
        "env": environment(config, user, hostname),
        "cwd": f"/{config.working_dir}".replace("//", "/") if config.working_dir else "/",
        "capabilities": {
            "bounding": _CAPABILITIES,
            "effective": effective,
            "permitted": effective,
        },
    }


def _mounts(starter: Starter) -> list[Mount]:
    group = ["gid=5"] if starter.privileged else []
    return [
        _mount("/proc", "proc"),
        _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620",
            *group,
        ),
        _mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),  # noqa: S108 (inside)
        _mount("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        *_of_kernel(starter),
    ]  # fmt: skip


def _of_kernel(starter: Starter) -> list[Mount]:
    """A user's own namespace may not mount what belongs to the machine's network, but show it."""
    quiet = ("nosuid", "noexec", "nodev")
    if not starter.privileged:
        return [{**_bind("/sys"), "options": ["rbind", *quiet, "ro"]}]
    return [
        _mount("/sys", "sysfs", *quiet, "ro"),
        _mount("/sys/fs/cgroup", "cgroup", *quiet, "relatime", "ro"),
    ]


def _mount(target: str, kind: str, *options: str) -> Mount:
    found: dict[str, object] = {"destination": target, "type": kind, "source": kind}
    return {**found, "options": options} if options else found


def _bind(path: str) -> Mount:
    options = ["rbind", "nosuid", "nodev", "ro"]
    return {"destination": path, "type": "bind", "source": path, "options": options}


def _linux(starter: Starter) -> Mount:
    namespaces = ["pid", "ipc", "uts", "mount"]
    found: dict[str, object] = {"maskedPaths": _MASKED, "readonlyPaths": _READ_ONLY}
    if starter.privileged:
        namespaces.append("network")
        found["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    else:
        namespaces.append("user")
        for key, outside in (("uidMappings", starter.uid), ("gidMappings", starter.gid)):
            found[key] = [{"containerID": 0, "hostID": outside, "size": 1}]
    return {"namespaces": [{"type": each} for each in namespaces], **found}


def _annotations(config: ImageConfig) -> Mapping[str, str]:
    platform = config.platform
    said = {
        "os": platform.os,
        "architecture": platform.architecture,
        "variant": platform.variant,
        "author": config.author,
        "created": config.created,
        "stopSignal": config.stop_signal,
        "exposedPorts": ",".join(config.exposed_ports),
    }
    known = {f"{_ANNOTATION}{key}": value for key, value in said.items() if value}
    return {**known, **config.labels}
