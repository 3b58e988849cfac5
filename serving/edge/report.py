"""What an edge tells of itself: its acknowledgements and its heartbeat, in one document."""

from dataclasses import dataclass, field
from datetime import datetime

from registry.refs import ModelName, Version
from serving.edge.partition import CutOff, PartitionPolicy
from serving.routes import Route


@dataclass(frozen=True, slots=True)
class EdgeReport:
    """The state of one edge, written every second and at once when a route was applied.

    Args:
        epochs: The epoch that requests obey, per model. An epoch stands here only when HAProxy
            obeys it, or is not running and will read it when it starts.
        applied_at: When that epoch took effect, by this edge's clock.
        backlog_bytes: Request log that is not yet in the store.
        lost_bytes: Request log that had to be dropped uncounted since the agent started.
        lost_requests: Those since the agent started that HAProxy has numbered and no line tells of.
        requests_seen: Requests in the log since the agent started.
        requests: The same by model, for models that have a route.
        since: When the agent started.
        malformed_lines: Log lines since the agent started that could not be read.
        break_glass: Models whose rollback at this edge the controller has not taken over yet.
        withdrawn: The versions that these took away.
        policy: What this edge serves while the store has not heard of it for longer than its lease.
        cut_off: When that was last so, since the agent started.
        cut_offs: How often it was.
        routes: Every route as known, so that lost routes can be rebuilt from here.
    """

    edge: str
    at: datetime
    epochs: dict[ModelName, int]
    applied_at: dict[ModelName, datetime]
    backlog_bytes: int
    lost_bytes: int
    lost_requests: int
    requests_seen: int
    requests: dict[ModelName, int]
    since: datetime
    malformed_lines: int
    haproxy_up: bool
    break_glass: tuple[ModelName, ...]
    routes: dict[ModelName, Route]
    policy: PartitionPolicy = PartitionPolicy.KEEP
    cut_off: CutOff | None = None
    cut_offs: int = 0
    withdrawn: dict[ModelName, tuple[Version, ...]] = field(default_factory=dict)
