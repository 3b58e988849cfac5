"""The x with the least evidence, found without looking at every x."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from experiments.stats.histogram import Counts
from experiments.stats.quadrature import Array
from experiments.stats.quantile_bets import QuantileBets, QuantileStage

Indices = NDArray[np.intp]

_LEEWAY = 30.0
"""Steps are looked at first where evidence promises to be at most so much above the least."""


def greater_log_e(bets: QuantileBets, stages: Sequence[QuantileStage], shift: int) -> float:
    """`QuantileBets.greater` of each stage, added; a stage with an empty arm adds nothing."""
    up_to1, up_to0 = _comparable(stages)
    return _least(bets, [_Question(up_to1, up_to0, shift)])[0] if len(up_to1) else 0.0


def greater_and_less_log_e(
    bets: QuantileBets, stages: Sequence[QuantileStage], up: int, down: int
) -> tuple[float, float]:
    """The same for the stages at shift `up`, and for swapped arms at `-down`, in one go."""
    up_to1, up_to0 = _comparable(stages)
    if not len(up_to1):
        return 0.0, 0.0
    greater, less = _least(bets, [_Question(up_to1, up_to0, up), _Question(up_to0, up_to1, -down)])
    return greater, less


def _comparable(stages: Sequence[QuantileStage]) -> tuple[Array, Array]:
    """Cumulated counts of both arms, of the stages in which both have been observed."""
    up_to1 = _cumulated([stage.treatment for stage in stages])
    up_to0 = _cumulated([stage.control for stage in stages])
    seen = (up_to1[:, -1] > 0.0) & (up_to0[:, -1] > 0.0)
    return (up_to1, up_to0) if seen.all() else (up_to1[seen], up_to0[seen])


def _cumulated(arms: Sequence[Counts]) -> Array:
    """How many are at or below each edge, a row per stage.

    Grids of raw values differ in length; empty buckets beyond the last change nothing.
    """
    longest = max(map(len, arms), default=1)
    rows = np.zeros((len(arms), longest))
    for row, arm in zip(rows, arms, strict=True):
        row[: len(arm)] = arm
    return rows.cumsum(axis=1)


@dataclass(frozen=True, slots=True)
class _Question:
    """What `QuantileBets.greater` is asked about: cumulated counts, a row per stage."""

    up_to1: Array
    up_to0: Array
    shift: int

    @property
    def most1(self) -> Array:
        """For x in each bucket of the control: at most so many of the treatment are up to it."""
        last = self.up_to1.shape[1] - 1
        places = np.minimum(np.maximum(np.arange(last + 1) + self.shift, 0), last)
        places[-1] = last
        found: Array = self.up_to1.take(places, axis=1)
        return found


@dataclass(frozen=True, slots=True)
class _Steps:
    """What the counts are for each x, one row of the questions after the other.

    Of the x with equal counts in the treatment only the first is kept: there the control has the
    least evidence. So from one step to the next the treatment's count grows.
    """

    row: Indices
    starts: Indices
    """Where each row begins."""
    most1: Array
    fewest0: Array
    n1: Array
    n0: Array

    @classmethod
    def of(cls, questions: Sequence[_Question]) -> Self:
        most1 = np.concatenate([question.most1 for question in questions])
        up_to0 = np.concatenate([question.up_to0 for question in questions])
        new = np.ones(most1.shape, dtype=np.bool_)
        np.greater(most1[:, 1:], most1[:, :-1], out=new[:, 1:])
        row, bucket = new.nonzero()
        starts = (bucket == 0).nonzero()[0]
        fewest0 = up_to0[row, bucket - 1]
        fewest0[starts] = 0.0
        return cls(row, starts, most1[new], fewest0, most1[row, -1], up_to0[row, -1])


def _least(bets: QuantileBets, questions: Sequence[_Question]) -> list[float]:
    """The sum of the stages' minima for each question.

    From one step to the next the treatment's evidence falls while the control's grows. So no step
    between two others can have less than the treatment's evidence at the later one and the
    control's at the earlier one. Where that is more than some step of the row has been seen to
    have, nobody needs to look.
    """
    steps = _Steps.of(questions)
    looked = _promising(bets, steps)
    few, many = _evidence(bets, steps, looked.nonzero()[0])
    place = looked.cumsum() - 1
    least = np.minimum.reduceat(few + many, place[steps.starts])
    rest = (~looked).nonzero()[0]
    bound = few[1:] + many[:-1]
    rest = rest[bound[place[rest]] < least[steps.row[rest]]]
    if rest.size:
        few, many = _evidence(bets, steps, rest)
        np.minimum.at(least, steps.row[rest], few + many)
    sums: list[float] = least.reshape(len(questions), -1).sum(axis=1).tolist()
    return sums


def _promising(bets: QuantileBets, steps: _Steps) -> NDArray[np.bool_]:
    """Where the least evidence is likely to be, and the first and last step of each row.

    A guess, for speed only: evidence is the log likelihood ratio less a few units for mixing.
    """
    meant1, meant0 = bets.p * steps.n1, bets.p * steps.n0
    guess = _log_ratio(np.minimum(steps.most1, meant1), meant1, steps.n1)
    guess += _log_ratio(np.maximum(steps.fewest0, meant0), meant0, steps.n0)
    least = np.minimum.reduceat(guess, steps.starts)
    found: NDArray[np.bool_] = guess <= least[steps.row] + _LEEWAY
    found[steps.starts] = True
    found[steps.starts - 1] = True
    return found


def _log_ratio(count: Array, meant: Array, n: Array) -> Array:
    """Log likelihood ratio of the part that was counted to the part that was meant."""
    return np.asarray(rel_entr(count, meant) + rel_entr(n - count, n - meant))


def _evidence(bets: QuantileBets, steps: _Steps, at: Indices) -> tuple[Array, Array]:
    return bets.one_sided(steps.most1[at], steps.n1[at], steps.fewest0[at], steps.n0[at])
