"""Prefetch: images brought to many nodes ahead of their use, as the API has it.

Invariants:
- it is the business of the daemon's owner alone: a job makes other nodes fetch with their logins;
- names are resolved once, here, with this node's login; the job has digests and no login;
- whoever stops waiting leaves the job as it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace

from registryd.cluster.names import absent, answers
from registryd.conversion.recipe import Recipe
from registryd.hostlist import expand, fold, natural_order
from registryd.jobs.errors import NoCluster, Outrun
from registryd.jobs.lookup import Told
from registryd.jobs.prefetches import Prefetches
from registryd.jobs.record import LONGEST, Image, Job
from registryd.jobs.standing import Standing, latest, summed
from registryd.jobs.wishes import Wish
from registryd.oci.errors import Denied, UsageError
from registryd.oci.platform import Platform
from registryd.oci.reference import Reference
from registryd.operations.node import Node, Result
from registryd.transfer import report as events
from registryd.transfer.report import Report
from registryd.transfer.tags import Meaning
from registryd.units import parse_duration

#: Seconds that a job lasts unless its asker says otherwise.
USUAL = 86400.0
#: Seconds: a job that is over sooner has no time to begin.
SHORTEST = 60.0
#: Jobs of which a list says how far their nodes are: of a large cluster that is much to read.
COUNTED = 32
#: Tries to change a job that others change at the same time.
TRIES = 5


class Prefetching:
    """Jobs. Every method raises Faults only."""

    _node: Node

    async def prefetch(
        self,
        references: Sequence[str] = (),
        *,
        nodes: str | None = None,
        everywhere: bool = False,
        wishes: str | None = None,
        platforms: Sequence[str] = (),
        all_platforms: bool = False,
        convert: str | None = None,
        compat: str | None = None,
        plain: bool = False,
        lasting: str | None = None,
        wait: bool = False,
        timeout: str | None = None,
        principal: str = "",
        report: Report = events.silent,
    ) -> None:
        """Put a job up, and with ``wait`` follow it; the last event is ``done``.

        ``nodes`` is a host list, ``wishes`` the text of a wish list; ``lasting`` and ``timeout``
        are times. With ``convert`` (a form) the images are made one file too.
        Raises Denied, UsageError, NoCluster, BoardUnreachable, and what resolving does.
        """
        prefetches = self._prefetches(principal)
        limit = None if timeout is None else parse_duration(timeout)
        wished, where = _wished(wishes, references)
        targets = _targets(prefetches, nodes or ("" if everywhere else where), everywhere)
        span = _lasting(lasting, LONGEST if wished else USUAL)
        scope = tuple(dict.fromkeys(str(Platform.parse(text)) for text in platforms))
        if wished and (scope or all_platforms):
            raise UsageError("platforms of wishes are said in their file")
        recipe = _recipe(convert, compat, plain=plain, wished=bool(wished))
        told = _teller(report)
        images: dict[Image, None] = {}
        for wish in wished:
            images |= dict.fromkeys(await prefetches.lookup.wished(wish, told))
        names = [Reference.parse(text) for text in references]
        images |= dict.fromkeys(
            await prefetches.lookup.images(names, scope, everything=all_platforms, told=told)
        )
        now = round(prefetches.clock(), 3)
        job = Job(
            id=secrets.token_hex(6),
            images=tuple(replace(image, recipe=recipe) for image in images),
            targets=targets,
            node=prefetches.me,
            created=now,
            until=round(now + span, 3),
            wishes=wished,
            resolved=(now,) * len(wished),
        )
        await prefetches.board.post(job)
        report({"event": "job", **_shown(job)})
        await _report_end(prefetches, job, report, wait, limit)

    async def jobs(self, *, principal: str = "") -> Result:
        """All jobs that are known, the newest with how far their nodes are. Raises as ``job``."""
        prefetches = self._prefetches(principal)
        found = await prefetches.board.jobs()
        said = {job.id: await prefetches.board.standings(job.id) for job in found[-COUNTED:]}
        return {"jobs": [_listed(prefetches, job, said.get(job.id)) for job in found]}

    async def job(self, id: str, *, principal: str = "") -> Result:
        """A job, and each of its nodes. Raises Denied, JobUnknown, BoardUnreachable."""
        prefetches = self._prefetches(principal)
        job = await prefetches.job(id)
        said = latest(await prefetches.board.standings(job.id))
        meant = [name for name in prefetches.alive() if job.is_for(name)]
        silent = [name for name in meant if name not in said]
        silent += absent(job.targets or (), {*meant, *said})
        return {
            **_listed(prefetches, job, said.values()),
            "standings": [said[name].as_json() for name in sorted(said, key=natural_order)],
            "silent": sorted(silent, key=natural_order),
        }

    async def cancel(self, id: str, *, principal: str = "") -> Result:
        """End a job on all nodes; what is on its way goes on to its end.

        Raises Denied, JobUnknown, BoardUnreachable.
        """
        prefetches = self._prefetches(principal)
        for left in reversed(range(TRIES)):
            job = await prefetches.job(id)
            if job.state == "cancelled":
                break
            try:
                await prefetches.board.post(job.cancelled())
                break
            except Outrun:
                if not left:
                    raise
        return {"id": id, "state": "cancelled"}

    def _prefetches(self, principal: str) -> Prefetches:
        if principal:
            raise Denied("only root and the daemon's own user put up, see and end jobs")
        if self._node.prefetches is None:
            raise UsageError("prefetch is the work of a daemon, and this is none (see pull)")
        return self._node.prefetches


def _wished(text: str | None, references: Sequence[str]) -> tuple[tuple[Wish, ...], str]:
    """The wishes of a list, and the nodes that it names. Raises UsageError."""
    if (text is None) == (not references):
        raise UsageError("prefetch takes images, or a list of wishes (and not both)")
    if text is None:
        return (), ""
    from registryd.jobs.wish_list import parse_wishes  # few daemons need YAML

    found = parse_wishes(text)
    return found.wishes, found.nodes


def _recipe(form: str | None, compat: str | None, *, plain: bool, wished: bool) -> str:
    """The recipe of a job's images, "" for none. Raises UsageError."""
    if form is None:
        if compat is not None or plain:
            raise UsageError("--compat and --plain speak of --convert")
        return ""
    if wished:
        raise UsageError("--convert is for images, not for a list of wishes")
    return str(Recipe.of(form, compat, dressed=not plain))


def _targets(prefetches: Prefetches, nodes: str, everywhere: bool) -> tuple[str, ...] | None:
    """The nodes that are meant, None for all. Raises UsageError, NoCluster."""
    if nodes and everywhere:
        raise UsageError("some nodes and all of them contradict each other")
    everywhere = everywhere or nodes == "all"
    names = expand(nodes) if nodes and not everywhere else ()
    cluster = prefetches.cluster
    if cluster.kind == "none":
        others = [name for name in names if not answers(prefetches.me, name)]
        if everywhere or others:
            who = "all nodes" if everywhere else fold(others[:8])
            raise NoCluster(
                f"this node has no cluster, so that {who} cannot be told (its configuration has no"
                f" [cluster]; without --nodes and --all it prefetches for itself)"
            )
        return names or None
    if not names and not everywhere:
        raise UsageError("say which nodes: --nodes LIST (such as a[1-64]), or --all")
    if cluster.kind == "static":
        known = [node.name for node in cluster.nodes()]
        strange = absent(names, known)
        if strange:
            raise UsageError(
                f"{fold(strange[:8])}{'...' if len(strange) > 8 else ''} is not among the peers of"
                " this cluster (registryctl nodes lists them)"
            )
    return None if everywhere else names


def _lasting(text: str | None, usual: float) -> float:
    seconds = usual if text is None else parse_duration(text)
    if not SHORTEST <= seconds <= LONGEST:
        raise UsageError("a job lasts 1m to 30d")
    return seconds


def _teller(report: Report) -> Told:
    def tell(reference: Reference, meaning: Meaning) -> None:
        report(events.resolved(reference, meaning.descriptor))
        if meaning.stale is not None:
            report(events.warning(meaning.stale))

    return tell


async def _report_end(
    prefetches: Prefetches, job: Job, report: Report, wait: bool, limit: float | None
) -> None:
    """The last event: how it has ended, or that it has begun."""
    end: Result = {"event": "done", "job": job.id, "waited": wait}
    if wait:
        ending = await prefetches.follow(job, report, timeout=limit)
        end |= {
            "done": list(ending.done),
            "failed": [{"node": node, "error": error} for node, error in ending.failed],
            "missing": list(ending.missing),
        }
    seconds = round(prefetches.clock() - job.created, 3)
    report({**end, "seconds": seconds})


def _shown(job: Job) -> Result:
    """A job as the API has it: its record without what only nodes need."""
    record = job.as_json()
    on = record.pop("nodes")
    del record["version"], record["resolved"]
    return {**record, "on": on or "all"}


def _listed(prefetches: Prefetches, job: Job, said: Iterable[Standing] | None) -> Result:
    """A job with what its nodes come to, as far as that was asked for."""
    over = job.state == "active" and not job.runs(prefetches.clock())
    nodes = None
    if said is not None:
        current = latest(said)
        meant = {*current, *(name for name in prefetches.alive() if job.is_for(name))}
        count = len(meant) + len(absent(job.targets or (), meant))
        nodes = summed(current.values(), job.revision, count)
    return {**_shown(job), "state": "ended" if over else job.state, "nodes": nodes}
