"""What control tells."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.metrics import Family, Kind

PERSON = "person"
"""Who rolled back, if not the controller."""

ROLLBACK_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0)

LEADS = Family("tiltyard_leads", Kind.GAUGE, "1 while this control holds the lease.")
TROUBLES = Family(
    "tiltyard_troubles", Kind.GAUGE, "Parts of control that did not succeed at their last try."
)
TICKS = Family("tiltyard_ticks", Kind.COUNTER, "Looks at all experiments, as the leader.")
CHANGES = Family(
    "tiltyard_changes",
    Kind.COUNTER,
    "What ticks have changed: decisions, repairs, ends of transitions.",
)
DECISIONS = Family(
    "tiltyard_decisions",
    Kind.COUNTER,
    "Decisions by kind, those to go on as before (`continue`) at every look included.",
    ("kind",),
)
ROLLBACK_SECONDS = Family(
    "tiltyard_rollback_seconds",
    Kind.HISTOGRAM,
    "From a person's command, or the controller's decision, to the last edge's acknowledgement.",
    ("by",),
)
DRILL_SECONDS = Family(
    "tiltyard_drill_seconds",
    Kind.HISTOGRAM,
    "The same for rollbacks of drills, which no user is touched by.",
)
DRILL_FAILURES = Family(
    "tiltyard_drill_failures",
    Kind.COUNTER,
    "Rollbacks of drills that failed, or that an edge did not acknowledge in time.",
)
OUTCOMES = Family(
    "tiltyard_outcomes", Kind.COUNTER, "Outcomes received, by what became of them.", ("status",)
)
WAITING_OUTCOMES = Family(
    "tiltyard_waiting_outcome_bytes",
    Kind.GAUGE,
    "Outcomes that this control keeps on disk until Redis is back.",
)
EDGES = Family("tiltyard_edges", Kind.GAUGE, "Edges that were heard of within their lease.")
EPOCH = Family("tiltyard_epoch", Kind.GAUGE, "Epoch of the route in Redis.", ("model",))
REPLICAS = Family(
    "tiltyard_replicas",
    Kind.GAUGE,
    "Replicas that a deployed version is to have.",
    ("model", "version"),
)
READY_REPLICAS = Family(
    "tiltyard_ready_replicas",
    Kind.GAUGE,
    "Those of them that are loaded and answer; with all of them a version is hot.",
    ("model", "version"),
)

CONTROL = (
    LEADS,
    TROUBLES,
    TICKS,
    CHANGES,
    DECISIONS,
    ROLLBACK_SECONDS,
    DRILL_SECONDS,
    DRILL_FAILURES,
    OUTCOMES,
    WAITING_OUTCOMES,
    EDGES,
    EPOCH,
    REPLICAS,
    READY_REPLICAS,
)


class Metrics:
    """What one control process counts itself, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.leads = self._gauge(LEADS)
        self.troubles = self._gauge(TROUBLES)
        self.ticks = self._counter(TICKS)
        self.changes = self._counter(CHANGES)
        self.decisions = self._counter(DECISIONS)
        self.rollback_seconds = self._histogram(ROLLBACK_SECONDS)
        self.drill_seconds = self._histogram(DRILL_SECONDS)
        self.drill_failures = self._counter(DRILL_FAILURES)
        self.outcomes = self._counter(OUTCOMES)
        self.waiting_outcomes = self._gauge(WAITING_OUTCOMES)

    def observe_rollback(self, seconds: float, *, by: str) -> None:
        """Count a rollback of users' traffic, by a `person` or by the `controller`."""
        self.rollback_seconds.labels(by).observe(seconds)

    def observe_drill(self, seconds: float | None) -> None:
        """Count one rollback of a drill; None stands for one that failed."""
        if seconds is None:
            self.drill_failures.inc()
        else:
            self.drill_seconds.observe(seconds)

    def _gauge(self, it: Family) -> Gauge:
        return Gauge(it.name, it.explained, it.labels, registry=self.registry)

    def _counter(self, it: Family) -> Counter:
        return Counter(it.name, it.explained, it.labels, registry=self.registry)

    def _histogram(self, it: Family) -> Histogram:
        buckets = ROLLBACK_BUCKETS
        return Histogram(it.name, it.explained, it.labels, registry=self.registry, buckets=buckets)
