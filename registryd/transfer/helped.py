"""Helped: what brings a blob with the help of other nodes."""

from __future__ import annotations

from cache.ingest import Ingest
from registryd.cluster_ports import Errand, Neighbours
from registryd.ports import Inflow
from registryd.transfer.intake import Intake, Want


def shared(
    want: Want, ingest: Ingest, intake: Intake, neighbours: Neighbours | None
) -> Inflow | None:
    """What brings a blob with the help of other nodes; None where there is none to be had."""
    size = want.guess if ingest.size is None else ingest.size
    if neighbours is None or not size:
        return None
    errand = Errand(
        want.repository,
        want.digest,
        size,
        intake.bring,
        lambda: want.fetcher.pull_token(want.repository),
        made=want.made,
    )
    return neighbours.inflow(errand, ingest, whole=intake.whole)
