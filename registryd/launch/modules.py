"""The modules of a site: a folder of files, and which of them a run takes.

Invariants:
- naming modules takes these and what they require, and no default ones; naming none takes those
  that say ``default: true`` and whose ``when`` holds; ``none`` takes none;
- a module comes behind those that it requires, otherwise in the order in which they were named;
- a file that is wrong stops a run that asks for it; any other run gets one line.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from registryd.launch.errors import LaunchRefused
from registryd.launch.module_file import DEFAULT, NONE, Module, ModuleWrong, When, read_module
from registryd.launch.plain_values import text_of
from registryd.oci.errors import UsageError

#: Files of a folder that are read.
FILES_LIMIT: Final = 500
_SUFFIXES: Final = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Modules:
    """The modules of a folder by name, and a line for each file that is wrong, by its stem."""

    found: Mapping[str, Module] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    def named(self, name: str) -> Module:
        """The module of this name. Raises LaunchRefused."""
        if name in self.found:
            return self.found[name]
        if name in self.problems:
            raise LaunchRefused(self.problems[name])
        there = ", ".join(sorted(self.found)) or "none at all"
        raise LaunchRefused(
            f"there is no module {name} (there is {there}; see registryctl modules)"
        )


def read_modules(folder: Path | None) -> Modules:
    """The modules in a folder; a folder that is not there has none. Reads files."""
    try:
        names = sorted(os.listdir(folder)) if folder is not None else []
    except FileNotFoundError:
        return Modules()
    except OSError as error:
        return Modules({}, {str(folder): f"{folder}: cannot be read: {error.strerror}"})
    found: dict[str, Module] = {}
    problems: dict[str, str] = {}
    paths = [Path(str(folder), name) for name in names if name.endswith(_SUFFIXES)]
    for path in [path for path in paths if not path.name.startswith(".")][:FILES_LIMIT]:
        try:
            module = read_module(text_of(path), stem=path.stem)
            if module.name in found:
                raise ModuleWrong(f"name: {module.name} is the name of another file's module too")
        except UsageError as error:
            problems[path.stem] = f"{path}: {error}"
        else:
            found[module.name] = module
    return Modules(found, problems)


def choose(
    modules: Modules,
    asked: Sequence[str],
    environ: Mapping[str, str],
    there: Callable[[str], bool],
) -> tuple[Module, ...]:
    """The modules that a run takes; ``there`` says whether a path is on this machine.

    ``asked`` are the words of ``--module``, none where the flag was not given. Raises
    LaunchRefused.
    """
    words = [word for each in asked for word in each.split(",") if word]
    if NONE in words:
        if len(set(words)) > 1:
            raise LaunchRefused("--module none takes no other module besides")
        return ()
    chosen: dict[str, Module] = {}
    for word in words or [DEFAULT]:
        for name in _meant(modules, word, environ, there):
            _take(modules, name, chosen, ())
    for module in chosen.values():
        _check_conflicts(module, chosen)
    return tuple(chosen.values())


def _meant(
    modules: Modules, word: str, environ: Mapping[str, str], there: Callable[[str], bool]
) -> list[str]:
    """The names that a word of ``--module`` stands for."""
    if word != DEFAULT:
        return [word]
    every = [module for _, module in sorted(modules.found.items()) if module.default]
    return [module.name for module in every if holds(module.when, environ, there)]


def holds(when: When, environ: Mapping[str, str], there: Callable[[str], bool]) -> bool:
    """Whether everything that a condition asks for is so."""
    variables = all(
        any(
            fnmatch.fnmatchcase(value, allowed)
            for key, value in environ.items()
            if fnmatch.fnmatchcase(key, name)
            for allowed in values
        )
        for name, values in (when.env or {}).items()
    )
    return variables and all(there(path) for path in when.paths)


def _take(modules: Modules, name: str, chosen: dict[str, Module], users: tuple[str, ...]) -> None:
    """Puts a module behind what it requires."""
    if name in users:
        raise LaunchRefused(f"modules require one another: {' -> '.join((*users, name))}")
    if name in chosen:
        return
    try:
        module = modules.named(name)
    except LaunchRefused as error:
        if users:
            raise LaunchRefused(f"module {users[-1]} requires {name}: {error}") from None
        raise
    for each in module.requires:
        _take(modules, each, chosen, (*users, name))
    chosen[name] = module


def _check_conflicts(module: Module, chosen: Mapping[str, Module]) -> None:
    other = next((name for name in module.conflicts if name in chosen), None)
    if other is not None:
        raise LaunchRefused(
            f"modules {module.name} and {other} exclude one another:"
            " name the ones that you want with --module, or --module none"
        )
