"""What an edge's agent tells Prometheus, at the moment of a scrape.

Series are bounded: models that have a route, and of each the versions that requests were routed to.
What a client sends never becomes one.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Protocol

from prometheus_client.core import Metric

from registry.refs import ModelName
from serving.edge.collector import Collector
from serving.edge.pairs import PairsProgress
from serving.edge.partition import Partition
from serving.edge.report import EdgeReport
from serving.edge.runtime import Incident
from serving.errors import EdgeUnavailable
from serving.lanes import is_lane
from serving.metrics import edge as metrics
from serving.metrics.exposition import Labels, histogram, number, numbers, text

Incidents = Mapping[ModelName, Mapping[Incident, int]]


class CountsIncidents(Protocol):
    """The part of HAProxy's memory that is only for watching."""

    async def incidents(self) -> Incidents:
        """Return how often what happened since HAProxy started.

        Raises:
            EdgeUnavailable: HAProxy does not run, or does not answer.
        """


class Speaker(Protocol):
    """The part of an agent that is asked here."""

    @property
    def partition(self) -> Partition: ...

    def report(self) -> EdgeReport: ...


async def exposition(
    agent: Speaker,
    collector: Collector,
    pairs: PairsProgress,
    haproxy: CountsIncidents,
    now: datetime,
) -> bytes:
    """Return everything, in Prometheus's text; without incidents if HAProxy cannot be asked."""
    incidents: Incidents = {}
    with suppress(EdgeUnavailable):
        incidents = await haproxy.incidents()
    report = agent.report()
    families = [
        *_traffic(collector),
        *_incidents(incidents, report),
        *_routes(report, agent.partition),
        *_evidence(report, collector, now),
        *_shadow(pairs),
    ]
    return text(families)


def _traffic(collector: Collector) -> Iterator[Metric]:
    answered = collector.traffic.answered()
    yield numbers(
        metrics.REQUESTS,
        {
            (*key, status, "true" if failed_over else "false"): count
            for key, found in answered.items()
            for (status, failed_over), count in found.requests.items()
        },
    )
    yield histogram(metrics.DURATION, {k: it.took for k, it in answered.items()})
    yield histogram(metrics.FIRST_BYTE, {k: it.first for k, it in answered.items()})


def _incidents(incidents: Incidents, report: EdgeReport) -> Iterator[Metric]:
    yield numbers(
        metrics.INCIDENTS,
        {
            (model, kind): count
            for model, kinds in incidents.items()
            for kind, count in kinds.items()
            if model in report.routes and not is_lane(model)
        },
    )


def _routes(report: EdgeReport, partition: Partition) -> Iterator[Metric]:
    users = {model: epoch for model, epoch in report.epochs.items() if not is_lane(model)}
    epochs: dict[Labels, float] = {(model,): epoch for model, epoch in users.items()}
    yield numbers(metrics.EPOCH, epochs)
    yield number(metrics.READY, report.haproxy_up and bool(report.routes))
    yield number(metrics.CUT_OFF, partition.is_cut_off)
    yield number(metrics.CUT_OFFS, partition.cut_offs)
    yield number(metrics.BREAK_GLASS, len(report.break_glass))


def _evidence(report: EdgeReport, collector: Collector, now: datetime) -> Iterator[Metric]:
    since = collector.waiting_since()
    yield number(metrics.COUNTED, report.requests_seen)
    yield number(metrics.BACKLOG, report.backlog_bytes)
    yield number(metrics.LAG, max(0.0, (now - since).total_seconds()) if since else 0.0)
    yield number(metrics.LOST_REQUESTS, report.lost_requests)
    yield number(metrics.LOST_BYTES, report.lost_bytes)
    yield number(metrics.MALFORMED, report.malformed_lines)


def _shadow(pairs: PairsProgress) -> Iterator[Metric]:
    users = {model: count for model, count in pairs.pairs.items() if not is_lane(model)}
    yield numbers(metrics.SHADOW_PAIRS, {(model,): count for model, count in users.items()})
    yield numbers(metrics.SHADOW_DROPPED, {(why,): count for why, count in pairs.dropped.items()})
    yield number(metrics.SHADOW_BACKLOG, pairs.backlog_bytes)
