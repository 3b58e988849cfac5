"""Many simulated runs as numbers: shares with exact intervals, and how long they took."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from scipy.special import betaincinv

from experiments.model import BEFORE_RAMP, Declaration
from experiments.simulation.run import End, Run
from experiments.simulation.truth import Truth, is_better, is_harmful
from registry.refs import Version


@dataclass(frozen=True, slots=True)
class Share:
    """A part of all runs, and the 95 % interval of its probability."""

    count: int
    of: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.count / self.of


@dataclass(frozen=True, slots=True)
class Spread:
    """What values are like; low and high hold four fifths of them between."""

    mean: float
    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Taken:
    """How long runs took to their verdict."""

    units: Spread
    seconds: Spread


@dataclass(frozen=True, slots=True)
class Gate:
    """A stage, and how many runs reached it.

    Args:
        rung: Of the ramp; its length for the holdback, and `BEFORE_RAMP` for the shadow.
        units: Median of the units that had arrived before, of those that reached it.
    """

    rung: int
    reached: Share
    units: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """What many runs of one declaration and one truth have shown.

    Args:
        ends: By how they ended, of the ways that there are; they add up.
        dropped: Some challenger was dropped while others went on.
        false_promotions: A challenger was promoted that is not better, or does harm; None if none
            is like that.
        false_passes: All have passed in the shadow, though the first does harm; None if it does
            none, or if users meet the challengers.
        false_alarms: A challenger was dropped or rolled back that does no harm; likewise.
        missed_harm: The first challenger does harm, and was not taken out for it; None if it does
            none.
        taken: Of all runs, and by end, if there were any.
        decided_by: How many runs each metric has decided, the most frequent first.
    """

    runs: int
    ends: dict[End, Share]
    dropped: Share | None
    false_promotions: Share | None
    false_passes: Share | None
    false_alarms: Share | None
    missed_harm: Share | None
    taken: Taken
    taken_by_end: dict[End, Taken]
    decided_by: dict[str, int]
    gates: tuple[Gate, ...]


def summarise(runs: Sequence[Run], declaration: Declaration, truth: Truth) -> Summary:
    """Count what happened, and how much of it was wrong.

    Raises:
        ValueError: there are no runs.
    """
    if not runs:
        raise ValueError("without runs there is nothing to say")
    better, harmful = is_better(declaration, truth), is_harmful(declaration, truth)
    spared = {declaration.challengers[0]} if harmful else set()
    several, first = len(declaration.challengers) > 1, declaration.challengers[0]

    def share(which: Sequence[bool]) -> Share:
        return exact_share(sum(which), len(runs))

    first_rung = 0 if declaration.shadow is None else BEFORE_RAMP
    last_rung = len(declaration.ramp) + (declaration.holdback is not None)
    ends = {end: [run for run in runs if run.end is end] for end in _ends(declaration)}
    return Summary(
        runs=len(runs),
        ends={end: exact_share(len(found), len(runs)) for end, found in ends.items()},
        dropped=share([bool(run.dropped) for run in runs]) if several else None,
        false_promotions=(
            share([_is_false(run, first, better=better) for run in runs])
            if (several or not better) and not declaration.shadow_only
            else None
        ),
        false_passes=(
            share([run.end is End.PASSED for run in runs])
            if harmful and declaration.shadow_only
            else None
        ),
        false_alarms=(
            share([bool(set(run.blamed) - spared) for run in runs])
            if several or not harmful
            else None
        ),
        missed_harm=(
            share([run.end is not End.HALTED and first not in run.blamed for run in runs])
            if harmful
            else None
        ),
        taken=_taken(runs),
        taken_by_end={end: _taken(found) for end, found in ends.items() if found},
        decided_by=dict(Counter(key for run in runs for key in run.culprits).most_common()),
        gates=tuple(_gate(runs, rung) for rung in range(first_rung, last_rung)),
    )


def _ends(declaration: Declaration) -> tuple[End, ...]:
    """Return the ways in which such an experiment can end."""
    if declaration.shadow_only:
        return (End.PASSED, End.ROLLED_BACK, End.INCONCLUSIVE)
    return tuple(end for end in End if end is not End.PASSED)


def exact_share(count: int, of: int, *, alpha: float = 0.05) -> Share:
    """Return a share with its exact interval.

    *Estimand*: the probability of what happened `count` times.

    *Assumes*: independent runs.

    *Valid*: at a number of runs that was fixed beforehand; two-sided, exact.

    Args:
        count: Runs in which it happened.
        of: All runs, at least one.
        alpha: One minus the level.

    *Source*: Clopper and Pearson (1934), Biometrika 26(4).

    Examples:
        >>> found = exact_share(0, 100)
        >>> found.low, round(found.high, 4)
        (0.0, 0.0362)
    """
    low = float(betaincinv(count, of - count + 1, alpha / 2)) if count else 0.0
    high = float(betaincinv(count + 1, of - count, 1 - alpha / 2)) if count < of else 1.0
    return Share(count, of, low, high)


def _is_false(run: Run, first: Version, *, better: bool) -> bool:
    return run.winner is not None and not (better and run.winner == first)


def _gate(runs: Sequence[Run], rung: int) -> Gate:
    opened = [stage.units for run in runs for stage in run.stages if stage.rung == rung]
    return Gate(
        rung, exact_share(len(opened), len(runs)), float(np.median(opened)) if opened else None
    )


def _taken(runs: Sequence[Run]) -> Taken:
    return Taken(
        _spread([float(run.units) for run in runs]),
        _spread([run.took / timedelta(seconds=1) for run in runs]),
    )


def _spread(values: Sequence[float]) -> Spread:
    low, median, high = np.quantile(values, [0.1, 0.5, 0.9]).tolist()
    return Spread(float(np.mean(values)), median, low, high)
