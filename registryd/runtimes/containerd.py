"""containerd (and nerdctl, ctr, Kubernetes through it): ``certs.d/HOST/hosts.toml``.

``_default`` stands for every registry that has no folder of its own, be it empty. The files are
read at each pull. Kubernetes looks into the folder only if containerd's ``config_path`` names it.
"""

from __future__ import annotations

from typing import Any

from registryd.runtimes.plan import Decision, File, Plan, Reading, Seen, blocked
from registryd.runtimes.toml import pair, parsed, table, texts

PROGRAMS = ("containerd", "ctr", "nerdctl")
CONFIG = "etc/containerd/config.toml"
CERTS = "etc/containerd/certs.d"
LOOKS = (CONFIG, "etc/containerd/conf.d/*.toml", f"{CERTS}/*", f"{CERTS}/*/*")
DEFAULT = "_default"
REGISTRIES = (DEFAULT,)
CAPABILITIES = ["pull", "resolve"]
#: A daemon on this machine takes a connection at once; containerd itself waits 30 s.
DIAL_TIMEOUT = "200ms"
#: The table of config.toml that has config_path, by the file's version.
CRI = {2: ("io.containerd.grpc.v1.cri", "registry"), 3: ("io.containerd.cri.v1.images", "registry")}


def content(address: str) -> str:
    """A hosts.toml that asks this address first."""
    lines = [f'[host."http://{address}"]', pair("capabilities", CAPABILITIES)]
    return "\n".join([*lines, pair("dial_timeout", DIAL_TIMEOUT)]) + "\n"


def decide(plan: Plan, seen: Seen) -> Decision:
    """One file for each registry, or for ``_default``. Raises SetupBlocked for unreadable TOML."""
    names = [registry for registry in plan.registries if registry != DEFAULT] or [DEFAULT]
    files, todo = [], []
    for name in names:
        folder, path = f"{CERTS}/{name}", f"{CERTS}/{name}/hosts.toml"
        others = sorted(p for p in seen.files if p.startswith(f"{folder}/") and p != path)
        if path in seen.files and not seen.ours(path) and _asks(seen, path, plan.url):
            continue
        if others and path not in seen.files:
            todo.append(
                f"/{folder} holds {others[0].rpartition('/')[2]}, which a hosts.toml would switch"
                f" off: write /{path} yourself, with it and {_line(plan.url)}"
            )
            continue
        otherwise = f"put {_line(plan.url)} into it, above its other hosts"
        files.append(File(path, content(plan.address), otherwise))
    config, notes = _config(seen)
    exceptions = _exceptions(plan, seen) if names == [DEFAULT] else ()
    return blocked(Decision(tuple(files), (*todo, *config), exceptions, notes), seen)


def _line(url: str) -> str:
    return f'[host."{url}"] capabilities = ["pull", "resolve"]'


def _hosts(seen: Seen, path: str) -> dict[str, Any]:
    return table(parsed(path, seen.files[path], "containerd"), "host")


def _asks(seen: Seen, path: str, url: str) -> bool:
    return any(host.rstrip("/") == url for host in _hosts(seen, path))


def _exceptions(plan: Plan, seen: Seen) -> tuple[str, ...]:
    """The folders for which ``_default`` does not count, and which do not ask us themselves."""
    found = []
    for folder in sorted(seen.folders):
        above, _, name = folder.rpartition("/")
        path = f"{folder}/hosts.toml"
        if above != CERTS or name == DEFAULT:
            continue
        if path in seen.files and _asks(seen, path, plan.url):
            continue
        put = f"put {_line(plan.url)} into /{path}"
        empty = not any(each.startswith(f"{folder}/") for each in seen.files)
        way = f"remove the empty folder, or {put}" if empty else put
        found.append(f"/{folder} is there, so {DEFAULT} does not count for {name}: {way}")
    return tuple(found)


def _config(seen: Seen) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What is to do, and to know, so that Kubernetes uses the folder."""
    paths = sorted(path for path in seen.files if not path.startswith(f"{CERTS}/"))
    version, off = 2, False
    for path in paths:
        value = parsed(path, seen.files[path], "containerd")
        version = 3 if value.get("version") == 3 else version
        off |= any(plugin.endswith("cri") for plugin in texts(value.get("disabled_plugins")))
        for keys in CRI.values():
            named = table(value, "plugins", *keys).get("config_path")
            if isinstance(named, str) and f"/{CERTS}" in named.split(":"):
                return (), ()
    plugin, key = CRI[version]
    put = f'config_path = "/{CERTS}" under [plugins."{plugin}".{key}]'
    if off:
        return (), ()
    if CONFIG not in seen.files:
        return (), (f"for Kubernetes, /{CONFIG} must say {put}; ctr wants --hosts-dir /{CERTS}",)
    line = f"/{CONFIG} does not name /{CERTS}: put {put} into it, and restart containerd"
    return (line,), ()


def read(seen: Seen, known: frozenset[str]) -> Reading | None:
    """The first hosts.toml that asks us; ``_default`` before others."""
    paths = [path for path in seen.files if path.startswith(CERTS) and path.endswith("/hosts.toml")]
    found: list[Reading] = []
    for path in sorted(paths, key=lambda path: (f"/{DEFAULT}/" not in path, path)):
        for host, entry in _hosts(seen, path).items():
            address = host.partition("://")[2].rstrip("/")
            if address in known or seen.marked(path):
                name = path.split("/")[-2]
                found.append(Reading(address, (name,), path, _trial(host, entry)))
    if not found:
        return None
    first = found[0]
    same = [each.registries[0] for each in found if each.address == first.address]
    return Reading(first.address, tuple(dict.fromkeys(same)), first.path, first.trial)


def _trial(host: str, entry: object) -> str:
    """This host with its settings, and behind it nobody: ``.invalid`` never resolves (RFC 2606)."""
    plain = {k: v for k, v in table(entry).items() if isinstance(v, (str, bool, list))}
    lines = [pair("server", "http://registryd-doctor.invalid"), f'[host."{host}"]']
    return "\n".join([*lines, *(pair(key, value) for key, value in plain.items())]) + "\n"
