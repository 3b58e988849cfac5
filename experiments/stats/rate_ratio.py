"""The likelihood of one rate ratio in all stages, and its mean over a normal mixture."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, expm1, inf, log, log1p, pi, sqrt
from typing import Self

import numpy as np

from experiments.stats.quadrature import Array, log_concave_integral, require_tau
from experiments.stats.stages import StageEvents

_MOST_STEPS = 200
_OVER = 30.0
"""From here on the treatment's part of e^d is divided out: it might overflow."""
_CLOSE_ENOUGH = 1e-7
"""Standard deviations from the mode; Newton's last step ends far nearer than its size."""


def shifted_share(share: float, *, ratio: float) -> float:
    """Probability that an event is the treatment's if its rate is `ratio` times the control's.

    Examples:
        >>> round(shifted_share(0.5, ratio=0.95), 6)
        0.487179
    """
    if not 0.0 < ratio < inf:
        raise ValueError(f"a rate ratio must be positive and finite, got {ratio}")
    return share * ratio / (share * ratio + 1.0 - share)


@dataclass(frozen=True, slots=True)
class RatioLikelihood:
    """Likelihood of one log rate ratio d in all stages, relative to the null: log-concave in d."""

    stages: tuple[tuple[int, int, float], ...]
    """(treatment events, all events, the null's share) where there were events."""

    @classmethod
    def of(cls, stages: Sequence[StageEvents], *, margin_ratio: float = 1.0) -> Self:
        """Measure log ratios from `margin_ratio`."""
        return cls(
            tuple(
                (s.treatment, s.treatment + s.control, shifted_share(s.share, ratio=margin_ratio))
                for s in stages
                if s.treatment + s.control > 0
            )
        )

    def mirrored(self) -> Self:
        """The same with the arms swapped, so that log ratios change sign."""
        return type(self)(tuple((n - s, n, 1.0 - share) for s, n, share in self.stages))

    @property
    def treatment(self) -> int:
        """Events in the treatment."""
        return sum(s for s, _, _ in self.stages)

    @property
    def events(self) -> int:
        """Events in both arms."""
        return sum(n for _, n, _ in self.stages)

    def __call__(self, d: float) -> float:
        """Log likelihood ratio of d against 0."""
        total = 0.0
        if d > _OVER:
            for s, n, share in self.stages:
                total += s * d - n * (d + log(share + (1.0 - share) * exp(-d)))
        else:
            growth = expm1(d)
            for s, n, share in self.stages:
                total += s * d - n * log1p(share * growth)
        return total

    def at(self, d: Array) -> Array:
        """The same at many points, of size below 700."""
        growth, total = np.expm1(d), float(self.treatment) * d
        for _, n, share in self.stages:
            total -= n * np.log1p(share * growth)
        return total

    def most_likely(self) -> float:
        """The d of largest likelihood; both arms must have events."""
        bound = 1.0 + log1p(self.events / self._rarest())
        return self._mode(precision=0.0, low=-bound, high=bound)[0]

    def posterior_mode(self, *, tau: float, one_sided: bool) -> tuple[float, float]:
        """Most likely d under the mixture, and the standard deviation its curvature suggests."""
        if not self.stages:
            return 0.0, tau
        bound = 1.0 + log1p(self.events * tau * tau / self._rarest())
        low = 0.0 if one_sided else -bound
        return self._mode(precision=1.0 / (tau * tau), low=low, high=bound)

    def _rarest(self) -> float:
        return min(min(share, 1.0 - share) for _, _, share in self.stages)

    def _mode(self, *, precision: float, low: float, high: float) -> tuple[float, float]:
        """Newton's method on the slope, kept inside the bracket by bisection."""
        d = max(low, 0.0)
        slope, curvature = self._slope_and_curvature(d, precision)
        if d == low and slope <= 0.0:
            return d, 1.0 / sqrt(curvature)
        for _ in range(_MOST_STEPS):
            low, high = (d, high) if slope > 0.0 else (low, d)
            newton = d + slope / curvature
            previous, d = d, newton if low < newton < high else (low + high) / 2.0
            slope, curvature = self._slope_and_curvature(d, precision)
            if abs(d - previous) * sqrt(curvature) <= _CLOSE_ENOUGH:
                break
        return d, 1.0 / sqrt(curvature)

    def _slope_and_curvature(self, d: float, precision: float) -> tuple[float, float]:
        slope, curvature, shrinkage = -d * precision, precision, exp(-d)
        for s, n, share in self.stages:
            rest = (1.0 - share) * shrinkage
            q = share / (share + rest)
            slope += s - n * q
            curvature += n * q * (rest / (share + rest))
        return slope, curvature

    def log_marginal(self, *, tau: float, one_sided: bool) -> float:
        """Log of the likelihood's mean over d ~ N(0, tau^2), or its half on d > 0."""
        require_tau(tau)
        if not self.stages:
            return 0.0
        mode, width = self.posterior_mode(tau=tau, one_sided=one_sided)
        integral = log_concave_integral(
            lambda d: self(d) - 0.5 * (d / tau) ** 2,
            lambda d: self.at(d) - 0.5 * (d / tau) ** 2,
            mode=mode,
            width=9.0 * width,
            low=0.0 if one_sided else None,
        )
        mass = tau * sqrt(pi / 2.0 if one_sided else 2.0 * pi)
        return integral - log(mass)
