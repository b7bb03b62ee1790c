"""``doctor``: whether each runtime here is set up, whether its mirror is this daemon, and works.

What it proves, it proves by an image that it makes for this run and puts into the daemon by its
socket: whoever has it afterwards got it from this daemon. A trial's configuration is made from the
installed one, for a made-up registry, as the names of real registries would ask those too.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cache.content import Digest
from cache.errors import Fault
from registryd.cli.arguments import Parser
from registryd.cli.command import Context
from registryd.cli.errors import DaemonUnreachable, one_line
from registryd.cli.node_socket import Running, ask, must, running
from registryd.cli.platforms import own
from registryd.oci.errors import UsageError
from registryd.oci.media_types import OCI_MANIFEST
from registryd.runtimes import disk
from registryd.runtimes.containerd import DEFAULT
from registryd.runtimes.plan import DEFAULT_ADDRESS, Plan, Reading, Runtime
from registryd.runtimes.sentinel import REPOSITORY, Sentinel, sentinel
from registryd.runtimes.table import RUNTIMES
from registryd.runtimes.trial import TRIALS, tried

OK, NOT_SET_UP, BROKEN = "ok", "not set up", "broken"
START = "systemctl start registryd (or run: registryd)"


class RuntimesBroken(Fault):
    """Raised when a runtime that is set up does not work through the daemon."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result for one program: why it is so, what to type, and what was proven and what not."""

    name: str
    state: str
    why: str = ""
    fix: str = ""
    proven: tuple[str, ...] = ()
    not_proven: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Examination:
    """What all checks look at; ``image`` is in the daemon, if there is one."""

    context: Context
    prefix: Path
    daemon: Running | None
    image: Sentinel | None

    @property
    def known(self) -> frozenset[str]:
        """The addresses that are ours wherever they are written."""
        return frozenset(self.daemon.addresses if self.daemon else ()) | {DEFAULT_ADDRESS}


def arguments(parser: Parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--prefix", metavar="DIR", default="/", help="DIR/etc instead of /etc")


def run(context: Context) -> None:
    """Look at each runtime on PATH. Raises UsageError; RuntimesBroken when one is."""
    prefix = Path(context.options.prefix).absolute()
    if not prefix.is_dir():
        raise UsageError(f"--prefix {prefix} is not a directory")
    daemon, first = _daemon(context)
    with _image_in(daemon) as image:
        examination = Examination(context, prefix, daemon, image)
        found = [first, *_stores(daemon), *_findings(examination)]
    if context.options.format == "json":
        context.console.json({"checks": [asdict(finding) for finding in found]})
    else:
        for finding in found:
            context.console.line(_line(finding))
    broken = [finding.name for finding in found if finding.state == BROKEN]
    if broken:
        raise RuntimesBroken(f"broken: {', '.join(broken)}")


def _line(finding: Finding) -> str:
    text = f"{finding.name}: {finding.state}" + (f": {finding.why}" if finding.why else "")
    if finding.proven:
        text += f"; proven: {', '.join(finding.proven)}"
    if finding.not_proven:
        text += f"; not proven: {', '.join(finding.not_proven)}"
    return text + (f"; fix: {finding.fix}" if finding.fix else "")


def _daemon(context: Context) -> tuple[Running | None, Finding]:
    try:
        daemon = running(context)
    except DaemonUnreachable as error:
        return None, Finding("registryd", BROKEN, one_line(error), START)
    if daemon is None:
        return None, Finding("registryd", NOT_SET_UP, "no daemon answers on its socket", START)
    doors = ", ".join(map(str, daemon.status.get("listeners") or []))
    return daemon, Finding("registryd", OK, f"version {daemon.status.get('version')} on {doors}")


def _stores(daemon: Running | None) -> Iterator[Finding]:
    """One for each shared store below the daemon's cache."""
    for store in (daemon.status.get("lower") if daemon else None) or []:
        name = f"lower store {store.get('path')}"
        if store.get("usable"):
            yield Finding(name, OK, f"{store.get('names')} names")
        else:
            fix = "mount the file system, or fill it: registryctl cache export-store DIR"
            yield Finding(name, BROKEN, str(store.get("cause")), fix)


@contextmanager
def _image_in(daemon: Running | None) -> Iterator[Sentinel | None]:
    """An image in the daemon's own registry until the block ends."""
    if daemon is None:
        yield None
        return
    image = sentinel(secrets.token_hex(16), own())
    base = f"/v2/localhost/{REPOSITORY}"
    exact = f"{base}/manifests/{image.digest}"
    try:
        for raw in (image.config, image.layer):
            path = f"{base}/blobs/uploads/?digest={Digest.of(raw)}"
            must(ask(daemon.socket, "POST", path, body=raw), 201, "the upload of a test image")
        path = f"{base}/manifests/{image.nonce}"
        put = ask(daemon.socket, "PUT", path, body=image.manifest, media_type=OCI_MANIFEST)
        must(put, 201, "the push of a test image")
        yield image
    finally:
        with suppress(Fault):
            ask(daemon.socket, "DELETE", exact)


def _findings(examination: Examination) -> Iterator[Finding]:
    """One for each program on PATH that pulls by the files of a runtime we know."""
    environ = examination.context.environ
    for name, runtime in RUNTIMES.items():
        there = [each for each in runtime.PROGRAMS if shutil.which(each, path=environ.get("PATH"))]
        if name == "containerd" and there:
            there = ["containerd"]
        for program in there:
            try:
                yield _finding(examination, name, runtime, program)
            except Fault as error:
                yield Finding(program, BROKEN, one_line(error))


def _finding(examination: Examination, name: str, runtime: Runtime, program: str) -> Finding:
    """What is the matter with one program. Raises Fault where its files cannot be read."""
    set_up = f"registryctl setup {name}"
    seen = disk.look(examination.prefix, runtime.LOOKS)
    reading = runtime.read(seen, examination.known)
    if reading is None:
        return Finding(program, NOT_SET_UP, "", set_up)
    registries = () if DEFAULT in reading.registries else reading.registries
    decision = runtime.decide(Plan(reading.address, registries), seen)
    where = f"/{reading.path} asks {reading.address} for {', '.join(reading.registries)}"
    if decision.todo:
        return Finding(program, BROKEN, where, "; ".join(decision.todo))
    hidden = _hidden(examination, name)
    if hidden:
        return Finding(program, BROKEN, f"{hidden} hides /{reading.path} from you", f"rm {hidden}")
    where = "; but ".join([where, *decision.exceptions])
    refused = _wrong_address(examination, reading.address)
    if refused:
        other = examination.daemon.addresses if examination.daemon else ()
        fix = f"{set_up} --address {other[0]}" if other else START
        return Finding(program, BROKEN, f"{where}; {refused}", fix)
    return _tried(examination, program, reading, where)


def _hidden(examination: Examination, name: str) -> str:
    """The user's own file that stands before the machine's, if there is one."""
    own_file = examination.context.home / ".config/containers/registries.conf"
    system = examination.prefix == Path("/")
    return str(own_file) if name in ("podman", "apptainer") and system and own_file.exists() else ""


def _wrong_address(examination: Examination, address: str) -> str:
    """Why this address is not the daemon whose socket we have; "" when it is."""
    try:
        ping = ask(address, "GET", "/v2/")
    except DaemonUnreachable as error:
        return one_line(error)
    if ping.status not in (200, 401):
        return f"what answers there is no registry (status {ping.status} for /v2/)"
    if examination.image is None:
        return "a registry answers there, but no daemon on its socket: it may be another's"
    path = f"/v2/localhost/{REPOSITORY}/manifests/{examination.image.nonce}"
    asked = ask(address, "HEAD", path)
    digest = asked.headers.get("docker-content-digest")
    same = asked.status == 200 and digest == str(examination.image.digest)
    return "" if same else "what answers there is not the daemon on the socket"


def _tried(examination: Examination, program: str, reading: Reading, where: str) -> Finding:
    """What a real pull says, where one can be made without harm."""
    proven = [f"{reading.address} is this daemon"]
    pull = f"{program} pulls by this configuration"
    image, trial = examination.image, TRIALS.get(program)
    if image is None or trial is None or not reading.trial:
        left = f"{pull} (it cannot be tried apart from its own storage)"
        return Finding(program, OK, where, "", tuple(proven), (left,))
    obstacle = trial.obstacle(examination.context.environ, examination.prefix)
    if obstacle:
        left = f"{pull} ({obstacle})"
        return Finding(program, OK, where, "", tuple(proven), (left,))
    failed = tried(program, examination.context.environ, reading.trial, image)
    if failed:
        fix = trial.fix or f"make /{reading.path} anew: remove it, then registryctl setup"
        return Finding(program, BROKEN, f"{where}; a pull through it failed: {failed}", fix)
    proven.append(f"a test image came from it as /{reading.path} says")
    return Finding(program, OK, where, "", tuple(proven), ("pulls from real registries",))
