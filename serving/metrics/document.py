"""Writes `docs/metrics.md`: `python -m serving.metrics.document`."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from serving.metrics import Family
from serving.metrics.control import CONTROL
from serving.metrics.edge import EDGE, INCIDENT_KINDS, SHADOW_REASONS

_DOCUMENT = """\
# Metrics

Written by `python -m serving.metrics.document`. Labels are bounded: models that have a route, and
the versions that their requests were routed to. What clients send never becomes a label, and the
lanes in which Tiltyard tries itself out neither. Counters begin anew with the process that counts.

Nobody but Prometheus needs the edges' ports, so they are on the loopback address by default.

## An edge

At `edge_metrics_port` (8100; further edges of `tiltyard up` have the ports after it). `/metrics` is
HAProxy's own exporter: connections, queues and bytes by frontend, backend and server, as HAProxy
documents them. `/agent/metrics` is told by the agent beside it:

{edge}
The kinds of incidents:

{incidents}
Why a request is not compared in the shadow:

{reasons}
## Control

At `/metrics` of its API, by each control process. Edges, routes and hosts are as Redis has them.

{control}"""


def as_document() -> str:
    """Return what the document has to be."""
    return _DOCUMENT.format(
        edge=_table(EDGE),
        incidents=_list(INCIDENT_KINDS),
        reasons=_list(SHADOW_REASONS),
        control=_table(CONTROL),
    )


def _list(explained: Mapping[str, str]) -> str:
    return "".join(f"- `{kind}`: {why}\n" for kind, why in explained.items())


def _table(families: Iterable[Family]) -> str:
    rows = [
        f"| `{it.told}` | {it.kind} | {', '.join(it.labels) or '-'} | {it.explained} |\n"
        for it in families
    ]
    return "".join(["| name | type | labels | what it is |\n", "|---|---|---|---|\n", *rows])


if __name__ == "__main__":
    Path("docs/metrics.md").write_text(as_document())
