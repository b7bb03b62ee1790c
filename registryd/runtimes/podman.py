"""podman, buildah, skopeo, CRI-O: ``registries.conf``, and the files of ``registries.conf.d``.

They know no mirror for all registries, so each has its table. The table with the longest prefix
counts; of two with the same, that of the later file. The mirror's path names the registry.
"""

from __future__ import annotations

from typing import Any

from registryd.oci.errors import UsageError
from registryd.runtimes.plan import Decision, File, Plan, Reading, Seen, blocked
from registryd.runtimes.toml import pair, parsed, table, tables

PROGRAMS = ("podman", "buildah", "skopeo", "crio")
OWN = "etc/containers/registries.conf.d/50-registryd.conf"
MAIN = "etc/containers/registries.conf"
LOOKS = (MAIN, "etc/containers/registries.conf.d/*.conf")
REGISTRIES = (
    "docker.io",
    "ghcr.io",
    "quay.io",
    "registry.k8s.io",
    "gcr.io",
    "public.ecr.aws",
    "mcr.microsoft.com",
    "nvcr.io",
)
#: The registry of a trial: nobody has it, and its mirror is the node's own registry.
MADE_UP = "registryd-doctor.invalid"
NODE = "localhost"

Table = dict[str, Any]


def content(address: str, registries: tuple[str, ...]) -> str:
    """A drop-in with a table for each registry."""
    return "\n".join(_table(name, {"location": f"{address}/{name}"}) for name in registries)


def _table(name: str, mirror: Table, *, insecure: bool = True) -> str:
    settings = {**mirror, "insecure": True} if insecure else mirror
    lines = ["[[registry]]", pair("location", name), "[[registry.mirror]]"]
    return "\n".join([*lines, *(pair(key, value) for key, value in settings.items())]) + "\n"


def decide(plan: Plan, seen: Seen) -> Decision:
    """One file, with the registries that no one else has a table for.

    Raises UsageError for a registry with a port, SetupBlocked for unreadable TOML.
    """
    registries = plan.registries or REGISTRIES
    _refuse_ports(registries)
    others = [each for each in _installed(seen) if each[0] != OWN or not seen.ours(OWN)]
    wanted, todo = [], []
    for name in registries:
        found = [(path, each) for path, each in others if _concerns(each, name)]
        if not found:
            wanted.append(name)
        elif not _mirror(found[-1][1], f"{plan.address}/{name}"):
            todo.append(
                f"/{found[-1][0]} has a table of its own for {name}: put below it"
                f' [[registry.mirror]] location = "{plan.address}/{name}" insecure = true'
            )
    otherwise = "move it away, and run this again"
    files = (File(OWN, content(plan.address, tuple(wanted)), otherwise),) if wanted else ()
    return blocked(Decision(files, tuple(todo)), seen)


def _refuse_ports(registries: tuple[str, ...]) -> None:
    for name in registries:
        if ":" in name:
            raise UsageError(
                f"{name}: podman takes no port in a mirror's path; give the registry a name without"
                ' one in the daemon\'s configuration ([registries."NAME"] endpoint = ...)'
            )


def _installed(seen: Seen) -> list[tuple[str, Table]]:
    """All tables in the order in which they are read, with their files."""
    paths = sorted(seen.files, key=lambda path: (path != MAIN, path))
    return [
        (path, each)
        for path in paths
        for each in tables(parsed(path, seen.files[path], "podman").get("registry"))
    ]


def _concerns(each: Table, name: str) -> bool:
    """Whether a table is for this registry: by name, or with others of its domain."""
    prefix = each.get("prefix") or each.get("location") or ""
    if not isinstance(prefix, str):
        return False
    return prefix == name or (prefix.startswith("*.") and name.endswith(prefix[1:]))


def _mirror(each: Table, location: str) -> Table:
    """The mirror of a table that is at this place; an empty one where there is none."""
    mirrors = tables(each.get("mirror"))
    return next((mirror for mirror in mirrors if mirror.get("location") == location), {})


def read(seen: Seen, known: frozenset[str]) -> Reading | None:
    """The registries whose tables ask us."""
    found: dict[str, Reading] = {}
    for path, each in _installed(seen):
        name = each.get("location")
        for mirror in tables(each.get("mirror")):
            address, _, rest = str(mirror.get("location")).partition("/")
            if rest and rest == name and (address in known or seen.marked(path)):
                found[rest] = Reading(address, (rest,), path, _trial(address, mirror))
    if not found:
        return None
    first = next(iter(found.values()))
    same = tuple(name for name, each in found.items() if each.address == first.address)
    return Reading(first.address, same, first.path, first.trial)


def _trial(address: str, mirror: Table) -> str:
    """A table like the one with this mirror, for the made-up registry."""
    plain = {k: v for k, v in table(mirror).items() if isinstance(v, (str, bool))}
    return _table(MADE_UP, {**plain, "location": f"{address}/{NODE}"}, insecure=False)
