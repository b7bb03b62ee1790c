"""What to do about each error of this project, by the name of its class.

Its line says what is wrong and where; here stands what one does next. ``python -m
scripts.errors_page`` makes a page of it, and a test holds that no error is without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_AGAIN = "Try again; what came so far is kept. When it stays: the line names the host."
_PEER = "Nothing: another node, or the registry, is asked. `registryctl nodes` shows who is there."
_FILE = "Mend the file at the key or line that is named; nothing of it was used."
_REPORT = "It does not leave the program. When it does, that is a fault of ours: report it."

CURES: Final[Mapping[str, str]] = {
    # content and disk
    "DigestInvalid": "Write `sha256:` and 64 lower-case hexadecimal digits, or `sha512:` and 128.",
    "DigestMismatch": "The source sends wrong bytes: another mirror, or its owner, has to be asked."
    " Nothing of it was kept. In the cache: `registryctl cache verify`, then pull again.",
    "SizeMismatch": "As with a digest: the source is wrong or was changed while it was read.",
    "BlobNotFound": "Pull the image that has it.",
    "NameNotFound": "`registryctl images` lists the names; pull it, or mend the spelling.",
    "PinNotFound": "`registryctl cache pins` lists the pins.",
    "QuotaExceeded": "`registryctl cache quota` shows what you hold; unpin images, or ask for"
    " more (`cache.quotas` in the daemon's configuration).",
    "PatternInvalid": "Write names with `*` (within a part) or `**`: `docker.io/library/*`.",
    "Pinned": "`registryctl cache unpin`, by whom the line names, then again.",
    "IngestAborted": _AGAIN,
    "StoreLocked": "A daemon has this cache: go without `--root`, or name another folder."
    " The line names the process.",
    "StoreUnusable": "The folder has to be there, ours and writable: mend what the line names."
    " `registryctl doctor` looks at it too.",
    "DiskFull": "Make room: `registryctl cache gc --free SIZE`, `rmi`, `cache unpin`, a larger"
    " `max_size`. What was begun goes on from there.",
    # names, flags, files that people write
    "UsageError": "The line says what to write instead; `registryctl COMMAND --help`.",
    "ReferenceInvalid": "Write `[REGISTRY/]NAME[:TAG][@DIGEST]`; repositories are lower case.",
    "ConfigInvalid": "Mend the key that is named; `config.example.toml` has every key.",
    "JobInvalid": _FILE,
    "LaunchRefused": "The line says what to write instead.",
    "YamlWrong": _FILE,
    "CdiFileWrong": _FILE,
    "ElfWrong": "The library that is named is none for this machine: mend the module's paths.",
    "LoaderCacheWrong": "Run `ldconfig` as root.",
    "ModuleWrong": _FILE,
    "SyncInvalid": _FILE,
    # registries
    "RegistryError": "The registry's own words are in the line: they say what it wants.",
    "ManifestUnknown": "Look at the name and the tag (`registryctl tags REPO`). Of a private image:"
    " log in; to who may not see it, it is not there.",
    "NameUnknown": "The same, for the repository.",
    "BlobUnknown": "The registry has lost a layer: push the image again there.",
    "PlatformUnknown": "`--platform` one of those that the line lists.",
    "Unauthorized": "`registryctl login REGISTRY`; `registryctl auth explain REF` says which"
    " credential is used, and why.",
    "LoginWanted": "Clients log in by themselves; see [who may read what](access.md).",
    "TokenInvalid": "The client asks for a new token by itself.",
    "Denied": "This login may not, or `[access] allow` does not name the registry: the line tells.",
    "SignatureInvalid": "Have the image signed, or mend its rule: [signatures](signatures.md).",
    "RateLimited": "Wait until the time in the line, log in (limits are higher then), or set a"
    " mirror. `registryctl ratelimit` shows what is left.",
    "NotBefore": "The same: the host has said until when.",
    "UploadsFull": "End some uploads, or wait: those that nobody goes on with run out.",
    "Unavailable": "The registry behind a mirror or daemon is away: wait, or ask it itself.",
    "ManifestInvalid": "The image is not what the specification says (schema 1 is too old): push it"
    " anew with a tool of today.",
    "ManifestBlobUnknown": "Push the layers first, then the manifest.",
    "UploadUnknown": "Begin the upload anew.",
    "UploadInvalid": "Begin the upload anew; the line says what did not fit.",
    "RangeInvalid": "Ask for bytes within the size that the answer names.",
    "Unsupported": "The line names what can be done instead, where there is something.",
    "BadAnswer": "Something before the registry answers in its place (a proxy, a login page):"
    " look at the address and at `proxy`.",
    "TransportError": _AGAIN,
    "Offline": "`offline = true` is set for this registry: take it away, or use what is held.",
    "TlsRefused": "The host speaks plain HTTP: `plain_http = true`, or `--plain-http`, where that"
    " is meant.",
    "Untrusted": "Name its authority: `ca_file`, `certs.d`, `--cert-dir`.",
    "NotPassing": "Look at the address, the port and the proxy that the line names.",
    "OverBudget": "The registry is slow; it is still fetched, for who asks next.",
    "_WholeRefused": _REPORT,
    # the daemon and the commands
    "DaemonUnreachable": "Start it (`systemctl start registryd`), or name its `--socket`;"
    " without a daemon, `--root DIR`.",
    "DaemonRefused": "The line is the daemon's own; its log has more.",
    "Partly": "Those that failed have been named: run it again for them.",
    "OutputLost": "Whoever was to read stdout has gone, or its disk is full.",
    "CommandTimedOut": "Give it longer (`--timeout`); what was begun goes on from there.",
    "ManifestsDiffer": "It is the answer of `manifest diff`, not a failure.",
    "ImageInvalid": "Pull or push it anew: each fault has been told.",
    "OutOfStep": "It is the answer of `sync --check`: run `sync`.",
    "WouldOverwrite": "Leave out `--no-clobber`, or choose another name.",
    # images as files, conversions, mounts, commands in images
    "NotAnImage": "The file is damaged or something else: the line says what it lacks.",
    "PathUnusable": "Mend the path that is named: rights, room, another file in its place.",
    "NotMade": "The program's own words are in the line; it may have to be installed.",
    "Stopped": _REPORT,
    "NotMountable": "Convert the image first, or name a whole squashfs.",
    "MountFailed": "The line says what this machine lacks: [mounting](mounting.md).",
    "MountBusy": "End the processes that are named, or `unmount` later.",
    "NotMounted": "`registryctl mount` lists what is.",
    "LaunchFailed": "The line says what this machine lacks: [running](running.md).",
    "CommandMissing": "Name a command that the image has: `registryctl shell IMAGE` to look.",
    "CommandNotRun": "It is not executable, or for another machine: `--platform`.",
    "ModulesBroken": "Mend the files that were named: [modules](modules.md).",
    # the cluster
    "JobUnknown": "`registryctl jobs` lists them; ended ones go after a while.",
    "BoardUnreachable": "NATS does not answer: try again when it does; jobs that run go on.",
    "NoCluster": "Set `[cluster]` up: [prefetch](prefetch.md).",
    "Outrun": _REPORT,
    "IdentityUnusable": "Make the certificate anew (`registryctl cluster add`), or mend its mode.",
    "PeerRefused": "The node's certificate is of another cluster, or has run out: `cluster show`.",
    "PeerFault": _PEER,
    "PeerGone": _PEER,
    "PeerCut": _PEER,
    "PeerStalled": _PEER,
    "PeerUnknown": _PEER,
    "PeerWrong": _PEER,
    "NatsAway": "Nodes go on with what they know; start the server that is named.",
    # the gateway, schedulers, runtimes
    "QueueFull": "Wait until some imports are done: `registryctl gateway queue`.",
    "ImageUnknown": "`registryctl gateway images` lists what you may read; else `gateway pull`.",
    "Refused": "The site's examiner does not let it in: its last line is in the message.",
    "LoginLost": "Ask for the import again, with the login.",
    "MungeUnusable": "Start munged on this node; the key has to be the cluster's.",
    "RecordUnwritable": "Mend the folder that is named (`/run/registryd/slurm`).",
    "FolderUnusable": "Remove the folder that is named, or give it to its user alone (0700).",
    "SchedulerRefused": "The scheduler's own words are in the line.",
    "SetupBlocked": "Put the lines that were shown into the file that stands there.",
    "SetupLeft": "The same, for the rest; what could be written is.",
    "DockerdSilent": "Start dockerd, or name its socket in `DOCKER_HOST`.",
    "RuntimesBroken": "Each runtime that failed was told with what it said.",
}
