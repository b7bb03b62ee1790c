"""What a command is: a module with SUMMARY, ``arguments`` and ``run``; and the list of them.

Invariants:
- a command's module is imported when that command (or its help) is asked for, not before;
- names, aliases and summaries are here, so that the overview imports none of them; a test
  compares the summaries.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from registryd.cli.arguments import Parser, general_flags, words_of_skopeo
from registryd.cli.console import Console
from registryd.oci.errors import UsageError

PROGRAM = "registryctl"


@dataclass(frozen=True, slots=True)
class Context:
    """What a command may use of the world."""

    options: argparse.Namespace
    console: Console
    environ: Mapping[str, str]
    home: Path


class Command(Protocol):
    """A module of ``registryd.cli.commands``."""

    def arguments(self, parser: Parser) -> None:
        """Declare the command's own arguments and those shared flags that it takes."""

    def run(self, context: Context) -> None:
        """Do it. Raises Fault."""


#: Name -> what it is for, in the order of the overview. A group's commands have two words.
COMMANDS = {
    "pull": "fetch images into the cache",
    "push": "send an image from the cache or a file to a registry",
    "copy": "copy an image between registries, files and the cache",
    "import": "put the images of an archive, layout or folder into the cache",
    "export": "write images of the cache to an archive, layout or folder",
    "convert": "make an image one file, which the cache keeps with it",
    "mount": "show an image as a folder until it is unmounted, or what is mounted",
    "unmount": "end a mount, once for each time it was made",
    "load": "put the images of an archive into the cache, as docker load does",
    "save": "write images of the cache to an archive, as docker save does",
    "run": "run what an image is for, in the image",
    "exec": "run a command in an image, without its entrypoint",
    "shell": "open a shell in an image",
    "sync": "keep images the same at another place",
    "images": "list what the cache holds",
    "tag": "give an image in the cache one more name",
    "rmi": "take names out of the cache",
    "inspect": "show what an image is",
    "history": "show the steps that made an image",
    "manifest": "print a manifest, byte for byte",
    "manifest get": "print a manifest, byte for byte",
    "manifest head": "print digest, type and size of a manifest",
    "manifest put": "put a manifest under a name in a registry",
    "manifest delete": "delete a manifest in its registry",
    "manifest diff": "compare the manifests of two images",
    "blob get": "write a blob to a file or to stdout, proven",
    "blob head": "print the size of a blob",
    "blob put": "put a file into a repository as a blob",
    "blob delete": "delete a blob in its repository",
    "config": "print an image's configuration, byte for byte",
    "validate": "read an image again and prove all of it",
    "digest": "print the digest that a name means now",
    "tags": "list the tags of a repository",
    "catalog": "list the repositories of a registry",
    "delete": "delete an image, or a tag alone, in its registry",
    "referrers": "list the artifacts that are attached to an image",
    "attach": "push files as an artifact that is attached to an image",
    "login": "keep a credential for a registry",
    "logout": "forget a registry's credential",
    "auth explain": "show which credential is used for a name, and why",
    "auth get": "print the credential of a registry, as credential helpers do",
    "cache df": "show how the cache uses the disk",
    "cache ls": "list the blobs that the cache holds",
    "cache active": "show what is on its way into the cache",
    "cache gc": "let go what no image needs, and images until there is room",
    "cache verify": "read the blobs of the cache again and prove them",
    "cache export-store": "fill a store on a shared file system, for many nodes to read",
    "cache repair": "compare the cache's index with its blobs, and put it right",
    "cache pin": "keep an image in the cache, whatever its name comes to mean",
    "cache unpin": "end the keeping of an image",
    "cache pins": "list what is kept in the cache, by whom and until when",
    "cache quota": "show how much of the cache one's pulls hold, and may",
    "cache whohas": "show which nodes of the cluster hold a blob",
    "cluster init": "make the authority of a new cluster",
    "cluster add": "make certificates for nodes of the cluster",
    "cluster show": "show whose certificates these are, and until when they are good",
    "nodes": "list the nodes of the cluster",
    "access ls": "list who was let into which repository",
    "access revoke": "end somebody's access, until it is proven anew",
    "prefetch": "bring images to many nodes ahead of their use",
    "jobs": "show the jobs that bring images to nodes",
    "jobs cancel": "end a job on all its nodes",
    "gateway pull": "have an image made one and kept for you, and whom you name",
    "gateway import": "hand a squashfs or an archive in, as an image of the gateway",
    "gateway lookup": "print the id of an image of the gateway",
    "gateway images": "list the images of the gateway that you may read",
    "gateway show": "show all that the gateway has under a name",
    "gateway queue": "list your imports that are under way, or have failed",
    "gateway expire": "take an image of the gateway away",
    "gateway autoexpire": "take away what nobody has looked up for long",
    "gateway metrics": "show who has looked which image up",
    "limits": "show and change how many bytes a second may pass",
    "ratelimit": "show how many more requests a registry allows",
    "slurm prolog": "bring a job's image to this node; Slurm's Prolog runs it",
    "slurm epilog": "end what slurm prolog keeps for a job; Slurm's Epilog runs it",
    "slurm stage-in": "bring a pending job's image to the cluster; its burst buffer runs it",
    "status": "show the daemon and what it is fetching",
    "top": "watch the daemon: what arrives, the disk, the last hour, the cluster",
    "modules": "list the site's modules and devices for commands in images",
    "setup": "make a runtime pull through the daemon",
    "doctor": "check that the runtimes here pull through the daemon",
    "completion": "print the completion script of a shell",
    "version": "print the version",
}
ALIASES = {
    "cp": "copy",
    "ls": "tags",
    "list-tags": "tags",
    "resolve": "digest",
    "umount": "unmount",
    "discover": "referrers",
    "auth login": "login",
    "auth logout": "logout",
    "manifest fetch": "manifest get",
    "manifest push": "manifest put",
    "blob fetch": "blob get",
    "blob push": "blob put",
}
#: What a group means by itself where crane has a command of that name.
ALONE = {"blob": "blob get"}


def load(name: str) -> Command:
    """The module of a command in COMMANDS."""
    module = f"registryd.cli.commands.{name.replace(' ', '_').replace('-', '_')}"
    return cast("Command", importlib.import_module(module))


def parser_for(name: str, command: Command) -> Parser:
    """The parser of a command's own line: its arguments, and the flags of every command."""
    parser = Parser(prog=f"{PROGRAM} {name}", description=f"{name}: {COMMANDS[name]}.")
    command.arguments(parser)
    general_flags(
        parser,
        templates=getattr(command, "TEMPLATES", ()),
        short_verbose=getattr(command, "SHORT_VERBOSE", True),
    )
    words_of_skopeo(parser)
    return parser


def named(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The command that these words begin with, and the words after it. Raises UsageError."""
    if not words:
        raise UsageError(f"no command (see {PROGRAM} --help)")
    first, rest = words[0], words[1:]
    name = ALIASES.get(first, first)
    if rest:
        both = f"{name} {rest[0]}"
        both = ALIASES.get(both, both)
        if both in COMMANDS:
            return both, rest[1:]
    if name in COMMANDS:
        return name, rest
    if name in ALONE and any("@" in word for word in rest):
        return ALONE[name], rest
    group = [known for known in COMMANDS if known.startswith(f"{name} ")]
    if not group:
        raise UsageError(f"there is no command {first!r} (see {PROGRAM} --help)")
    raise UsageError(f"{name} needs one of its commands: {', '.join(group)}")


def overview() -> str:
    """The commands and their aliases, one a line."""
    width = max(map(len, COMMANDS)) + 2
    lines = []
    for name, summary in COMMANDS.items():
        others = [alias for alias, meant in ALIASES.items() if meant == name]
        lines.append(f"  {name:<{width}}{summary}" + (f" ({', '.join(others)})" if others else ""))
    return "commands:\n" + "\n".join(lines)
