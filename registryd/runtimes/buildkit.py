"""buildkitd: ``buildkitd.toml``, with a table for each registry. It has no drop-ins."""

from __future__ import annotations

from registryd.runtimes.plan import Decision, File, Plan, Reading, Seen, blocked
from registryd.runtimes.podman import REGISTRIES as REGISTRIES
from registryd.runtimes.toml import pair, parsed, table, texts

PROGRAMS = ("buildkitd",)
PATH = "etc/buildkit/buildkitd.toml"
LOOKS = (PATH,)
#: A builder in a container reaches this machine's loopback in this way only.
BUILDX = "docker buildx create --driver docker-container --driver-opt network=host"


def content(address: str, registries: tuple[str, ...]) -> str:
    """A buildkitd.toml with a mirror for each registry."""
    lines = [f'[registry."{address}"]', pair("http", True)]
    for name in registries:
        lines += ["", f'[registry."{name}"]', pair("mirrors", [f"{address}/{name}"])]
    return "\n".join(lines) + "\n"


def decide(plan: Plan, seen: Seen) -> Decision:
    """The file, where there is none. Raises SetupBlocked for unreadable TOML."""
    registries = plan.registries or REGISTRIES
    if PATH in seen.files and not seen.ours(PATH):
        found = _tables(seen)
        asks = [name for name in registries if f"{plan.address}/{name}" in _mirrors(found, name)]
        if len(asks) == len(registries) and table(found, plan.address).get("http") is True:
            return Decision()
    first = registries[0]
    otherwise = (
        f'put [registry."{first}"] mirrors = ["{plan.address}/{first}"] into it (one table a'
        f' registry) and [registry."{plan.address}"] http = true, then restart buildkitd'
    )
    notes = (
        "buildkitd reads it when it starts: systemctl restart buildkit",
        f"for docker buildx: {BUILDX} --buildkitd-config /{PATH}",
    )
    file = File(PATH, content(plan.address, registries), otherwise)
    return blocked(Decision((file,), (), (), notes), seen)


def _tables(seen: Seen) -> dict[str, object]:
    return table(parsed(PATH, seen.files.get(PATH, ""), "buildkitd"), "registry")


def _mirrors(found: dict[str, object], name: str) -> list[str]:
    return texts(table(found, name).get("mirrors"))


def read(seen: Seen, known: frozenset[str]) -> Reading | None:
    """The registries whose tables ask us."""
    found = _tables(seen)
    asked: dict[str, str] = {}
    for name in found:
        for mirror in _mirrors(found, name):
            address, _, rest = mirror.partition("/")
            if rest == name and (address in known or seen.marked(PATH)):
                asked[name] = address
    if not asked:
        return None
    first = next(iter(asked.values()))
    return Reading(first, tuple(name for name, each in asked.items() if each == first), PATH)
