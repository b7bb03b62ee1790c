"""The floors of the house: imports run down only, and files and functions stay short.

The rooms stand below in their order; a room may import from every earlier line, and from itself.
Rooms on one line are strangers. A module in no room is a fault: give it a place here first.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FLOORS = (
    ("cache",),
    ("registryd.oci",),
    ("registryd.secrets",),
    (
        "registryd.units",
        "registryd.hostlist",
        "registryd.pem",
        "registryd.places",
        "registryd.unix_http",
        "registryd.receiving",
        "registryd.trickle",
        "registryd.yaml_values",
    ),
    ("registryd.tables",),
    ("registryd.cluster_config",),
    ("registryd.registry_config",),
    ("registryd.signature_config", "registryd.run_config", "registryd.gateway_config"),
    ("registryd.convert_config", "registryd.cache_config"),
    ("registryd.config", "registryd.user_quotas"),
    ("registryd.reload",),
    ("registryd.counts", "registryd.history", "registryd.notices", "registryd.rates"),
    ("registryd.ports",),
    ("registryd.cluster_ports", "registryd.signatures"),
    (
        "registryd.remote",
        "registryd.images",
        "registryd.mounts",
        "registryd.cluster",
        "registryd.transfer",
        "registryd.runtimes",
        "registryd.launch",
        "registryd.schedulers",
    ),
    ("registryd.jobs", "registryd.sync", "registryd.gateway"),
    ("registryd.conversion",),
    ("registryd.access", "registryd.upkeep"),
    ("registryd.operations",),
    ("registryd.server",),
    ("registryd.systemd",),
    ("registryd.cluster_services", "registryd.gateway_services", "registryd.host_services"),
    ("registryd.fetch_services",),
    ("registryd.services",),
    ("registryd.daemon_services",),
    ("registryd.daemon", "registryd.cli"),
)
#: Holds the version and imports nothing; everyone above ``registryd.oci`` may import it.
TOP = "registryd"
RANKS = {room: rank for rank, floor in enumerate(FLOORS) for room in floor} | {TOP: 1}

NETWORK = ("aiohttp", "http", "nats", "socket", "socketserver", "ssl", "urllib.request", "uvloop")
#: What these rooms never import.
FORBIDDEN = {
    "cache": NETWORK,
    "registryd.oci": (*NETWORK, "aiofiles", "asyncio", "sqlite3", "subprocess", "threading"),
}
#: Who may look at the environment, and the names by which it is read.
READERS = ("registryd.services", "registryd.daemon", "registryd.cli")
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "expanduser", "expandvars", "home"}

LONGEST_FILE = 400
LONGEST_FUNCTION = 60


def room_of(module: str) -> str | None:
    """The room that a module of ours is in; None for a module of others, or one without a room."""
    parts = module.split(".")
    if parts == [TOP]:
        return TOP
    rooms = (".".join(parts[:length]) for length in (1, 2))
    return next((room for room in rooms if room in RANKS and room != TOP), None)


def imports_of(tree: ast.Module, package: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, in functions and for types too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, each.name) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join(
                [*(above if node.level else []), *([node.module] if node.module else [])]
            )
            yield from ((node.lineno, f"{base}.{each.name}") for each in node.names)


def import_faults(module: str, tree: ast.Module, package: str) -> Iterator[str]:
    """Imports that run up, to a stranger, or to what the room must not know."""
    room = room_of(module)
    if room is None:
        yield "1: has no floor (give it one in tests/test_floors.py)"
        return
    for line, name in imports_of(tree, package):
        # ``from registryd import __version__`` names no module: the package itself is meant.
        target = room_of(name) or (TOP if name.startswith(f"{TOP}.__") else None)
        ours = name.split(".")[0] in (TOP, "cache")
        if ours and target is None:
            yield f"{line}: imports {name}, which has no floor"
        elif ours and target != room and not _below(str(target), room):
            yield f"{line}: imports {name}, which is not below {room}"
        if any(name == each or name.startswith(f"{each}.") for each in FORBIDDEN.get(room, ())):
            yield f"{line}: imports {name}, which {room} must not know"


def _below(target: str, room: str) -> bool:
    return RANKS[target] < RANKS[room]


def environment_faults(module: str, tree: ast.Module) -> Iterator[str]:
    """Looks at the environment from a room that takes it as an argument."""
    if room_of(module) in READERS:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT:
            owner = ast.unparse(node.value)
            exact = node.attr in ("expanduser", "expandvars")
            if exact or owner in ("os", "Path", "pathlib.Path"):
                yield f"{node.lineno}: {owner}.{node.attr} reads the environment"
        elif isinstance(node, ast.ImportFrom) and node.module in ("os", "os.path"):
            for each in node.names:
                if each.name in ENVIRONMENT:
                    yield f"{node.lineno}: {node.module}.{each.name} reads the environment"


def length_faults(source: str, tree: ast.Module) -> Iterator[str]:
    """A file or a function that is too long to be read at once."""
    lines = len(source.splitlines())
    if lines > LONGEST_FILE:
        yield f"{lines}: a file ends at {LONGEST_FILE} lines"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                yield f"{node.lineno}: {node.name} has {length} of {LONGEST_FUNCTION} lines"


def product_faults(path: str, source: str) -> list[str]:
    """Everything that is wrong with one file of the product, as ``path:line: words``."""
    tree = ast.parse(source)
    parts = path.removesuffix(".py").split("/")
    package = ".".join(parts[:-1])
    module = package if parts[-1] == "__init__" else ".".join(parts)
    found = [
        *import_faults(module, tree, package),
        *environment_faults(module, tree),
        *length_faults(source, tree),
    ]
    return [f"{path}:{words}" for words in found]


def files(*folders: str) -> list[str]:
    """The Python files in these folders, as paths from the top of the project."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return sorted(str(path.relative_to(ROOT)) for path in found)


def test_product_stands_on_its_floors() -> None:
    """No file of the product breaks a rule."""
    paths = files("cache", "registryd")
    found = [fault for path in paths for fault in product_faults(path, (ROOT / path).read_text())]

    assert paths
    assert [] == found, "\n".join(found)


def test_everything_else_is_short_too() -> None:
    """Tests, benches and scripts have the same ceilings."""
    found = []
    for path in files("tests", "bench", "scripts"):
        source = (ROOT / path).read_text()
        found += [f"{path}:{fault}" for fault in length_faults(source, ast.parse(source))]

    assert [] == found, "\n".join(found)


BAD = [
    ("cache/x.py", "import registryd", "not below cache"),
    ("cache/x.py", "from registryd.oci.errors import UsageError", "not below cache"),
    ("cache/x.py", "import aiohttp.web", "must not know"),
    ("cache/x.py", "def f():\n    import socket", "2: imports socket"),
    ("cache/x.py", "from http import HTTPStatus", "must not know"),
    ("cache/x.py", "from urllib import request", "must not know"),
    ("registryd/oci/x.py", "import ssl", "must not know"),
    ("registryd/oci/x.py", "import asyncio", "must not know"),
    ("registryd/oci/x.py", "from registryd import __version__", "not below registryd.oci"),
    ("registryd/oci/x.py", "from registryd import secrets", "not below registryd.oci"),
    ("registryd/oci/x.py", "from ..secrets import Secret", "not below registryd.oci"),
    ("registryd/oci/__init__.py", "from ..secrets import Secret", "not below registryd.oci"),
    ("registryd/config.py", "import registryd.ports", "not below registryd.config"),
    ("registryd/ports.py", "from registryd.remote.client import x", "not below registryd.ports"),
    ("registryd/remote/x.py", "from registryd.images import layout", "not below registryd.remote"),
    ("registryd/remote/x.py", "from ..transfer.copy import x", "not below registryd.remote"),
    ("registryd/runtimes/x.py", "import registryd.remote.tls", "not below registryd.runtimes"),
    (
        "registryd/transfer/x.py",
        "if TYPE_CHECKING:\n    from registryd.remote import x",
        "transfer/x.py:2: imports registryd.remote.x, which is not below registryd.transfer",
    ),
    ("registryd/transfer/x.py", "from registryd.operations import x", "not below registryd.tran"),
    ("registryd/operations.py", "from registryd import server", "not below registryd.operations"),
    ("registryd/server/x.py", "from registryd import services", "not below registryd.server"),
    ("registryd/services.py", "from registryd import cli", "not below registryd.services"),
    ("registryd/cli/x.py", "from registryd.daemon import main", "not below registryd.cli"),
    ("registryd/__init__.py", "import registryd.oci", "not below registryd"),
    ("registryd/new.py", "", "has no floor"),
    ("registryd/cli/x.py", "from registryd.new import x", "has no floor"),
    ("registryd/remote/x.py", "import os\nos.environ['X']", "2: os.environ reads the env"),
    ("registryd/remote/x.py", "import os\nos.getenv('X')", "os.getenv reads the env"),
    ("registryd/remote/x.py", "from os import environ", "os.environ reads the env"),
    ("registryd/remote/x.py", "from os.path import expanduser", "os.path.expanduser reads"),
    ("registryd/remote/x.py", "Path('~').expanduser()", "expanduser reads the environment"),
    ("registryd/remote/x.py", "Path.home()", "Path.home reads the environment"),
    ("registryd/remote/x.py", "x = 1\n" * 401, "401: a file ends at 400 lines"),
    ("cache/x.py", "def f():\n" + "    x = 1\n" * 60, "1: f has 61 of 60 lines"),
    ("cache/x.py", "class C:\n  async def f():\n" + "    x = 1\n" * 60, "2: f has 61 of 60"),
]
GOOD = [
    ("cache/x.py", "import asyncio, sqlite3, os, urllib.parse\nfrom cache import errors, layout"),
    ("registryd/oci/x.py", "from cache.content import Digest\nfrom .errors import UsageError"),
    ("registryd/oci/__init__.py", "from . import errors\nfrom .errors import UsageError"),
    ("registryd/remote/x.py", "import aiohttp\nfrom registryd import __version__, config, ports"),
    ("registryd/remote/x.py", "def f(environ):\n    return environ['X'], context.home"),
    ("registryd/server/x.py", "from registryd.operations import x\nimport registryd.transfer.copy"),
    ("registryd/services.py", "import os, registryd.server.app\nos.environ"),
    ("registryd/cli/x.py", "import registryd.services\nfrom os import environ\nPath.home()"),
    ("registryd/cli/x.py", "x = 1\n" * 400),
    ("cache/x.py", "def f():\n" + "    x = 1\n" * 59),
]


@pytest.mark.parametrize(("path", "source", "said"), BAD)
def test_checker_sees(path: str, source: str, said: str) -> None:
    """Each kind of break is found, once, with its line."""
    found = product_faults(path, source)

    assert 1 == len(found), found
    assert said in found[0]
    assert found[0].startswith(f"{path}:")


@pytest.mark.parametrize(("path", "source"), GOOD)
def test_checker_allows(path: str, source: str) -> None:
    """What the floors allow is no fault."""
    assert [] == product_faults(path, source)
