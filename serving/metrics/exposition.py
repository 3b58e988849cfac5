"""Families in Prometheus's text, from what is known at the moment of a scrape.

What changes by itself, such as routes and edges, is told as it stands: series of what is gone are
gone with it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from serving.metrics import Family, Kind
from serving.metrics.edge import BOUNDS_MS

MEDIA_TYPE = CONTENT_TYPE_LATEST

Labels = tuple[str, ...]


@dataclass(slots=True)
class Times:
    """How long things took.

    Args:
        counts: One for each upper end in `BOUNDS_MS`, and one for what is above all of them.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))
    total_ms: int = 0

    def add(self, ms: int, count: int) -> None:
        """Count what took so long so many times."""
        self.counts[bisect_left(BOUNDS_MS, ms)] += count
        self.total_ms += ms * count


class Snapshot(Collector):
    """Families as they stand at one moment."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def numbers(family: Family, values: Mapping[Labels, float]) -> Metric:
    """Return a counter or a gauge with a series for each combination of labels."""
    kind = CounterMetricFamily if family.kind is Kind.COUNTER else GaugeMetricFamily
    made = kind(family.name, family.explained, labels=family.labels)
    for labels, value in sorted(values.items()):
        made.add_metric(labels, value)
    return made


def number(family: Family, value: float) -> Metric:
    """Return a counter or a gauge without labels."""
    return numbers(family, {(): value})


def histogram(family: Family, series: Mapping[Labels, Times]) -> Metric:
    """Return a histogram in seconds."""
    made = HistogramMetricFamily(family.name, family.explained, labels=family.labels)
    uppers = [*(f"{bound / 1000:g}" for bound in BOUNDS_MS), "+Inf"]
    for labels, times in sorted(series.items()):
        so_far, buckets = 0, []
        for upper, count in zip(uppers, times.counts, strict=True):
            so_far += count
            buckets.append((upper, so_far))
        made.add_metric(labels, buckets, times.total_ms / 1000)
    return made


def text(families: Iterable[Metric], registry: CollectorRegistry | None = None) -> bytes:
    """Return what a scrape is answered with.

    Args:
        registry: What is counted elsewhere, told before.
    """
    snapshot = CollectorRegistry()
    snapshot.register(Snapshot([*_counted(registry), *families] if registry else families))
    return generate_latest(snapshot)


def _counted(registry: CollectorRegistry) -> Iterator[Metric]:
    """Yield what a registry has, but for the times at which it began to count.

    In this text each of those would be a family of its own that nobody has declared.
    """
    for family in registry.collect():
        family.samples = [it for it in family.samples if not it.name.endswith("_created")]
        yield family
