"""slurm: scripts for a job's image beside slurm.conf, the lines that name them, and the plugin's.

The scripts are those of the folder ``slurm`` with the path of registryctl put in. They do nothing
until slurm.conf includes our file, which is a person's to do. Where slurm.conf has a Prolog, an
Epilog or a TaskProlog of its own, that stays, and has to call ours.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from registryd.runtimes.errors import SetupBlocked
from registryd.runtimes.plan import Decision, File, Plan, Reading, Seen, blocked

#: Nothing that ``doctor`` looks for: Slurm pulls nothing by itself.
PROGRAMS = ()
FOLDER = "etc/slurm"
OWN = f"{FOLDER}/registryd.conf"
SCRIPTS = f"{FOLDER}/registryd"
MAIN = f"{FOLDER}/slurm.conf"
PLUGINS = f"{FOLDER}/plugstack.conf"
PLUGIN_LINE = f"{FOLDER}/plugstack.conf.d/registryd.conf"
#: Where ``make -C slurm install`` puts the plugin.
PLUGIN = "usr/local/lib/slurm/spank_registryd.so"
LOOKS = (
    f"{FOLDER}/*.conf",
    f"{FOLDER}/*.conf.registryd",
    f"{FOLDER}/*.lua",
    f"{FOLDER}/*.lua.registryd",
    f"{SCRIPTS}/*",
    f"{FOLDER}/plugstack.conf.d/registryd.conf",
    PLUGIN,
)
REGISTRIES = ()
#: By what slurm.conf calls it.
HOOKS = {"Prolog": "prolog.sh", "Epilog": "epilog.sh", "TaskProlog": "task_prolog.sh"}
#: The prolog is to run before the first step is wanted, on all nodes at once. Slurm reads the last
#: of two lines of a key, so that ours would take away what other flags do (Contain, X11).
FLAGS = "PrologFlags"
_EARLY = re.compile(r"\b(?:Alloc|Contain|X11)\b", re.IGNORECASE)

_PROGRAM = re.compile(r'^(registryctl=|local registryctl = ")registryctl("?)$', re.MULTILINE)


def sources() -> Path:
    """The folder with the scripts: that of the tree, or where the wheel has put it."""
    tree = Path(__file__).resolve().parents[2] / "slurm"
    return tree if tree.is_dir() else Path(sys.prefix) / "share" / "registryd" / "slurm"


def script(name: str, program: str) -> str:
    """A script that calls registryctl by this path. Raises SetupBlocked."""
    if not re.fullmatch(r"[A-Za-z0-9/._+-]+", program):
        raise SetupBlocked(f"--program {program!r}: Slurm's scripts want a path without blanks")
    path = sources() / name
    try:
        text = path.read_text()
    except OSError as error:
        raise SetupBlocked(f"{path}: {error.strerror} (registryd is not installed whole)") from None
    return _PROGRAM.sub(rf"\g<1>{program}\g<2>", text)


def decide(plan: Plan, seen: Seen) -> Decision:
    """The scripts and the lines that name them; what slurm.conf lacks is for a person."""
    said = seen.files.get(MAIN, "")
    theirs = {hook: path for hook in HOOKS if (path := _value(said, hook))}
    flags = _value(said, FLAGS)
    files = [
        File(f"{SCRIPTS}/{name}", script(name, plan.program), "move it away", False, True)
        for name in HOOKS.values()
    ]
    files += [
        File(f"{FOLDER}/burst_buffer.lua", script("burst_buffer.lua", plan.program),
             "call slurm stage-in from its slurm_bb_data_in", False),
        File(f"{FOLDER}/oci.conf", script("oci.conf", plan.program), "leave it, if it works"),
        File(OWN, _lines(theirs, flags), "move it away"),
    ]  # fmt: skip
    notes = ["for stage-in: BurstBufferType=burst_buffer/lua, and an empty burst_buffer.conf"]
    if PLUGIN in seen.files:
        files.append(
            File(PLUGIN_LINE, f"optional /{PLUGIN} registryctl={plan.program}\n", "move it away")
        )
    else:
        notes.append(
            f"for --image: make -C {sources()} install (wants libslurm-dev), then this again"
        )
    exceptions = tuple(
        f"/{MAIN} has a {hook} of its own: let {path} call /{SCRIPTS}/{HOOKS[hook]}"
        for hook, path in theirs.items()
        if HOOKS[hook] not in path
    )
    if flags and not _EARLY.search(flags):
        exceptions += (f"/{MAIN} has {FLAGS}={flags}: let it have Alloc too",)
    decision = Decision(tuple(files), _todo(seen), exceptions, tuple(notes))
    return blocked(decision, seen)


def _lines(theirs: dict[str, str], flags: str) -> str:
    own = [f"{hook}=/{SCRIPTS}/{name}\n" for hook, name in HOOKS.items() if hook not in theirs]
    return "".join(own) + ("" if flags else f"{FLAGS}=Alloc\n")


def _todo(seen: Seen) -> tuple[str, ...]:
    """Lines that files of others lack."""
    todo = []
    if not _includes(seen.files.get(MAIN, ""), f"/{OWN}"):
        todo.append(
            f"put the line 'include /{OWN}' at the end of /{MAIN}, on all nodes, then scontrol"
            " reconfigure"
        )
    plugins = seen.files.get(PLUGINS, "")
    named = ("/etc/slurm/plugstack.conf.d/*.conf", "plugstack.conf.d/*.conf", f"/{PLUGIN_LINE}")
    if PLUGIN in seen.files and not any(_includes(plugins, name) for name in named):
        todo.append(f"put the line 'include /{PLUGIN_LINE}' into /{PLUGINS}, on all nodes")
    return tuple(todo)


def _includes(text: str, path: str) -> bool:
    pattern = rf"^\s*include\s+{re.escape(path)}\s*$"
    return re.search(pattern, text, re.MULTILINE | re.IGNORECASE) is not None


def _value(text: str, key: str) -> str:
    """What a file says of a key, "" for nothing."""
    match = re.search(rf"^\s*{key}\s*=\s*(\S+)", text, re.MULTILINE | re.IGNORECASE)
    return match[1] if match else ""


def read(seen: Seen, known: frozenset[str]) -> Reading | None:
    """Slurm asks no registry."""
    return None
