"""One authorised request to one registry: challenge, reply, once more, and no further.

Invariants:
- a login goes to the registry's own origin only;
- an answer of 401 is met with a new reply once; the second one is final and becomes an error here;
- a refusal by the host that a redirect led to sends us back to the registry once: presigned URLs
  expire.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote

from yarl import URL

from registryd.oci.challenge import Scope, parse_challenges
from registryd.oci.errors import (
    Denied,
    ManifestUnknown,
    NameUnknown,
    RegistryError,
    Unauthorized,
)
from registryd.oci.routes import PREFIX, Ping
from registryd.oci.wire_errors import refusal
from registryd.ports import Warned
from registryd.remote.answer import Answer
from registryd.remote.authority import Asked, Authority, Grant
from registryd.remote.failures import TlsRefused
from registryd.remote.hosts import Endpoint, may_carry_login
from registryd.remote.realm import check_target
from registryd.remote.sending import Upload
from registryd.remote.stale import Retreat
from registryd.remote.token_server import refused_login
from registryd.remote.transport import Request, Transport
from registryd.secrets import Login, Secret

#: Asked without reply, with a reply from the cache, with a fresh one; no registry needs more.
ROUNDS = 3
#: What hosts of presigned URLs answer when the signature has expired or is refused.
STALE_REDIRECT = frozenset({400, 401, 403})

PULL = frozenset({"pull"})
PUSH = frozenset({"pull", "push"})


@dataclass(frozen=True, slots=True)
class Call:
    """One thing to ask of a registry; ``what`` begins the error line when it is refused.

    ``patient`` False: another host can be asked, so this one is asked once. ``home``: the registry
    itself is meant, and no mirror. ``written``: the host is meant that takes what is pushed.
    """

    method: str
    target: str | URL
    what: str
    repository: str = ""
    scopes: tuple[Scope, ...] = ()
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Upload | None = field(default=None, repr=False)
    repeatable: bool = True
    patient: bool = True
    home: bool = False
    written: bool = False


def scope(repository: str, actions: frozenset[str] = PULL) -> Scope:
    """The scope of a repository."""
    return Scope("repository", repository, actions)


class Exchange:
    """Requests to one registry, authorised as it wants them."""

    def __init__(
        self, endpoint: Endpoint, transport: Transport, authority: Authority, warned: Warned
    ) -> None:
        self.endpoint = endpoint
        self.transport = transport
        self._authority = authority
        #: Whose logins are shown: a mirror's are its own.
        self._door = authority.registry or endpoint.registry
        self._retreat = Retreat(self._door, authority.logins, warned)

    @property
    def registry(self) -> str:
        """The registry's name in references."""
        return self.endpoint.registry

    def asks(self, repository: str) -> Asked:
        """What the registry has asked for so far, of who reads this repository."""
        return self._authority.asks((scope(repository),))

    def distrust(self, target: str) -> bool:
        """Say that what came of this path is wrong; whether another host can be asked for it."""
        return False

    async def account(self, repository: str) -> str:
        """The user as whom a repository is asked for, "" without a login. Raises ConfigInvalid."""
        login = await self._authority.logins.find(repository)
        return login.username if login is not None else ""

    async def has_login(self, repository: str) -> bool:
        """Whether there is a login for a repository. Raises ConfigInvalid."""
        return await self._authority.logins.find(repository) is not None

    async def pull_token(self, repository: str) -> Secret | None:
        """What another may show to read a repository with our login, for a short while.

        None where there is no such thing. Raises as ``send`` does.
        """
        if not await self.has_login(repository):
            return None
        if not self._authority.known:
            what = f"cannot log in to {self.registry}"
            async with self.send(Call("GET", Ping().path(), what, repository)):
                pass  # what it says is its challenge
        return await self._authority.token(repository, (scope(repository),))

    @asynccontextmanager
    async def send(self, call: Call) -> AsyncIterator[Answer]:
        """The answer to a call, of any status but 401; its connection ends with the context.

        Raises Unauthorized, Denied, NameUnknown, RateLimited, BadAnswer, TransportError.
        """
        call = _renamed(call, self.endpoint)
        async with AsyncExitStack() as stack:
            try:
                answer = await self._retreat.ask(
                    call.repository,
                    call.scopes,
                    lambda shown, without: self._persuade(call, stack, shown, without),
                    what=call.what,
                    whole=call.method == "GET",
                )
            except Unauthorized:
                # Who logs in anew because of this must not wait until the old login is forgotten.
                self._authority.logins.forget()
                raise
            yield answer

    async def refusal(
        self, answer: Answer, what: str, absent: type[RegistryError] = ManifestUnknown
    ) -> RegistryError:
        """The error that an answer means which is not the one hoped for."""
        if answer.strayed:
            what = f"{what} ({self.registry} sends us to {answer.host})"
        return refusal(answer.status, await answer.errors(), what, absent=absent)

    async def _persuade(
        self, call: Call, stack: AsyncExitStack, shown: list[Login], without: Login | None
    ) -> Answer:
        went_back = False
        for left in reversed(range(ROUNDS)):
            grant = await self._authority.grant(
                call.repository, call.scopes, shown, without=without
            )
            answer = await self._ask(call, grant, stack)
            if self._is_stale_redirect(call, answer) and left and not went_back:
                went_back = True
            elif not await _is_refused(answer, grant):
                return answer
            elif not left or not await self._learn(call, answer, grant, without):
                return await self._final(call, answer, grant)
            await answer.drain()
        raise AssertionError("the last round returns or raises")

    async def _ask(self, call: Call, grant: Grant | None, stack: AsyncExitStack) -> Answer:
        """One request; a loopback registry that does not speak TLS is asked without."""
        base = self.endpoint.base
        if isinstance(call.target, URL):
            await check_target(base, call.target, lookup=self.transport.lookup)
        try:
            request = self._request(call, grant)
            answer = await stack.enter_async_context(self.transport.send(request))
        except TlsRefused:
            if not self.endpoint.step_down(base):
                raise
            request = self._request(call, grant)
            answer = await stack.enter_async_context(self.transport.send(request))
        if not may_carry_login(self.endpoint.base, request.url):
            answer.strayed = True
        answer.asked = self.endpoint
        if not answer.strayed and answer.status != 401:
            account = grant.login.username if grant is not None and grant.login else ""
            # A mirror's allowance is its own.
            self.transport.pacing.heard(self._authority.registry, account, answer.headers)
        return answer

    def _request(self, call: Call, grant: Grant | None) -> Request:
        if isinstance(call.target, URL):
            url = self.endpoint.named(call.target)
        else:
            url = self.endpoint.url(call.target, call.query)
        ours = may_carry_login(self.endpoint.base, url)
        return Request(
            call.method,
            url,
            call.headers if self.endpoint.ranges_work else _without_range(call.headers),
            login=grant.header if grant is not None and ours else None,
            body=call.body,
            repeatable=call.repeatable,
            registry=self.registry,
            own_headers=self.endpoint.headers if ours else {},
            patient=call.patient,
        )

    @staticmethod
    def _is_stale_redirect(call: Call, answer: Answer) -> bool:
        redirected = answer.strayed and isinstance(call.target, str)
        return redirected and call.repeatable and answer.status in STALE_REDIRECT

    async def _learn(
        self, call: Call, answer: Answer, grant: Grant | None, without: Login | None
    ) -> bool:
        """Whether another round makes sense, with what the refusal has taught us."""
        if not self._authority.learn(answer, call.scopes) and not self._authority.known:
            # Some registries send their challenge on a ping only.
            ping = Call("GET", Ping().path(), call.what)
            async with AsyncExitStack() as stack:
                self._authority.learn(await self._ask(ping, None, stack), ())
        if not self._authority.known:
            return False
        scheme = self._authority.scheme
        if grant is not None:
            self._authority.drop(grant)
            if not grant.fresh or grant.scheme != scheme:
                return True
        login = await self._authority.logins.find(call.repository, without=without)
        if grant is None:
            return scheme == "bearer" or (login is not None and not login.registry_token)
        return login != grant.login

    async def _final(self, call: Call, answer: Answer, grant: Grant | None) -> Answer:
        """The error for a login that did not do; an answer that is not about it stays one."""
        if answer.status != 401:
            return answer
        entries = await answer.errors()
        said = refusal(401, entries, f"{answer.host} answers").args[0]
        login = None if grant is None else grant.login
        if grant is not None and grant.scheme == "bearer":
            raise self._no_access(call, answer, login, said)
        line = refused_login(self._door, login, f"{call.what}: {said}")
        raise Unauthorized(line, status=401, entries=entries)

    def _no_access(
        self, call: Call, answer: Answer, login: Login | None, said: str
    ) -> RegistryError:
        """A token was given, and is not enough: the repository is not there, or not for us."""
        challenges = parse_challenges(answer.headers.getall("WWW-Authenticate", []))
        short = any(c.parameters.get("error") == "insufficient_scope" for c in challenges)
        pushing = any("push" in scope.actions for scope in call.scopes)
        who = "without a login" if login is None else f"as user {login.username!r}"
        if login is not None and login.stored:
            who = f"{who} (login from {login.origin})"
        if login is not None and login.registry_token:
            who = f"with the token of {login.origin}"
        hint = f"run registryctl login {self._door}"
        if short and not pushing:
            text = f"{call.what}: not found or no access {who}; check the name, or {hint}"
            return NameUnknown(text, status=401)
        if login is None:
            return Unauthorized(f"{call.what}: no access {who} ({said}); {hint}", status=401)
        return Denied(f"{call.what}: no access {who} ({said})", status=401)


def _without_range(headers: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value for name, value in headers.items() if name.lower() != "range"}


def _renamed(call: Call, endpoint: Endpoint) -> Call:
    """The call with the names that repositories have at an endpoint."""
    if not endpoint.renames or not call.repository:
        return call
    name = endpoint.repository(call.repository)
    target, query = call.target, call.query
    if isinstance(target, str):
        target = target.replace(f"{PREFIX}{call.repository}/", f"{PREFIX}{name}/", 1)
    parts = (part.partition("=") for part in query.split("&"))
    query = "&".join(
        f"{key}={quote(endpoint.repository(unquote(value)), safe='')}"
        if key == "from"
        else f"{key}{glue}{value}"
        for key, glue, value in parts
    )
    scopes = tuple(
        replace(each, name=endpoint.repository(each.name)) if each.kind == "repository" else each
        for each in call.scopes
    )
    return replace(call, target=target, query=query, repository=name, scopes=scopes)


async def _is_refused(answer: Answer, grant: Grant | None) -> bool:
    """Whether an answer says that our reply to the challenge does not do, or no more."""
    if answer.strayed or answer.status not in (400, 401, 403):
        return False
    if answer.status == 401:
        return True
    # Some registries say 403 to a stale token, some 400 and "has expired".
    if answer.status == 403 and grant is not None and not grant.fresh:
        return True
    texts = (entry.message.lower() for entry in await answer.errors())
    return grant is not None and any("expired" in text for text in texts)
