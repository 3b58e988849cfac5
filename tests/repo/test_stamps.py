"""What the edge writes on answers is known by name in one place."""

import re
from pathlib import Path

from experiments.unit import STAMPS

HOP_BY_HOP = {"connection"}
"""Between the edge and its client only: it says nothing of the answer."""

CONFIG = Path(__file__).parents[2] / "serving" / "edge" / "haproxy.cfg"


def test_every_stamp_of_the_edge_is_refused_as_a_unit() -> None:
    stamped = re.findall(r"http-after-response set-header (X-\S+)", CONFIG.read_text())
    assert stamped
    assert {name.lower() for name in stamped} - HOP_BY_HOP <= STAMPS
