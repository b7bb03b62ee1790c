"""A file of images to mirror, in whichever words it is written."""

from __future__ import annotations

from registryd.oci.errors import UsageError
from registryd.sync.errors import SyncInvalid
from registryd.sync.plan import Plan
from registryd.sync.regsync_file import World, read_regsync
from registryd.sync.skopeo_file import Target, read_skopeo
from registryd.sync.whole import Extras
from registryd.tables import KeyWrong
from registryd.yaml_values import read_yaml

#: Keys by which a file of regsync's is known; in one of skopeo's the keys are registries.
REGSYNC_KEYS = frozenset({"version", "creds", "defaults", "sync"})


def read_plan(
    text: str, *, name: str, world: World, skopeo: tuple[Target, Extras] | None = None
) -> Plan:
    """The plan that a file's text is. ``name`` is the file's, for errors.

    ``skopeo`` is what that takes from its command line; regsync's files say it themselves. Raises
    SyncInvalid.
    """
    try:
        raw = read_yaml(text)
        if raw is None:
            raise UsageError("is empty (it needs sync:, or registries with images:)")
        if not isinstance(raw, dict):
            raise UsageError("is no mapping (it needs sync:, or registries with images:)")
        if REGSYNC_KEYS & raw.keys():
            if skopeo is not None:
                raise UsageError("says itself where its images go (sync[].target): give no DEST")
            return read_regsync(raw, world)
        if skopeo is None:
            raise UsageError(
                "is in the words of skopeo, which say no destination: sync FILE DEST"
                " (or it lacks sync:, as regsync has it)"
            )
        return read_skopeo(raw, *skopeo)
    except (KeyWrong, UsageError) as error:
        raise SyncInvalid(f"{name}: {error}") from error
