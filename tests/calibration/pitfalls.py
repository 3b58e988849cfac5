"""What the naive methods do, and what the engine does, each on the same runs.

Every function here draws runs and returns how many the naive method gets wrong, and how many we do.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import log

import numpy as np

from experiments.comparison import compared
from experiments.evidence import Evidence, Sample, StageEvidence, Tally
from experiments.looks import Look, due
from experiments.methods.choice import method_of
from experiments.metric import Binary, Mean, Metric, Per
from experiments.model import BasisPoints, Declaration, Horizon
from experiments.stats.contrast import Estimate
from experiments.stats.moments import Moments, total
from experiments.stats.spending import boundary
from tests.calibration import canary
from tests.calibration.crowd import Crowd, Seen
from tests.calibration.declared import CHALLENGER, declaration
from tests.calibration.history import Histories
from tests.calibration.judged import HALTED, verdicts_on
from tests.calibration.late import LateLabels
from tests.calibration.rivals import first, mixture_log_e
from tests.calibration.traffic import HALF, RAMP, Traffic, traffic
from tests.calibration.worlds import Categories, Shares

OUTCOME = Metric("outcome", Binary())
ANY_VERDICT = 0.075
"""Promotion and harm together: .025 and .05."""

LOOKS_AT_TUNING = 110
"""The error has no bound, but grows only with the logarithm of the sample."""


def _wrong(declared: Declaration, looks: Iterable[Evidence]) -> bool:
    return bool(verdicts_on(declared, looks, horizon=None) - {HALTED})


def _pooled(evidence: Evidence) -> Evidence:
    """Add up the stages as if they were one, at the share that they had together."""
    arms = [(s.challengers[CHALLENGER], s.champion) for s in evidence.stages]
    challenger, champion = (_sum(tallies) for tallies in zip(*arms, strict=True))
    odds = (challenger.units, challenger.units + champion.units)
    return Evidence((StageEvidence(0, champion, {CHALLENGER: challenger}, odds),))


def _sum(tallies: Iterable[Tally]) -> Tally:
    tallies = tuple(tallies)
    counts = {
        index: sum(tally.sample(OUTCOME.key).counts.get(index, 0) for tally in tallies)
        for index in (0, 1)
    }
    units = sum(tally.units for tally in tallies)
    return Tally(units, 0, units, {OUTCOME.key: Sample(counts)})


def ramp_and_drift(rng: np.random.Generator, runs: int) -> tuple[int, int]:
    """Rates treble while the share grows from 5 to 50 %."""
    flow = traffic(20_000, 42, ramp=RAMP, drift=True)
    world = Categories(Shares(0.1), Shares(0.1), (0, 1))
    drawn = Histories(world, flow, world.generate(rng, flow, runs), OUTCOME.key)
    declared = declaration(OUTCOME, baseline=0.1, ramp=RAMP)

    def pooled(run: int) -> Iterator[Evidence]:
        together = map(_pooled, drawn.looks(run))
        return (seen for seen in together if seen.challenger_units(CHALLENGER))

    naive = sum(_wrong(declared, pooled(run)) for run in range(runs))
    return naive, sum(_wrong(declared, drawn.looks(run)) for run in range(runs))


def clustering(rng: np.random.Generator, runs: int) -> tuple[int, int]:
    """Users are randomised, their requests are observed."""
    flow = traffic(1_500, 30, returning=True)
    declared = declaration(OUTCOME, baseline=0.1, returning=True)
    often = Crowd(Seen.ALONE, requests=2.0)
    drawn = Histories(often, flow, often.generate(rng, flow, runs), OUTCOME.key)
    grouped = replace(drawn, world=replace(often, seen=Seen.EVERY))
    by_request = declaration(replace(OUTCOME, per=Per.REQUEST), baseline=0.1, returning=True)
    naive = sum(_wrong(declared, drawn.looks(run)) for run in range(runs))
    return naive, sum(_wrong(by_request, grouped.looks(run)) for run in range(runs))


def clock(rng: np.random.Generator, runs: int) -> tuple[int, int]:
    """A bounded experiment ramps up from 0.5 % to 50 %; users are taken for information."""
    ramp = tuple(map(BasisPoints, (50, 100, 5000)))
    flow = traffic(120_000, 42, ramp=ramp)
    world = Categories(Shares(0.1), Shares(0.1), (0, 1))
    drawn = Histories(world, flow, world.generate(rng, flow, runs), OUTCOME.key)
    declared = replace(declaration(OUTCOME, ramp=ramp), horizon=Horizon(flow.units))
    limits = _limits(np.cumsum(flow.sizes) / flow.units)
    method = method_of(declared.goal, returning=False)
    naive = ours = 0
    for run in range(runs):
        taken: tuple[Look, ...] = ()
        fooled = False
        for limit, seen in zip(limits, drawn.looks(run), strict=True):
            if (look := due(declared, seen, CHALLENGER, taken)) is not None:
                taken = (*taken, look)
            found = method.compare(compared(OUTCOME, seen.stages, CHALLENGER)).estimate()
            fooled |= isinstance(found, Estimate) and found.value >= limit * found.error
        naive += fooled
        ours += any(look.crossed for look in taken)
    return naive, ours


def _limits(times: np.ndarray) -> list[float]:
    looks = tuple((time, time) for time in times.tolist())
    return [boundary(looks[: end + 1], alpha=0.025) for end in range(len(looks))]


def tuning(rng: np.random.Generator, runs: int) -> tuple[int, int]:
    """The mixture is made as wide as the data seem to ask for, anew at every look."""
    sizes = np.maximum(100, 100 * 1.15 ** np.arange(LOOKS_AT_TUNING)).astype(int)
    flow = Traffic(
        tuple(sizes.tolist()),
        (0,) * LOOKS_AT_TUNING,
        (1.0,) * LOOKS_AT_TUNING,
        traffic(1, 1).stages,
    )
    world = Categories(Shares(0.1), Shares(0.1), (0, 1))
    drawn = world.generate(rng, flow, runs)
    declared = declaration(OUTCOME, effect=0.02, baseline=0.1)
    cells = drawn.cells[:, :, 0].cumsum(axis=1).astype(float)
    n, s = cells.sum(axis=-1), cells[..., 1]
    p = s / np.maximum(n, 1.0)
    square = np.maximum((p * (1.0 - p) / np.maximum(n, 1.0)).sum(axis=-1), 1e-12)
    z = (p[..., 0] - p[..., 1]) / np.sqrt(square)
    w = np.maximum(z * z - 1.0, 1e-9)
    naive = int((first(mixture_log_e(z, w) >= log(1.0 / ANY_VERDICT)) >= 0).sum())
    seen = Histories(world, flow, drawn, OUTCOME.key)
    return naive, sum(_wrong(declared, seen.looks(run)) for run in range(runs))


def bandit(rng: np.random.Generator, runs: int) -> tuple[int, int]:
    """Most traffic goes to whichever arm has the better raw mean, while rates rise in both."""
    declared = declaration(OUTCOME, baseline=0.1)
    found = [_greedy(rng, declared) for _ in range(runs)]
    return sum(naive for naive, _ in found), sum(ours for _, ours in found)


def _greedy(rng: np.random.Generator, declared: Declaration) -> tuple[bool, bool]:
    stages: list[StageEvidence] = []
    naive = ours = False
    treated, batches = 5, 20
    for batch in range(batches):
        n1 = int(rng.binomial(1_000, treated / 10))
        arms = [_drawn(rng, n, 0.05 + 0.1 * batch / batches) for n in (n1, 1_000 - n1)]
        stages.append(StageEvidence(batch, arms[1], {CHALLENGER: arms[0]}, (treated, 10)))
        pooled = _pooled(Evidence(tuple(stages))).stages[0]
        s1, s0 = (
            t.sample(OUTCOME.key).counts[1]
            for t in (pooled.challengers[CHALLENGER], pooled.champion)
        )
        n1, n0 = pooled.challengers[CHALLENGER].units, pooled.champion.units
        p1, p0 = s1 / n1, s0 / n0
        square = p1 * (1.0 - p1) / n1 + p0 * (1.0 - p0) / n0
        log_e = mixture_log_e((p1 - p0) / np.sqrt(square), 0.01**2 / square)
        naive |= bool(log_e >= log(1.0 / ANY_VERDICT))
        ours |= _wrong(declared, [Evidence(tuple(stages))])
        treated = 9 if p1 > p0 else 1
    return naive, ours


def _drawn(rng: np.random.Generator, n: int, rate: float) -> Tally:
    s = int(rng.binomial(n, rate))
    return Tally(n, 0, n, {OUTCOME.key: Sample({1: s, 0: n - s})})


def numbers(rng: np.random.Generator, runs: int) -> tuple[int, int]:
    """Values around a thousand million with a spread of one; the arms differ by a third of it."""
    metric = Metric("outcome", Mean(0.0, 2e9))
    declared = declaration(metric, effect=3e-10, baseline=1e9)
    naive = ours = 0
    for _ in range(runs):
        values = 1e9 + rng.normal(size=(2, 2_000)) + np.array([[0.3], [0.0]])
        kept = [_merged(arm) for arm in values]
        arms = [Tally(m.n, 0, m.n, {metric.key: Sample(moments={0: m})}) for m in kept]
        stage = StageEvidence(0, arms[1], {CHALLENGER: arms[0]}, (1, 2))
        ours += not _wrong(declared, [Evidence((stage,))])
        n = values.shape[1]
        squares = (values * values).sum(axis=1) - values.sum(axis=1) ** 2 / n
        square = float((squares / (n - 1.0) / n).sum())
        difference = float(values[0].mean() - values[1].mean())
        # A variance that is not positive is no result.
        naive += square <= 0.0 or difference * difference / square < 2.0 * log(1.0 / ANY_VERDICT)
    return naive, ours


def _merged(values: np.ndarray) -> Moments:
    return total(Moments.of(part) for part in np.split(values, 20))


def zero_cells(rng: np.random.Generator, runs: int) -> tuple[int, int]:
    """Nobody who meets the canary ever succeeds; 2 % would."""
    naive = ours = 0
    for looks in canary.seen(rng, runs, rate=0.0)[:, : canary.LOOKS_TO_THOUSAND]:
        found = any(
            successes and _log_ratio_z(n1, successes, *rest) < -1.96
            for n1, successes, _, _, *rest in looks.tolist()
        )
        naive += not found
        ours += not np.isfinite(canary.rolled_back(looks.tolist()))
    return naive, ours


def _log_ratio_z(n1: int, s1: int, n0: int, s0: int, *_: int) -> float:
    return log(s1 / n1 / (s0 / n0)) / (1 / s1 - 1 / n1 + 1 / s0 - 1 / n0) ** 0.5


def late_labels(rng: np.random.Generator, runs: int) -> tuple[int, int]:
    """One arm's successes are known at once, all other outcomes come over a day."""
    hasty, patient = (LateLabels(HALF, patient=each) for each in (False, True))
    seeds = rng.spawn(1)[0].bit_generator.seed_seq
    found = []
    for source in (hasty, patient):
        drawn = source.histories(np.random.default_rng(seeds), runs)
        found.append(sum(_wrong(source.declaration, drawn.looks(run)) for run in range(runs)))
    return found[0], found[1]
