"""How soon a challenger that never succeeds is rolled back, at a canary's share."""

from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np

from experiments.decision import Plan, RollBack, decide
from experiments.evidence import Evidence, Sample, StageEvidence, Tally
from experiments.lifecycle import State
from experiments.metric import ERROR_RATE, LATENCY, Binary, Count, Guardrail, Metric, Slow, Worse
from experiments.model import Stage
from tests.calibration.declared import CHALLENGER, START, declaration
from tests.calibration.judged import Rate
from tests.calibration.traffic import RAMP
from tests.calibration.work import Scale, generator, together

RATE, ERRORS, SLOWER = 0.02, 0.001, 0.01
SHARE = float(RAMP[0]) / 10_000
BATCH = 500
"""Units in both arms between looks: 25 of them, on average, in the canary."""

LOOKS = 120
LOOKS_TO_THOUSAND = 40
RUNS, CHUNK = 1_000, 50
ERRING = Metric(ERROR_RATE, Count())
SLOW = Metric(LATENCY, Slow(250))
DECLARED = declaration(
    Metric("converted", Binary()),
    effect=0.05,
    guardrails=(
        Guardrail(ERRING, Worse.HIGHER, max_ratio=2.0, negligible=0.01),
        Guardrail(SLOW, Worse.HIGHER, max_ratio=1.5, negligible=0.01),
    ),
    ramp=RAMP,
)
PLAN = Plan(
    replace(DECLARED, limits=replace(DECLARED.limits, min_runtime=timedelta(days=7))),
    State.RAMPING,
    (Stage(0, 0, RAMP[0], START, DECLARED.challengers),),
    START,
)


@dataclass(frozen=True, slots=True)
class Canaries:
    """Canary requests until the rollback, per run; infinite where there was none."""

    broken: np.ndarray
    false: Rate

    @property
    def median(self) -> float:
        return float(np.median(self.broken))

    def within(self, requests: int) -> float:
        """Return the share rolled back after no more canary requests than these."""
        return float((self.broken <= requests).mean())


def canaries(scale: Scale) -> Canaries:
    """Watch challengers that never succeed, and others that are as good as the champion."""
    runs = scale.runs(RUNS)
    tasks = [
        (watch, (scale.seed, number, min(CHUNK, runs - start), rate))
        for rate in (0.0, RATE)
        for number, start in enumerate(range(0, runs, CHUNK))
    ]
    found = dict(together(tasks, scale.jobs, "canaries"))
    half = len(tasks) // 2
    broken, alike = (
        np.concatenate([found[index] for index in part])
        for part in (range(half), range(half, len(tasks)))
    )
    alpha = DECLARED.alpha.harm
    return Canaries(broken, Rate(int(np.isfinite(alike).sum()), len(alike), alpha))


def watch(seed: int, number: int, runs: int, rate: float) -> np.ndarray:
    """Return the canary requests at which each run is rolled back."""
    drawn = seen(generator(seed, f"canary {rate}", number), runs, rate=rate)
    return np.array([rolled_back(run.tolist()) for run in drawn])


def seen(rng: np.random.Generator, runs: int, *, rate: float) -> np.ndarray:
    """Draw runs x looks of units, successes, errors and slow units: canary, then champion."""
    n1 = rng.binomial(BATCH, SHARE, (runs, LOOKS))
    n0 = BATCH - n1
    return np.stack(
        [
            *(n1, rng.binomial(n1, rate), rng.binomial(n1, ERRORS), rng.binomial(n1, SLOWER)),
            *(n0, rng.binomial(n0, RATE), rng.binomial(n0, ERRORS), rng.binomial(n0, SLOWER)),
        ],
        axis=-1,
    ).cumsum(axis=1)


def rolled_back(looks: list[list[int]]) -> float:
    """Return the canary requests at which `decide` rolls back; infinite if it never does."""
    for look, seen in enumerate(looks):
        challenger, champion = _tally(*seen[:4]), _tally(*seen[4:])
        stage = StageEvidence(0, champion, {CHALLENGER: challenger}, (1, 20))
        now = START + (look + 1) * timedelta(minutes=1)
        if isinstance(decide(PLAN, Evidence((stage,)), now), RollBack):
            return float(challenger.units)
    return np.inf


def _tally(n: int, successes: int, errors: int, slow: int) -> Tally:
    samples = {
        "converted": Sample({1: successes, 0: n - successes}),
        ERRING.key: Sample({1: errors}),
        SLOW.key: Sample({1: slow}),
    }
    return Tally(n, errors, n, samples)
