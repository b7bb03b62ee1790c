"""``modules``: what a site adds to commands in images, and what is wrong with its files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cache.errors import Fault
from registryd.cli.arguments import Parser
from registryd.cli.command import Context
from registryd.cli.console import Console
from registryd.cli.site import run_settings
from registryd.cli.tables import Column
from registryd.launch.cdi import read_folders
from registryd.launch.module_file import Module, Place
from registryd.launch.modules import Modules, holds, read_modules

COLUMNS = (Column("MODULE"), Column("DEFAULT"), Column("WHAT FOR"))


class ModulesBroken(Fault):
    """Raised when a file of the site's is wrong, after all that is right was shown."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is said of one module; ``taken`` is whether a run without ``--module`` takes it here."""

    name: str
    help: str
    default: bool
    taken: bool
    requires: tuple[str, ...]
    conflicts: tuple[str, ...]
    does: tuple[str, ...]


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "names", metavar="NAME", nargs="*", default=[], help="what these do, line by line"
    )
    parser.add_argument("--folder", metavar="DIR", default=None, help="the files of this folder")


def run(context: Context) -> None:
    """List modules and devices. Raises ConfigInvalid; ModulesBroken when a file is wrong."""
    options, console = context.options, context.console
    settings = run_settings(context)
    folder = settings.modules if options.folder is None else Path(options.folder).absolute()
    modules, devices = read_modules(folder), read_folders(settings.cdi)
    wanted = [modules.named(name) for name in options.names]
    every = [module for _, module in sorted(modules.found.items())]
    rows = [_row(module, context) for module in wanted or every]
    names = sorted({*devices.found, *devices.twice})
    problems = [*modules.problems.values(), *_wanting(modules), *devices.problems]
    problems += [
        f"device {name} is in {first} and in {second}: take one away"
        for name, (first, second) in devices.twice.items()
    ]
    if options.format == "json":
        listed = [asdict(row) for row in rows]
        console.json({"modules": listed, "devices": names, "problems": problems})
    else:
        _show(console, rows, () if wanted else names, whole=bool(wanted))
        for problem in problems:
            console.words(problem)
    if problems:
        raise ModulesBroken(f"{len(problems)} of the site's files are wrong")


def _row(module: Module, context: Context) -> Row:
    taken = module.default and holds(module.when, context.environ, os.path.exists)
    return Row(
        module.name,
        module.help,
        module.default,
        taken,
        module.requires,
        module.conflicts,
        tuple(_does(module)),
    )


def _show(console: Console, rows: Sequence[Row], devices: Sequence[str], *, whole: bool) -> None:
    """A table; or, of modules that were named, a line for each thing that they do."""
    if whole:
        for row in rows:
            console.line(f"{row.name}: {row.help or 'no help'}")
            for line in row.does:
                console.line(f"  {line}")
        return
    cells = [
        [row.name, ("yes" if row.taken else "not here") if row.default else "no", row.help]
        for row in rows
    ]
    console.table(COLUMNS, cells)
    for name in devices:
        console.line(f"device {name}")


def _does(module: Module) -> Iterator[str]:
    """A few words for each kind of thing that a module does."""
    libraries = module.libraries
    if module.requires:
        yield f"requires {', '.join(module.requires)}"
    if module.conflicts:
        yield f"excludes {', '.join(module.conflicts)}"
    if libraries.replace:
        names = dict.fromkeys(each.soname or each.path for each in libraries.replace)
        yield f"replaces {', '.join(names)} (abi: {libraries.abi})"
    if libraries.add:
        yield f"adds {', '.join(each.path for each in libraries.add)}"
    if module.binds:
        yield f"binds {', '.join(map(_shown, module.binds))}"
    if module.devices or module.cdi:
        yield f"devices {', '.join([*map(_shown, module.devices), *module.cdi])}"
    if module.env.pass_:
        yield f"passes {', '.join(module.env.pass_)}"
    changed = {
        name
        for each in (module.env.set, module.env.default, module.env.prepend, module.env.append)
        for name in each or ()
    }
    if changed or module.env.unset:
        yield f"changes {', '.join(sorted({*changed, *module.env.unset}))}"


def _shown(place: Place) -> str:
    return f"{place.source}:{place.target}" if place.target else place.source


def _wanting(modules: Modules) -> Iterator[str]:
    """What modules require and nobody has."""
    for module in modules.found.values():
        for name in module.requires:
            if name not in modules.found:
                yield f"module {module.name} requires {name}, which is not there"
