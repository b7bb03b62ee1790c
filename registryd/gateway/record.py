"""What the gateway remembers: who asks, who may read, imports and images (values).

Invariants:
- an image that its registry does not give to everybody is its pullers' and of those that they
  named, and nobody else's: there is no private image that all may read;
- a list that one puller gave is theirs: another puller's list takes nothing from it;
- what is told of an image or import to somebody who may not read it is nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from registryd.gateway.names import ImageName
from registryd.gateway.states import State, follows

#: How many users and groups one list may name.
LONGEST_LIST = 1000
#: The largest number of a user or group: the last one means "nobody changed it".
LARGEST_ID = 2**32 - 2

Kind = Literal["pull", "import"]


@dataclass(frozen=True, slots=True)
class Account:
    """A user of the machine (or of the cluster, by munge). ``principal`` "" is the daemon's owner.

    ``admin`` may expire images and see all.
    """

    uid: int
    gid: int
    groups: frozenset[int] = frozenset()
    principal: str = ""
    admin: bool = False

    @property
    def gids(self) -> frozenset[int]:
        """All groups that the user is in."""
        return self.groups | {self.gid}


@dataclass(frozen=True, slots=True)
class Acl:
    """Users and groups, by number."""

    uids: frozenset[int] = frozenset()
    gids: frozenset[int] = frozenset()

    def admits(self, account: Account) -> bool:
        """Whether somebody is among them."""
        return account.uid in self.uids or bool(account.gids & self.gids)

    def joined(self, other: Acl) -> Acl:
        """Those of both."""
        return Acl(self.uids | other.uids, self.gids | other.gids)


#: Nobody.
NO_LIST: Final = Acl()


def own_list(account: Account, uids: frozenset[int], gids: frozenset[int]) -> Acl:
    """The list of a puller: themselves, whom they named, and with groups their own group too."""
    return Acl(uids | {account.uid}, gids | {account.gid} if gids else gids)


@dataclass(frozen=True, slots=True)
class Setup:
    """What an image's configuration says of running it, as Shifter's records have it."""

    env: tuple[str, ...] = ()
    entry: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

    def as_json(self) -> dict[str, Any]:
        """For the database."""
        return {
            "env": list(self.env),
            "entry": list(self.entry),
            "cmd": list(self.cmd),
            "workdir": self.workdir,
            "user": self.user,
            "labels": dict(self.labels),
        }

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Setup:
        """From the database."""
        return cls(
            env=tuple(said["env"]),
            entry=tuple(said["entry"]),
            cmd=tuple(said["cmd"]),
            workdir=said["workdir"],
            user=said["user"],
            labels=dict(said["labels"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An import that somebody has asked for; ``changed`` is when it came into its state.

    ``exit_code`` is the kind of a failure; ``with_login`` says that a login came along, which is
    nowhere but in memory; ``file`` is what was handed in, in the folder of the work; ``path`` is
    what is to be read with the user's own rights.
    """

    name: ImageName
    account: Account
    acl: Acl
    created: float
    changed: float
    state: State = "INIT"
    message: str = ""
    exit_code: int = 0
    with_login: bool = False
    kind: Kind = "pull"
    file: str = ""
    form: str = ""
    path: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """What there is one request of: a name, and who asks."""
        return self.name.itype, self.name.tag, self.account.uid

    def moved(self, state: State, now: float, message: str = "", exit_code: int = 0) -> Request:
        """The same in another state. Raises ValueError for a step that there is not."""
        if not follows(self.state, state):
            raise ValueError(f"{self.name}: no step leads from {self.state} to {state}")
        return replace(self, state=state, changed=now, message=message, exit_code=exit_code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that is here; ``lists`` are those of its pullers, by their uid.

    ``id`` is the digest of its manifest (or of its file) in hex, ``content`` that of its squashfs.
    """

    id: str
    itype: str
    private: bool
    content: str
    size: int
    form: str
    setup: Setup
    last_pull: float
    last_lookup: float
    state: State = "READY"
    lists: Mapping[int, Acl] = field(default_factory=dict, hash=False)
    names: tuple[ImageName, ...] = ()

    @property
    def acl(self) -> Acl:
        """All who may read it, where it is private."""
        found = Acl()
        for each in self.lists.values():
            found = found.joined(each)
        return found

    def readable(self, account: Account | None) -> bool:
        """Whether somebody (None: nobody in particular) may read it."""
        if self.state != "READY":
            return False
        if not self.private:
            return True
        return account is not None and (account.admin or self.acl.admits(account))


@dataclass(frozen=True, slots=True)
class Lookup:
    """That somebody has looked an image up."""

    time: float
    user: str
    uid: int
    name: ImageName
    id: str
