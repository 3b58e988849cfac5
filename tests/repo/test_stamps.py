"""What the edge writes on answers is known by name in one place."""

import re
from pathlib import Path

from experiments.model import STAMPS

CONFIG = Path(__file__).parents[2] / "serving" / "edge" / "haproxy.cfg"


def test_every_stamp_of_the_edge_is_refused_as_a_unit() -> None:
    stamped = re.findall(r"http-after-response set-header (\S+)", CONFIG.read_text())
    assert stamped
    assert {name.lower() for name in stamped} <= STAMPS
