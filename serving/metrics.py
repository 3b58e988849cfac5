"""What control tells Prometheus: every name, typed and explained, in this one place."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

ROLLBACK_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0)


class Metrics:
    """Metrics of one control process, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.leads = Gauge(
            "tiltyard_leads", "1 while this control holds the lease.", registry=self.registry
        )
        self.troubles = Gauge(
            "tiltyard_troubles",
            "Parts of control that did not succeed at their last try.",
            registry=self.registry,
        )
        self.ticks = Counter(
            "tiltyard_ticks", "Looks at all experiments, as the leader.", registry=self.registry
        )
        self.changes = Counter(
            "tiltyard_changes",
            "What ticks have changed: decisions, repairs, ends of transitions.",
            registry=self.registry,
        )
        self.rollback_seconds = Histogram(
            "tiltyard_rollback_seconds",
            "From a person's command to the last edge's acknowledgement.",
            buckets=ROLLBACK_BUCKETS,
            registry=self.registry,
        )
        self.outcomes = Counter(
            "tiltyard_outcomes",
            "Outcomes received, by what became of them.",
            ["status"],
            registry=self.registry,
        )
