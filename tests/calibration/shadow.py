"""Pairs of answers in the shadow: false verdicts where nothing is true of them, and how soon."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from math import log

import numpy as np

from experiments.decision import Continue, Plan, RollBack, decide
from experiments.evidence import Evidence, Sample, StageEvidence, Tally
from experiments.experiment import Experiment
from experiments.metric import ERROR_RATE, Binary, Count, Guardrail, Metric, Worse
from experiments.model import BasisPoints, Declaration, Shadow
from experiments.pairs import Agreed, Paired
from experiments.stats.events import conditional_log_e
from experiments.stats.paired import Pairs, paired_log_e
from experiments.stats.stages import Side
from registry.refs import Version
from tests.calibration.case import FIXED, Case
from tests.calibration.declared import START, declaration
from tests.calibration.judged import HARMED, SAFE, Rate
from tests.calibration.margins import AT_MARGIN
from tests.calibration.work import Scale, generator, together

ERRORS, MARGIN, AGREED = 0.02, 2.0, 0.95
BATCH, LOOKS = 50, 60
LIVE_LOOKS, LIVE_BATCH, LIVE_SHARE = 30, 500, 0.05
ERRING = Guardrail(Metric(ERROR_RATE, Count()), Worse.HIGHER, max_ratio=MARGIN, negligible=0.001)
WATCHED = declaration(Metric("converted", Binary()), guardrails=[ERRING])
SHADOW = Shadow(BasisPoints(2_000), pairs=500, agreement=AGREED)
BEFORE_A_RAMP = replace(
    WATCHED,
    ramp=(BasisPoints(500), BasisPoints(5_000)),
    shadow=SHADOW,
    limits=replace(WATCHED.limits, min_runtime=timedelta(0)),
)
ALONE = replace(BEFORE_A_RAMP, ramp=(), goal=None)
FAILURES = replace(ALONE, shadow=replace(SHADOW, agreement=None))
"""Only failures are judged, where the agreement is not asked."""
SEVERAL = tuple(map(Version, (2, 3, 4)))
RUNS, CHUNK = 1_000, 50


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of every pair.

    Args:
        errors: Rate at which the challenger fails.
        together: Of its failures, or the champion's if these are fewer, the part that is common.
        agree: Rate of answers that agree.
    """

    errors: float = ERRORS * MARGIN
    together: float = 0.8
    agree: float = AGREED

    def paired(self, rng: np.random.Generator, runs: int) -> np.ndarray:
        """Draw runs x looks of pairs by which answer was bad, and of those that agree."""
        both = self.together * min(ERRORS, self.errors)
        rates = [1 - self.errors - ERRORS + both, self.errors - both, ERRORS - both, both]
        tables = rng.multinomial(BATCH, rates, size=(runs, LOOKS))
        agree = rng.binomial(BATCH, self.agree, size=(runs, LOOKS, 1))
        return np.concatenate([tables, agree], axis=-1).cumsum(axis=1)


def paired(counts: list[int]) -> Paired:
    """Return what was seen of one challenger."""
    pairs, yes = Pairs(*counts[:4]), counts[4]
    return Paired(pairs.n, pairs.n, bad={ERRING.key: pairs}, agreed=Agreed(yes, pairs.n - yes))


@dataclass(frozen=True, slots=True)
class InShadow:
    """Runs in which nobody meets the challengers.

    Args:
        live: They do after that, and fail as often as their margin allows.
    """

    truth: Truth
    versions: tuple[Version, ...] = (Version(2),)
    live: bool = False

    def histories(self, rng: np.random.Generator, runs: int) -> "Histories":
        """Draw runs."""
        drawn = np.stack([self.truth.paired(rng, runs) for _ in self.versions], axis=1)
        size = (runs, LIVE_LOOKS)
        met = rng.binomial(LIVE_BATCH, LIVE_SHARE, size)
        fails = rng.binomial(met, self.truth.errors), rng.binomial(LIVE_BATCH - met, ERRORS)
        users = np.stack([met, fails[0], LIVE_BATCH - met, fails[1]], axis=-1).cumsum(axis=1)
        return Histories(self, drawn, users)


@dataclass(frozen=True, slots=True)
class Histories:
    """Drawn runs: runs x challengers x looks x counts, and runs x looks x counts of users."""

    source: InShadow
    drawn: np.ndarray
    users: np.ndarray

    def looks(self, run: int) -> Iterator[Evidence]:
        """Yield the evidence after each batch."""
        shadow: dict[Version, Paired] = {}
        for look in range(LOOKS):
            found = self.drawn[run, :, look].tolist()
            shadow = dict(zip(self.source.versions, map(paired, found), strict=True))
            yield Evidence((), shadow=shadow)
        for met, failed, others, theirs in self.users[run].tolist() if self.source.live else ():
            arms = _tally(met, failed), _tally(others, theirs)
            stage = StageEvidence(1, arms[1], {self.source.versions[0]: arms[0]}, (1, 20))
            yield Evidence((stage,), shadow=shadow)


def _tally(units: int, errors: int) -> Tally:
    return Tally(units, errors, units, {ERRING.key: Sample({1: errors})})


def shadows() -> tuple[Case, ...]:
    """Return experiments of which the challengers stand exactly at what is declared."""
    apart, mostly = Truth(together=0.0), Truth()
    several = replace(FAILURES, challengers=SEVERAL)
    both = (HARMED, SAFE)
    return (
        _case("pairs, failing apart", FAILURES, InShadow(apart), both),
        _case("pairs, failing together", FAILURES, InShadow(mostly), both),
        _case("pairs, agreement", ALONE, InShadow(Truth(errors=ERRORS)), both),
        _case("pairs, three challengers", several, InShadow(mostly, SEVERAL), both),
        _case("pairs, then users", BEFORE_A_RAMP, InShadow(mostly, live=True), (HARMED,)),
    )


def _case(kind: str, declared: Declaration, source: InShadow, verdicts: tuple[str, ...]) -> Case:
    return Case(f"{kind}, {AT_MARGIN}", FIXED, declared, source, RUNS, verdicts=verdicts)


# How soon.

FAILING = Truth(errors=ERRORS + 0.1)
"""It fails in a tenth of the pairs more than the champion."""
DIFFERING = Truth(errors=ERRORS, agree=0.85)
LIKE = Truth(errors=ERRORS, agree=0.98)
PLAN: Plan = Experiment.begin(BEFORE_A_RAMP, Version(1), START).plan


@dataclass(frozen=True, slots=True)
class Gates:
    """Pairs until the shadow has a verdict, per run; infinite where there was none.

    Args:
        failing, differing: Until the rollback.
        like: Until the first user meets a challenger that fails as rarely, and agrees in 98 %.
        false: How often that one is rolled back.
    """

    failing: np.ndarray
    differing: np.ndarray
    like: np.ndarray
    false: Rate


def gates(scale: Scale) -> Gates:
    """Watch challengers that fail, that differ, and that are like the champion."""
    runs = scale.runs(RUNS)
    chunks = [(number, min(CHUNK, runs - s)) for number, s in enumerate(range(0, runs, CHUNK))]
    truths = (FAILING, DIFFERING, LIKE)
    tasks = [(watch, (scale.seed, *chunk, truth)) for truth in truths for chunk in chunks]
    found = dict(together(tasks, scale.jobs, "shadows"))
    failing, differing, like = (
        np.concatenate([found[index * len(chunks) + place] for place in range(len(chunks))])
        for index in range(len(truths))
    )
    wrong = Rate(int(like[:, 1].sum()), len(like), BEFORE_A_RAMP.alpha.harm)
    return Gates(failing[:, 0], differing[:, 0], like[:, 0], wrong)


def watch(seed: int, number: int, runs: int, truth: Truth) -> np.ndarray:
    """Return, per run, the pairs at which the shadow ends, and whether in a rollback."""
    drawn = truth.paired(generator(seed, f"shadow {truth}", number), runs)
    return np.array([ended(run.tolist()) for run in drawn])


def ended(looks: list[list[int]]) -> tuple[float, bool]:
    """Return the pairs at which `decide` ends the shadow, and whether it rolls back."""
    for counts in looks:
        seen = paired(counts)
        decision = decide(PLAN, Evidence((), shadow={Version(2): seen}), START)
        if isinstance(decision, RollBack):
            return float(seen.units), True
        if isinstance(decision, Continue) and decision.to_rung is not None:
            return float(seen.units), False
    return np.inf, False


# A way to be wrong.

COMMON, ALONE_FAILS, CHAMPION_FAILS = 0.1, 0.006, 0.002
"""Rates at which both fail, the challenger alone, and the champion alone: 10.6 % to 10.2 %."""


def failing_together(rng: np.random.Generator, runs: int) -> tuple[int, int]:
    """Count rollbacks of a challenger within its margin, whose failures are mostly the champion's.

    The naive way takes the ratio of pairs in which one alone fails for the ratio of the rates.
    """
    rates = [1 - COMMON - ALONE_FAILS - CHAMPION_FAILS, ALONE_FAILS, CHAMPION_FAILS, COMMON]
    tables = rng.multinomial(20 * BATCH, rates, size=(runs, LOOKS)).cumsum(axis=1)
    naive = ours = 0
    needed = log(1 / WATCHED.alpha.harm)
    for run in tables.tolist():
        looks = [Pairs(*counts) for counts in run]
        naive += any(_alone_log_e(pairs) >= needed for pairs in looks)
        ours += any(
            paired_log_e(pairs, side=Side.GREATER, ratio=MARGIN) >= needed for pairs in looks
        )
    return naive, ours


def _alone_log_e(pairs: Pairs) -> float:
    return conditional_log_e(
        pairs.treatment,
        pairs.control,
        share=MARGIN / (1 + MARGIN),
        prior=(0.5, 0.5),
        side=Side.GREATER,
    )
