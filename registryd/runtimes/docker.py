"""dockerd: ``registry-mirrors`` in ``daemon.json``, for Docker Hub alone.

JSON has neither drop-ins nor comments: the file is written only where there is none, and its mark
is in a file beside it.
"""

from __future__ import annotations

import json
from typing import Any

from registryd.runtimes.errors import SetupBlocked
from registryd.runtimes.plan import BESIDE, Decision, File, Plan, Reading, Seen, blocked
from registryd.runtimes.toml import texts

PROGRAMS = ("dockerd",)
PATH = "etc/docker/daemon.json"
LOOKS = (PATH, PATH + BESIDE)
HUB = "docker.io"
REGISTRIES = (HUB,)
KEY = "registry-mirrors"
HUB_ALONE = (
    "docker asks a mirror for Docker Hub alone; with the containerd image store it also reads"
    " /etc/docker/certs.d/HOST/hosts.toml, in the form that containerd has"
)


def content(address: str) -> str:
    """A daemon.json with this mirror."""
    return json.dumps({KEY: [f"http://{address}"]}, indent=2) + "\n"


def decide(plan: Plan, seen: Seen) -> Decision:
    """The file, where there is none. Raises SetupBlocked for unreadable JSON."""
    notes = [HUB_ALONE]
    others = [name for name in plan.registries if name != HUB]
    todo = tuple(f"docker knows no mirror for {name}" for name in others)
    if PATH in seen.files and not seen.ours(PATH):
        if plan.url in _mirrors(seen):
            return Decision((), todo, (), tuple(notes))
    elif PATH not in seen.files:
        notes.append("docker reads it after: systemctl reload docker")
    otherwise = f'put "{KEY}": ["{plan.url}"] into it, then: systemctl reload docker'
    file = File(PATH, content(plan.address), otherwise, comments=False)
    return blocked(Decision((file,), todo, (), tuple(notes)), seen)


def _mirrors(seen: Seen) -> list[str]:
    text = seen.files.get(PATH, "{}")
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SetupBlocked(
            f"/{PATH} is not JSON ({error}): docker cannot read it either, mend it first"
        ) from None
    named = texts(value.get(KEY)) if isinstance(value, dict) else []
    return [mirror.rstrip("/") for mirror in named]


def read(seen: Seen, known: frozenset[str]) -> Reading | None:
    """The mirror that is ours."""
    for mirror in _mirrors(seen):
        address = mirror.partition("://")[2]
        if address in known or seen.marked(PATH):
            return Reading(address, (HUB,), PATH, mirror)
    return None
