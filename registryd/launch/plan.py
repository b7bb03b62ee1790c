"""From an image's configuration, the flags and the caller to what is started: the rules.

Invariants:
- a plan is a value: the same image, flags, caller and files give the same plan;
- what it says is enough for each of the ways to carry it out, and none adds to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from registryd.launch.binds import SYSTEM, read_binds, shadows
from registryd.launch.dev_folder import dev_mounts
from registryd.launch.edits import Bind, Edits, EnvChange
from registryd.launch.environment import environment
from registryd.launch.errors import LaunchRefused
from registryd.launch.files import Files, Machine
from registryd.launch.identity import Identity, Person, group_of, identity, passwd_of
from registryd.launch.view import Mount, Step, steps
from registryd.oci.image_config import ImageConfig

#: Mounts of the kernel's own; devices, terminals and /dev/shm are the machine's, as MPI needs them.
_KERNEL = (Mount("/proc", "/proc"), Mount("/sys", "/sys"))
#: What every program expects to be the machine's.
_NETWORK = ("/etc/hosts", "/etc/resolv.conf", "/etc/localtime")
_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 - places of the image, as every container has them
#: A caller's folder below these is not brought along: it is the machine's system.
_NOT_BROUGHT = ("/boot/", *(f"{path}/" for path in sorted(SYSTEM - {"/"})))


@dataclass(frozen=True, slots=True)
class Flags:
    """What the caller asks for; the words of ``run REF [-- ARGS]`` and its flags."""

    verb: str = "run"
    words: tuple[str, ...] = ()
    entrypoint: str | None = None
    env: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    clear_env: bool = False
    binds: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    home: str = ""
    no_home: bool = False
    no_mounts: bool = False
    writable: bool = False

    def __post_init__(self) -> None:
        if self.workdir and not self.workdir.startswith("/"):
            raise LaunchRefused(f"--workdir {self.workdir} is not an absolute path of the image")
        if self.verb == "exec" and not self.words:
            raise LaunchRefused("exec needs a command (write exec REF -- COMMAND)")
        if self.home and self.no_home:
            raise LaunchRefused("--home and --no-home say opposite things: give one of the two")


@dataclass(frozen=True, slots=True)
class Site:
    """What the machine's owner adds for all, as ``[run]`` has it."""

    binds: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    home: bool = True


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, from where, with which environment."""

    person: Person
    cwd: str
    environ: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Wish:
    """All that a plan is made of but the image's files.

    The image is what it is called, the digest of its manifest, and its configuration; ``scripted``
    is one whose configuration nobody has: the scripts in it, if it has any, know what to do.
    """

    name: str
    digest: str
    config: ImageConfig
    flags: Flags
    caller: Caller
    site: Site = Site()
    edits: Edits = Edits()  # noqa: RUF009 - frozen
    scripted: bool = False

    @property
    def shape(self) -> str:
        """What two commands must have in common that are to see the same files, as one text."""
        flags, caller = self.flags, self.caller
        person = caller.person
        parts = (
            *(self.digest, flags.binds, flags.user, flags.home, flags.no_home, flags.no_mounts),
            *(flags.writable, self.site.binds, self.site.home, self.edits.binds),
            *(self.edits.devices, caller.cwd, person.uid, person.gid, person.home),
        )
        return repr(parts)


@dataclass(frozen=True, slots=True)
class Launch:
    """What is started: command, environment, user, and the view of files in its order.

    It begins in the first of the folders that it may enter.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(hash=False)
    folders: tuple[str, ...]
    user: Identity
    steps: tuple[Step, ...]


def plan(wish: Wish, files: Files, machine: Machine | None) -> Launch:
    """What to start, in an image with these files. Raises LaunchRefused.

    Without the machine's files nothing is said of mounts: the view is there already.
    """
    flags, caller, person = wish.flags, wish.caller, wish.caller.person
    passwd, group = files.text("/etc/passwd"), files.text("/etc/group")
    who = identity(flags.user, person, passwd, group)
    home = _home(flags, person, wish.site)
    shell = "/bin/bash" if files.kind("/bin/bash") != "none" else "/bin/sh"
    names = (
        Mount("/etc/passwd", text=passwd_of(passwd, who, person, home.target, shell)),
        Mount("/etc/group", text=group_of(group, who, person)),
    )
    mounts = _mounts(wish, home, (*dev_mounts(wish.edits.devices, machine), *names))
    folders = _folders(wish, mounts)
    site = Edits(env=tuple(_change(entry) for entry in wish.site.env))
    env = environment(
        caller.environ,
        wish.config.env,
        site + wish.edits,
        own=_own(wish, home.target, shell),
        files=flags.env_files,
        given=flags.env,
        clear=flags.clear_env,
    )
    view = () if machine is None else steps(files, machine, mounts, writable=flags.writable)
    action = f"/.singularity.d/actions/{flags.verb}"
    if wish.scripted and flags.entrypoint is None and files.kind(action) == "file":
        argv: tuple[str, ...] = (action, *flags.words)
    else:
        argv = _argv(wish.config, flags, shell)
    return Launch(argv, env, folders, who, view)


def _mounts(wish: Wish, home: Bind, names: Sequence[Mount]) -> list[Mount]:
    """All mounts in their order: the system's, the caller's, the site's, edits, the flags'."""
    cwd = wish.caller.cwd
    mounts = [*_system(wish.flags), *names, *_brought(wish.flags, wish.caller, home)]
    site = [bind for text in wish.site.binds for bind in read_binds(text, cwd)]
    mounts += [_mount(bind) for bind in (*site, *wish.edits.binds)]
    mounts += [Mount(each.target, each.source, devices=True) for each in wish.edits.devices]
    given = [bind for text in wish.flags.binds for bind in read_binds(text, cwd)]
    return mounts + [_mount(bind) for bind in given]


def _argv(config: ImageConfig, flags: Flags, shell: str) -> tuple[str, ...]:
    """Entrypoint and command by docker's rules; ``exec`` and ``shell`` know neither."""
    if flags.verb == "exec":
        return flags.words
    if flags.verb == "shell":
        return (shell, *(("--norc",) if shell.endswith("bash") else ()), *flags.words)
    if flags.entrypoint is None:
        argv = config.entrypoint + (flags.words or config.cmd)
    else:  # the image's own command belongs to its own entrypoint
        argv = (*filter(None, (flags.entrypoint,)), *flags.words)
    if not argv or not argv[0]:
        raise LaunchRefused(
            "the image says nothing of what to run: name a command (run REF -- CMD)"
        )
    return argv


def _system(flags: Flags) -> list[Mount]:
    """The kernel's folders, those for temporary files, and files of the network and the time."""
    own = [Mount(path, optional=True, mode=0o1777) for path in _TEMPORARY]
    shared = [Mount(path, path, optional=True) for path in _TEMPORARY]
    files = [Mount(path, path, read_only=True, optional=True) for path in _NETWORK]
    return [*_KERNEL, *(own if flags.no_mounts else shared), *files]


def _home(flags: Flags, person: Person, site: Site) -> Bind:
    """The home folder, from where and to where; ``optional``: nothing is bound."""
    if flags.home:
        source, _, target = flags.home.partition(":")
        return Bind(source, target or source)
    left_out = flags.no_home or flags.no_mounts or not site.home
    home = person.home if person.home.startswith("/") else "/"
    return Bind(home, home, optional=left_out or home == "/")


def _brought(flags: Flags, caller: Caller, home: Bind) -> list[Mount]:
    """The caller's home and the folder that they are in."""
    found = []
    if not home.optional:
        found.append(Mount(home.target, home.source, optional=not flags.home))
    cwd = caller.cwd
    covered = [mount.target for mount in found if mount.target == mount.source]
    covered += _TEMPORARY
    system = f"{cwd}/".startswith(_NOT_BROUGHT) or shadows(cwd)
    left_out = flags.no_home and cwd == caller.person.home
    if not flags.no_mounts and not system and not left_out and not _within(cwd, covered):
        found.append(Mount(cwd, cwd, optional=True))
    return found


def _within(path: str, folders: Sequence[str]) -> bool:
    return any(f"{path}/".startswith(f"{folder.rstrip('/')}/") for folder in folders)


def _mount(bind: Bind) -> Mount:
    return Mount(bind.target, bind.source, read_only=bind.read_only, optional=bind.optional)


def _folders(wish: Wish, mounts: Sequence[Mount]) -> tuple[str, ...]:
    """Where the command begins: as asked, else where the caller is if that is seen there too."""
    flags, caller = wish.flags, wish.caller
    if flags.workdir:
        return (flags.workdir,)
    image = wish.config.working_dir
    own = (image, "/") if image.startswith("/") else ("/",)
    here = [mount for mount in mounts if mount.source and _within(caller.cwd, [mount.target])]
    if not flags.no_mounts and here and here[-1].source == here[-1].target:
        return (caller.cwd, *own)
    return own


def _change(entry: str) -> EnvChange:
    """A variable that the site sets. Raises LaunchRefused."""
    name, equals, value = entry.partition("=")
    if not equals:
        raise LaunchRefused(f"[run] env: {entry!r} sets no variable (write NAME=VALUE)")
    return EnvChange(name, value)


def _own(wish: Wish, home: str, shell: str) -> dict[str, str]:
    """What is ours to say of the environment."""
    own = {
        "HOME": home,
        "SHELL": shell,
        "REGISTRYD_IMAGE": wish.name,
        "REGISTRYD_IMAGE_DIGEST": wish.digest,
    }
    if wish.flags.verb == "shell":
        own["PS1"] = f"[{wish.name.rpartition('/')[2]}] \\w> "
    return own
