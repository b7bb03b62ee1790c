"""What apptainer and singularity look for in an image: ``.singularity.d`` and the links to it.

Invariants:
- the image's own PATH is set, every other variable only where the environment has none;
- the run script runs what Docker would: the entrypoint with the arguments or, without any, with the
  image's own; no word of the image or of the user is looked at by a shell. Working folder and user
  of the image are not obeyed, as these tools never do;
- scripts need a POSIX shell and nothing else, and run in apptainer's own interpreter too.
"""

from __future__ import annotations

import json
from typing import Final

from registryd.images.dressing.pieces import (
    Piece,
    folder,
    link,
    quoted,
    script,
    unless_set,
    variables,
    words,
)
from registryd.oci.image_config import ImageConfig

#: What is below this name belongs to these tools alone.
HOME: Final = ".singularity.d"
_LABEL: Final = "org.label-schema.usage.singularity.deffile."
_PATH: Final = "PATH"
#: What a program of ours does first: everything that says what the environment is.
_SOURCED: Final = (
    f"for each in /{HOME}/env/*.sh; do",
    '    [ ! -f "$each" ] || . "$each"',
    "done",
    "unset each",
)


def pieces(config: ImageConfig) -> tuple[Piece, ...]:
    """The files for an image with this configuration."""
    return (
        *(folder(f"{HOME}{below}") for below in ("", "/actions", "/env", "/libs")),
        *_environment(config),
        script(f"{HOME}/actions/exec", *_SOURCED, 'exec "$@"'),
        script(f"{HOME}/actions/run", *_SOURCED, f'exec /{HOME}/runscript "$@"'),
        script(f"{HOME}/actions/shell", *_SOURCED, *_SHELL),
        script(f"{HOME}/actions/start", *_SOURCED, f'exec /{HOME}/startscript "$@"'),
        script(f"{HOME}/actions/test", *_SOURCED, *_TEST),
        script(f"{HOME}/runscript", *run_lines(config)),
        script(f"{HOME}/startscript"),
        Piece(f"{HOME}/labels.json", _labels(config)),
        link("singularity", f"{HOME}/runscript"),
        link("environment", f"{HOME}/env/90-environment.sh"),
        *(link(f".{name}", f"{HOME}/actions/{name}") for name in ("exec", "run", "shell", "test")),
    )


_SHELL: Final = (
    'if [ -x "${SINGULARITY_SHELL-}" ]; then',
    '    exec "$SINGULARITY_SHELL" "$@"',
    "elif [ -x /bin/bash ]; then",
    '    exec /bin/bash --norc "$@"',
    "fi",
    'exec /bin/sh "$@"',
)
_TEST: Final = (f'[ ! -x /{HOME}/test ] || exec /{HOME}/test "$@"',)


def run_lines(config: ImageConfig) -> list[str]:
    """The lines of a script that runs the image's program (Docker's ENTRYPOINT and CMD)."""
    lines = []
    if config.cmd:
        lines.append(f"[ $# -gt 0 ] || set -- {words(config.cmd)}")
    if config.entrypoint:
        lines.append(f'set -- {words(config.entrypoint)} "$@"')
    if not lines:
        lines += (
            "if [ $# -eq 0 ]; then",
            "    echo 'this image names no program: say which one' >&2",
            "    exit 127",
            "fi",
        )
    return [*lines, 'exec "$@"']


def _environment(config: ImageConfig) -> tuple[Piece, ...]:
    lines: list[str] = []
    for name, value in variables(config.env):
        if name == _PATH:
            lines.append(f"export {name}={quoted(value)}")
        else:
            lines.append(unless_set(name, value))
    return (
        script(f"{HOME}/env/01-base.sh"),
        script(f"{HOME}/env/10-docker2singularity.sh", *lines),
        script(f"{HOME}/env/90-environment.sh"),
        script(f"{HOME}/env/91-environment.sh"),
        script(
            f"{HOME}/env/99-base.sh",
            "# Where --nv and --rocm put the libraries of the machine.",
            f'LD_LIBRARY_PATH="${{LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}}/{HOME}/libs"',
            'PS1="Singularity> "',
            "export LD_LIBRARY_PATH PS1",
        ),
    )


def _labels(config: ImageConfig) -> bytes:
    known = {"org.label-schema.schema-version": "1.0", f"{_LABEL}bootstrap": "docker"}
    labels = {**known, **config.labels}
    return json.dumps(labels, indent=2, sort_keys=True).encode() + b"\n"
