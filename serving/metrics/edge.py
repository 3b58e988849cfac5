"""What an edge's agent tells."""

from serving.metrics import Family, Kind

BOUNDS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 30_000)
"""Upper ends of the buckets of both histograms."""

REQUESTS = Family(
    "tiltyard_edge_requests",
    Kind.COUNTER,
    "Inferences by the version that was assigned and the status that the client got, `none` if it"
    " got none; `failover` says whether its first try failed, so that the fallback was asked.",
    ("model", "version", "variant", "status", "failover"),
)
DURATION = Family(
    "tiltyard_edge_duration_seconds",
    Kind.HISTOGRAM,
    "From an inference's first byte at the edge to the last byte of its answer.",
    ("model", "version", "variant"),
)
FIRST_BYTE = Family(
    "tiltyard_edge_first_byte_seconds",
    Kind.HISTOGRAM,
    "From an inference's headers to the first byte of its answer: sooner than all, if it streams.",
    ("model", "version", "variant"),
)
INCIDENTS = Family(
    "tiltyard_edge_incidents",
    Kind.COUNTER,
    "Requests that did not go the way that was meant for them, by what became of them (below).",
    ("model", "kind"),
)
INCIDENT_KINDS = {
    "shed_champion": "429: as many requests of the champion were under way as may be",
    "shed_challenger": "429: meant for a challenger, while the champion's hosts were crowded",
    "shed_pinned": "429: pinned to a version, while its hosts or the champion's were crowded",
    "shed_failover": "429: a version failed, and the hosts of the one behind it were crowded",
    "challenger_full": "as many requests of a challenger were under way as may be: the champion was"
    " asked at once",
    "budget_spent": "503: a challenger failed, and the experiment's failover budget was spent",
    "withdrawn": "an answer thrown away, because its version was withdrawn before it began",
    "one_try": "too large to be tried a second time, whether or not that was needed",
}
EPOCH = Family(
    "tiltyard_edge_epoch", Kind.GAUGE, "Epoch of the route that requests obey.", ("model",)
)
READY = Family("tiltyard_edge_ready", Kind.GAUGE, "1 while HAProxy runs and a model has a route.")
CUT_OFF = Family(
    "tiltyard_edge_cut_off",
    Kind.GAUGE,
    "1 while Redis has not heard of the edge for longer than its lease.",
)
CUT_OFFS = Family("tiltyard_edge_cut_offs", Kind.COUNTER, "How often that has begun.")
BREAK_GLASS = Family(
    "tiltyard_edge_break_glass",
    Kind.GAUGE,
    "Models rolled back on the edge's own socket that control has not taken over yet.",
)
COUNTED = Family(
    "tiltyard_edge_counted_requests", Kind.COUNTER, "Inferences counted into evidence."
)
BACKLOG = Family("tiltyard_edge_backlog_bytes", Kind.GAUGE, "Request log that is not in Redis yet.")
LAG = Family(
    "tiltyard_edge_lag_seconds", Kind.GAUGE, "Age of the oldest inference that is not in Redis yet."
)
LOST_REQUESTS = Family(
    "tiltyard_edge_lost_requests",
    Kind.COUNTER,
    "Inferences that HAProxy has numbered and no line tells of; experiments are charged with them.",
)
LOST_BYTES = Family(
    "tiltyard_edge_lost_bytes", Kind.COUNTER, "Request log dropped before it was counted."
)
MALFORMED = Family(
    "tiltyard_edge_malformed_lines", Kind.COUNTER, "Lines of the request log that were damaged."
)
SHADOW_PAIRS = Family(
    "tiltyard_edge_shadow_pairs",
    Kind.COUNTER,
    "Inferences that a challenger was asked again, unseen, and that are compared.",
    ("model",),
)
SHADOW_DROPPED = Family(
    "tiltyard_edge_shadow_dropped",
    Kind.COUNTER,
    "Inferences that were to be repeated to a challenger and cannot be compared, by why (below).",
    ("reason",),
)
SHADOW_BACKLOG = Family(
    "tiltyard_edge_shadow_backlog_bytes", Kind.GAUGE, "Compared pairs that are not in Redis yet."
)
SHADOW_REASONS = {
    "body_too_large": "the request is larger than `shadow_body_bytes`",
    "answer_too_large": "the champion's answer is larger than that",
    "challenger_answer_too_large": "the challenger's answer is",
    "streamed": "server-sent events have no end at which they could be compared",
    "turned_away": "the champion's hosts had all that they could take",
    "unfinished": "the answer broke off, or its client left before its end",
    "queue_full": "requests came faster than the challenger answered, or the worker did not run",
    "stale": "it waited so long that its answer would say nothing about now",
    "worker_failed": "the shadow worker died of it, or could not write its log",
    "unknown_experiment": "the agent had not written down what to compare",
    "unsendable": "the request is none that can be sent a second time",
    "error": "a defect of `shadow.lua`; HAProxy's messages say which",
}

EDGE = (
    REQUESTS,
    DURATION,
    FIRST_BYTE,
    INCIDENTS,
    EPOCH,
    READY,
    CUT_OFF,
    CUT_OFFS,
    BREAK_GLASS,
    COUNTED,
    BACKLOG,
    LAG,
    LOST_REQUESTS,
    LOST_BYTES,
    MALFORMED,
    SHADOW_PAIRS,
    SHADOW_DROPPED,
    SHADOW_BACKLOG,
)
