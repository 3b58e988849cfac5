"""At which effects the tests are sharpest: fixed beforehand, and only ever a matter of power.

A test that is tuned to one effect takes many times the units that it needs where the effect is ten
times larger. So superiority is tested at two scales, with most of the evidence on the first.
"""

from dataclasses import dataclass

from experiments.methods import Aim, Design

SCALES = (1.4, 10.0)
"""Of effects for superiority, in multiples of the effect that matters: the first decides soonest
at that effect and well above it, the second where the effect is ten times that."""

PARTS = (0.9, 0.1)
"""Of the evidence. Half for each would cost a tenth more units where the first is the right one."""

DECADES = (0.1, 0.01, 0.001)
"""Scales of effects, in parts of the metric's range, where no baseline was declared."""

MULTIPLES = {Aim.HARM: (3.0, 30.0), Aim.SAFE: (1.0, 3.0)}
"""Scales of effects, in multiples of the effect that matters, with equal parts."""

SHOWN = 3.0
"""Effects that an interval is narrowest for, in multiples of the effect that matters."""


@dataclass(frozen=True, slots=True)
class Scales:
    """Standard deviations of the mixtures over differences, fixed beforehand.

    Args:
        extent: Of the metric's values, from the least to the largest; None if unbounded.
    """

    design: Design
    extent: float | None

    def of(self, aim: Aim) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the scales that a test is to be sharp at, and the part of each."""
        matters = self._effect
        if matters is None:
            assert self.extent is not None, "a metric without range needs a baseline"
            return tuple(d * self.extent for d in DECADES), _equal(len(DECADES))
        if aim is Aim.BETTER:
            return tuple(multiple * matters for multiple in SCALES), PARTS
        multiples = MULTIPLES[aim]
        return tuple(multiple * matters for multiple in multiples), _equal(len(multiples))

    @property
    def shown(self) -> float:
        """Return the one scale of the interval that is shown."""
        matters = self._effect
        return SHOWN * matters if matters is not None else self.of(Aim.BETTER)[0][1]

    @property
    def _effect(self) -> float | None:
        if self.design.difference is not None:
            return self.design.difference
        if self.design.baseline is not None:
            return self.design.effect * abs(self.design.baseline) or None
        return None


def _equal(parts: int) -> tuple[float, ...]:
    return (1 / parts,) * parts
