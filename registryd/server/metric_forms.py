"""Counts as families of Prometheus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, Metric

_Labels = TypeVar("_Labels", bound=tuple[str, ...])


def counter(name: str, words: str, labels: Sequence[str], values: Mapping[_Labels, int]) -> Metric:
    """A family of counters: ``values`` by the values of the labels."""
    family = CounterMetricFamily(name, words, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def singly(values: Mapping[str, int]) -> dict[tuple[str, ...], int]:
    """The values by the value of an only label."""
    return {(key,): value for key, value in values.items()}
