"""The parts of ``transfer``, which upkeep works with."""

from tests.transfer.conftest import (  # noqa: F401 (pytest finds fixtures by these names)
    app,
    clock,
    connect,
    flights,
    held,
    library,
    policy,
    remote,
    store,
    tag,
    upstream,
)
