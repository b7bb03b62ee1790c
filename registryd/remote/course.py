"""By which hosts a registry is reached, and what each may be asked for: values and rules.

Invariants:
- the registry itself is always there, and comes last;
- what a person wrote in our configuration counts before what other programs' files say;
- a push goes to one host, never from one to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from registryd.config import MirrorConfig, RegistryConfig
from registryd.oci.routes import PREFIX
from registryd.registry_config import CAPABILITIES, ENVIRONMENT, INHERITED, OTHER_NAMES
from registryd.remote.tls import TlsSetting

#: What a call wants of a host. ``home``: the registry itself and nobody in its place.
PULL, RESOLVE, REFERRERS, PUSH, BLOB, HOME = (
    "pull",
    "resolve",
    "referrers",
    "push",
    "blob",
    "home",
)
ALL = frozenset({*CAPABILITIES, BLOB, HOME})
#: The answer of a host that means "I do not have it".
ABSENT = 404
#: Whom the system trusts.
TRUSTING = TlsSetting()


@dataclass(frozen=True, slots=True)
class Place:
    """A host that is asked in a registry's place, or for it.

    ``prefix``: repositories are below this there, in place of ``strip``. ``api`` is what comes
    between the URL and a repository's name. ``namespace``: it is told which registry is meant.
    ``headers`` go to this host alone. ``lax``: a certificate need not be valid, nor be there.
    """

    url: str
    serves: frozenset[str] = ALL
    prefix: str = ""
    strip: str = ""
    api: str = PREFIX.rstrip("/")
    namespace: bool = False
    tls: TlsSetting = TRUSTING
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    connect_timeout: float = 0.0
    lax: bool = False

    @property
    def admits_us(self) -> bool:
        """Whether the way there shows who we are, so that an answer proves nothing for others."""
        return bool(self.tls.clients or self.tls.shows or self.headers) or self.url.startswith(
            "unix:"
        )

    @property
    def name(self) -> str:
        """The host as registries are named (``mirror.example:5000``); "" for a unix socket."""
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return ""
        usual = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
        host = parts.netloc.lower().removesuffix(usual)
        return OTHER_NAMES.get(host, host)


@dataclass(frozen=True, slots=True)
class Course:
    """How a repository is reached: mirrors in order, and the registry itself.

    ``primary`` None: where the registry's own configuration says. ``blocked`` is why it must not be
    reached at all, or empty.
    """

    mirrors: tuple[Place, ...] = ()
    fallback: str = "always"
    primary: Place | None = None
    blocked: str = ""


def own_course(config: RegistryConfig) -> Course:
    """What our configuration says of a registry."""
    return Course(tuple(map(_place, config.mirrors)), config.fallback)


def decides(config: RegistryConfig) -> bool:
    """Whether our configuration says where a registry is, so that no other file is asked."""
    return bool(config.mirrors or config.endpoint)


def _place(mirror: MirrorConfig) -> Place:
    parts = urlsplit(mirror.url)
    path = parts.path.strip("/") if parts.scheme != "unix" else ""
    by_path = mirror.by == "path" and path
    client = (mirror.client_cert, mirror.client_key)
    return Place(
        url=f"{parts.scheme}://{parts.netloc}" if by_path else mirror.url,
        serves=serving(mirror.capabilities, mirror.pull),
        prefix=path if by_path else "",
        namespace=mirror.by == "ns" or parts.scheme == "unix",
        tls=TlsSetting(
            mirror.tls_verify,
            () if mirror.ca_file is None else (mirror.ca_file,),
            () if client[0] is None or client[1] is None else ((client[0], client[1]),),
            () if mirror.cert_dir is None else (mirror.cert_dir,),
            shows=mirror.cert_dir is not None,
        ),
        connect_timeout=mirror.connect_timeout,
    )


def serving(capabilities: tuple[str, ...] | frozenset[str], pull: str = "all") -> frozenset[str]:
    """What a mirror with these capabilities is asked for; ``pull`` narrows it to names of a kind.

    Blobs come from whoever gives manifests: nobody can say how their image was named.
    """
    given = set(capabilities) - ({RESOLVE} if pull == "digest" else set())
    blobs = {BLOB} if PULL in given else set()
    return frozenset((given - ({PULL} if pull == "tag" else set())) | blobs)


def wanted(method: str, path: str, actions: frozenset[str]) -> str:
    """What a call with this method, path and actions wants of a host."""
    if method not in ("GET", "HEAD") or "push" in actions or "delete" in actions:
        return PUSH
    what = path.removeprefix(PREFIX).rsplit("/", 2)[1:]
    match what:
        case ["manifests", target]:
            return PULL if ":" in target else RESOLVE
        case ["blobs", _]:
            return BLOB
        case ["referrers", _]:
            return REFERRERS
        case _:
            return HOME


def falls_on(fallback: str, status: int | None) -> bool:
    """Whether the next host is asked after this status, or (None) after no answer."""
    if fallback == "always":
        return status is None or status >= 400
    return fallback == "not-found" and status == ABSENT


def renamed(place_prefix: str, strip: str, repository: str) -> str:
    """A repository's name at a place."""
    if strip and (repository == strip or repository.startswith(f"{strip}/")):
        repository = repository[len(strip) + 1 :]
    return "/".join(filter(None, (place_prefix, repository)))


def proxies_for(
    environment: Mapping[str, str], common: str, exceptions: tuple[str, ...], own: str = INHERITED
) -> dict[str, str]:
    """The proxies to a registry: its own setting, else the common one, else the environment's."""
    chosen = common if own == INHERITED else own
    proxies = dict(environment) if chosen == ENVIRONMENT else {"all": chosen} if chosen else {}
    exempt = ",".join(exceptions) or environment.get("no", "")
    if proxies and exempt:
        proxies["no"] = exempt
    return proxies
