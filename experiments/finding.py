"""What one test has found."""

from dataclasses import dataclass
from math import exp, log


@dataclass(frozen=True, slots=True)
class Finding:
    """What one test has found, and what it would take.

    Args:
        log_e: Natural logarithm of the e-value; any look, any time.
        needed: `log_e` from which on the test has spoken.
        segment: The segment that was looked at; None for everybody.
        shadow: It was looked at before anybody met the challenger.
    """

    metric: str
    log_e: float
    needed: float
    segment: str | None = None
    shadow: bool = False

    @property
    def reached(self) -> bool:
        return self.log_e >= self.needed

    @property
    def where(self) -> str:
        """The metric, and the segment if it is one's."""
        if self.shadow:
            return f"{self.metric} in the shadow"
        return self.metric if self.segment is None else f"{self.metric} in {self.segment}"

    @property
    def e_text(self) -> str:
        """The e-value for people: never overflows, never pretends to digits it has not."""
        return e_text(self.log_e)

    @property
    def needed_text(self) -> str:
        return e_text(self.needed)

    @property
    def p_value(self) -> float:
        """Always-valid p-value: min(1, 1/e)."""
        return min(1.0, exp(-self.log_e)) if self.log_e > 0 else 1.0


def e_text(log_e: float) -> str:
    """Write an e-value so that people can compare it.

    Examples:
        >>> e_text(0.0), e_text(3.7), e_text(800.0)
        ('1', '40.4', '10^347')
    """
    if log_e > log(1e6):
        return f"10^{log_e / log(10):.0f}"
    return f"{exp(log_e):.3g}"
