"""What is told to Prometheus: every name, typed and explained, in this one place.

`edge` and `control` have the names, by who tells them; `docs/metrics.md` is written from them.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One name: what it counts, and what tells its series apart."""

    name: str
    kind: Kind
    explained: str
    labels: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """The name as Prometheus knows it."""
        return f"{self.name}_total" if self.kind is Kind.COUNTER else self.name
