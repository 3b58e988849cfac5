"""How much sample it takes to find .11 beside .10, for the engine and for what is published."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from experiments.assessment import assess
from experiments.evidence import Evidence, Sample, StageEvidence, Tally
from experiments.finding import Finding
from experiments.looks import Look, due
from experiments.metric import Binary, Metric
from experiments.model import Declaration, Horizon
from experiments.stats.power import fixed_units_per_arm
from tests.calibration.declared import CHALLENGER, declaration
from tests.calibration.judged import Rate
from tests.calibration.rivals import BOUNDED_HORIZON, RIVALS, Counts, looks_until
from tests.calibration.work import Scale, generator, together

CONTROL, TREATMENT = 0.10, 0.11
BATCH = 200
REACH = 4.0
"""Fixed samples after which an open-ended test that has not decided is left alone."""

FIXED = fixed_units_per_arm(CONTROL, TREATMENT, alpha=0.05, power=0.8)
CHUNK = 50
WITH_EFFECT, WITHOUT = 3_000, 1_000
METRIC = Metric("outcome", Binary())
KNOWN = declaration(METRIC, effect=TREATMENT / CONTROL - 1.0, baseline=CONTROL)
UNKNOWN = declaration(METRIC, effect=TREATMENT / CONTROL - 1.0)
HORIZON = round(2.0 * BOUNDED_HORIZON * FIXED)
OURS, OURS_UNKNOWN, OURS_BOUNDED = (
    "**Tiltyard, open-ended**",
    "**Tiltyard, open-ended**, baseline not declared",
    "**Tiltyard, bounded**",
)


@dataclass(frozen=True, slots=True)
class Racer:
    """One way to decide, and how it did.

    Args:
        samples: Per run with an effect, in fixed samples, up to its end.
        decided: Whether it found the effect, per run.
        wrong: How often it found one where there was none.
    """

    name: str
    samples: np.ndarray
    decided: np.ndarray
    wrong: Rate

    @property
    def mean(self) -> float:
        return float(self.samples.mean())

    @property
    def error(self) -> float:
        return float(self.samples.std(ddof=1)) / len(self.samples) ** 0.5

    @property
    def power(self) -> Rate:
        return Rate(int(self.decided.sum()), len(self.decided), 1.0)

    def sample_for(self, power: float) -> float | None:
        """Return the sample at which so many have decided; None if so many never do."""
        found = np.sort(self.samples[self.decided])
        needed = int(np.ceil(power * len(self.samples)))
        return float(found[needed - 1]) if needed <= len(found) else None


def draw(rng: np.random.Generator, runs: int, treatment: float, *, reach: float = REACH) -> Counts:
    """Draw an experiment's counts after every batch; units are divided by coin."""
    looks = looks_until(reach, FIXED, BATCH)
    n1 = rng.binomial(BATCH, 0.5, (runs, looks))
    n0 = BATCH - n1
    s1, s0 = rng.binomial(n1, treatment), rng.binomial(n0, CONTROL)
    added = (each.cumsum(axis=1) for each in (n1, s1, n0, s0))
    return Counts(*added, fixed=FIXED, control=CONTROL, treatment=TREATMENT)


def evidence_at(counts: Counts, run: int) -> Iterator[Evidence]:
    """Yield what the engine sees after each batch."""
    cells = np.stack([counts.n1[run], counts.s1[run], counts.n0[run], counts.s0[run]], axis=-1)
    for n1, s1, n0, s0 in cells.tolist():
        challenger, champion = (
            Tally(n, 0, n, {METRIC.key: Sample({1: s, 0: n - s})}) for n, s in ((n1, s1), (n0, s0))
        )
        yield Evidence((StageEvidence(0, champion, {CHALLENGER: challenger}, (1, 2)),))


def open_ended(declared: Declaration, looks: Iterator[Evidence]) -> int:
    """Return the look at which the engine would promote; -1 if none."""
    for look, evidence in enumerate(looks):
        superior = assess(declared, evidence).challengers[0].superior
        assert isinstance(superior, Finding)
        if superior.reached:
            return look
    return -1


def bounded(declared: Declaration, looks: Iterator[Evidence]) -> int:
    """Return the look at which the engine would promote within the horizon; -1 if none."""
    declared = replace(declared, horizon=Horizon(HORIZON))
    taken: tuple[Look, ...] = ()
    for at, evidence in enumerate(looks):
        look = due(declared, evidence, CHALLENGER, taken)
        if look is not None:
            taken = (*taken, look)
            if look.crossed:
                return at
            if look.time >= 1.0:
                return -1
    return -1


ENTRANTS = {
    OURS: (KNOWN, open_ended, None),
    OURS_UNKNOWN: (UNKNOWN, open_ended, None),
    OURS_BOUNDED: (KNOWN, bounded, BOUNDED_HORIZON),
}


def race_chunk(seed: int, number: int, runs: int, treatment: float) -> dict[str, np.ndarray]:
    """Return by name the look at which each run is decided; -1 where it is not."""
    counts = draw(generator(seed, f"race {treatment}", number), runs, treatment)
    found = {
        name: np.array([decide(declared, evidence_at(counts, run)) for run in range(runs)])
        for name, (declared, decide, _) in ENTRANTS.items()
    }
    return found | {rival.name: rival.decide(counts) for rival in RIVALS}


def race(scale: Scale) -> tuple[Racer, ...]:
    """Run them all, with the effect and without."""
    with_effect = _raced(scale, TREATMENT, WITH_EFFECT)
    without = _raced(scale, CONTROL, WITHOUT)
    ends = {name: end for name, (_, _, end) in ENTRANTS.items()}
    ends |= {rival.name: rival.end for rival in RIVALS}
    return tuple(
        _racer(
            name,
            with_effect[name],
            without[name],
            end or REACH,
            0.025 if name in ENTRANTS else 0.05,
        )
        for name, end in ends.items()
    )


def _racer(name: str, found: np.ndarray, false: np.ndarray, end: float, alpha: float) -> Racer:
    decided = found >= 0
    samples = np.where(decided, (found + 1) * BATCH / (2.0 * FIXED), end)
    return Racer(name, samples, decided, Rate(int((false >= 0).sum()), len(false), alpha))


def _raced(scale: Scale, treatment: float, full: int) -> dict[str, np.ndarray]:
    runs = scale.runs(full)
    tasks = [
        (race_chunk, (scale.seed, number, min(CHUNK, runs - start), treatment))
        for number, start in enumerate(range(0, runs, CHUNK))
    ]
    what = f"races at {treatment:g} against {CONTROL:g}"
    found = dict(together(tasks, scale.jobs, what))
    return {
        name: np.concatenate([found[index][name] for index in range(len(tasks))])
        for name in found[0]
    }
