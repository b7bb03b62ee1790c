"""Who may do what, by the configuration; users are named there by name or number."""

from __future__ import annotations

from registryd.gateway.accounts import uids_of
from registryd.gateway.record import Account
from registryd.gateway_config import EVERYBODY, GatewayConfig
from registryd.oci.errors import Denied

ROOT = 0


class Rights:
    """What the configuration says of users."""

    def __init__(self, config: GatewayConfig) -> None:
        """Blocks: asks the machine's user database. Raises ConfigInvalid."""
        self._admins = uids_of(config.admins, "gateway.admins")
        self._everybody = EVERYBODY in config.import_users
        named = [name for name in config.import_users if name != EVERYBODY]
        self._importers = uids_of(named, "gateway.import_users")

    def account(self, uid: int, gid: int, groups: frozenset[int], *, owner: bool) -> Account:
        """Somebody, by what the kernel or munge says; ``owner``: the daemon's own user, or root."""
        admin = owner or uid == ROOT or uid in self._admins
        return Account(uid, gid, groups, "" if owner else f"uid:{uid}", admin)

    def check_import(self, account: Account) -> None:
        """Raise Denied unless somebody may import files."""
        if not (self._everybody or account.admin or account.uid in self._importers):
            raise Denied("only the users that gateway.import_users names may import files")


def check_admin(account: Account) -> None:
    """Raise Denied unless somebody is an admin."""
    if not account.admin:
        raise Denied("only the gateway's admins expire images, and see what others look up")
