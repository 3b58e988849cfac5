"""What holds of every kind of metric: extremes, symmetry, stages, polls and merging."""

import warnings
from math import isfinite, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.evidence import Sample
from experiments.methods import Aim, Compared, Margin, Side
from experiments.methods.choice import is_grouped, method_of
from experiments.methods.gaussian import GaussianMethod
from experiments.metric import (
    GROUPS,
    LATENCY,
    Binary,
    Count,
    Direction,
    Goal,
    Guardrail,
    Mean,
    Metric,
    Per,
    Quantile,
    Ratio,
    Score,
    Slow,
    Worse,
)
from experiments.stats.intervals import Insufficient, Interval
from experiments.stats.moments import Moments

UP = Direction.INCREASE
GOALS = {
    "binary": Goal(Metric("m", Binary()), UP, 0.05),
    "binary, known": Goal(Metric("m", Binary()), UP, 0.05, baseline=0.4),
    "mean": Goal(Metric("m", Mean(0.0, 1e10)), UP, 0.05, baseline=1e9, spread=1.0),
    "mean, unknown": Goal(Metric("m", Mean(0.0, 1e10)), UP, 0.05),
    "score": Goal(Metric("m", Score(1.0, 5.0, 1.0)), UP, 0.05),
    "score, known": Goal(Metric("m", Score(0.0, 100.0, 1.0)), UP, 0.1, baseline=60.0, spread=20.0),
    "ratio": Goal(Metric("m", Ratio(), Per.REQUEST), UP, 0.05, baseline=3.0),
    "per request": Goal(Metric("m", Binary(), Per.REQUEST), UP, 0.05),
    "slow": Goal(Metric("m", Slow(250)), UP, 0.05),
    "quantile": Goal(Metric("m", Quantile(0.99)), UP, 0.05),
    "count": Goal(Metric("m", Count()), UP, 0.05),
}
MARGINS = (Margin(), Margin(ratio=1.2), Margin(ratio=0.8))
counts = st.sampled_from([0, 0, 1, 2, 30, 5_000, 10**6, 10**9])
means = st.sampled_from([0.0, 1.0, 1e9, -1e9])


@st.composite
def samples(draw: st.DrawFn, goal: Goal) -> Sample:
    """Return a sample of the goal's kind, however extreme."""
    if is_grouped(goal.metric, returning=True):
        few = [draw(moments(1.0)) for _ in range(3)]
        groups = draw(st.sampled_from([0, 1, 2, GROUPS]))
        return Sample({}, {group: few[group % 3] for group in range(groups)})
    match goal.metric.kind:
        case Mean():
            return Sample(
                {},
                {index: draw(moments(0.0)) for index in draw(st.sampled_from([(), (0,), (0, 1)]))},
            )
        case Score() as kind:
            places = st.sampled_from([0, len(kind.grid) // 2, len(kind.grid) - 1])
            return Sample(draw(st.dictionaries(places, counts)))
        case Quantile():
            return Sample(draw(st.dictionaries(st.sampled_from([0, 100, 101, 300, 557]), counts)))
        case _:
            return Sample({1: draw(counts), 0: draw(counts)})


@st.composite
def moments(draw: st.DrawFn, x: float) -> Moments:
    n = draw(counts)
    spread = draw(st.sampled_from([0.0, 1.0])) * n
    return Moments(n, draw(means), spread, x, 0.0, 0.0) if n else Moments(0)


@st.composite
def stages(draw: st.DrawFn, goal: Goal) -> list[Compared]:
    found = []
    for share in draw(st.sampled_from([(), (0.5,), (0.0001, 0.5), (0.05, 0.25, 0.5)])):
        treatment, control = draw(samples(goal)), draw(samples(goal))
        found.append(Compared(treatment, control, draw(counts), draw(counts), share))
    return found


@pytest.mark.parametrize("goal", GOALS.values(), ids=GOALS.keys())
@given(data=st.data())
def test_whatever_was_counted_every_answer_is_a_number_or_says_why_not(goal, data):
    seen = data.draw(stages(goal))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = method_of(goal, returning=True).compare(seen)
        for side in (Side.GREATER, Side.LESS):
            for aim in Aim:
                for margin in MARGINS:
                    assert isfinite(found.log_e(side=side, margin=margin, aim=aim))
        for effect in found.effects(alpha=0.05):
            if isinstance(effect.interval, Interval):
                assert effect.interval.low <= effect.interval.high
            else:
                assert effect.interval.reason
        estimate = found.estimate()
        assert isinstance(estimate, Insufficient) or (
            isfinite(estimate.value) and estimate.error > 0
        )
        shrunk = found.shrunk()
        assert isinstance(shrunk, Insufficient) or isfinite(shrunk.value)


def drawn(kind: str, seed: int, *, worse: float = 0.0, units: int = 3_000) -> Sample:
    """Return a plausible sample of each kind."""
    rng = np.random.default_rng(seed)
    if kind in ("ratio", "per request"):
        groups = {}
        for group in range(GROUPS):
            x = rng.poisson(3, 30) + 1.0
            y = (
                rng.poisson(3 * x * (1 - worse))
                if kind == "ratio"
                else rng.binomial(3, 0.5 * (1 - worse), 30)
            )
            groups[group] = Moments.of(y.astype(float).tolist(), x.tolist())
        return Sample({}, groups)
    if kind.startswith("mean"):
        return Sample(
            {}, {0: Moments.of((1e9 * (1 - worse) + rng.standard_normal(units)).tolist())}
        )
    if kind.startswith("score"):
        places = 5 if kind == "score" else 101
        scores = np.clip(rng.normal(0.6 * (1 - worse), 0.2, units), 0, 1) * (places - 1)
        found = np.bincount(np.rint(scores).astype(int), minlength=places)
        return Sample({place: int(n) for place, n in enumerate(found) if n})
    if kind == "quantile":
        found = np.bincount(rng.normal(250 * (1 - 0.2 * worse), 10, units).astype(int))
        return Sample({place: int(n) for place, n in enumerate(found) if n})
    bad = int(rng.binomial(units, 0.4 * (1 - worse)))
    return Sample({1: bad, 0: units - bad})


@pytest.mark.parametrize("kind", GOALS)
def test_a_drop_is_found_on_its_own_side_only(kind):
    seen = [Compared(drawn(kind, 1, worse=0.5), drawn(kind, 2), 3_000, 3_000, 0.5)]
    found = method_of(GOALS[kind], returning=True).compare(seen)
    assert found.log_e(side=Side.LESS, aim=Aim.HARM) > log(20)
    assert found.log_e(side=Side.GREATER, aim=Aim.HARM) < 0
    main = found.effects(alpha=0.05)[0]
    assert isinstance(main.interval, Interval)
    assert main.interval.high < (1.0 if main.scale == "ratio" else 0.0)


@pytest.mark.parametrize("kind", GOALS)
def test_the_arms_exchanged_are_the_sides_exchanged(kind):
    here, there = drawn(kind, 3, worse=0.1), drawn(kind, 4)
    method = method_of(GOALS[kind], returning=True)
    one = method.compare([Compared(here, there, 3_000, 3_000, 0.5)])
    other = method.compare([Compared(there, here, 3_000, 3_000, 0.5)])
    swapped = (
        one.log_e(side=Side.LESS, aim=Aim.BETTER),
        one.log_e(side=Side.GREATER, aim=Aim.BETTER),
    )
    assert swapped == pytest.approx(
        (
            other.log_e(side=Side.GREATER, aim=Aim.BETTER),
            other.log_e(side=Side.LESS, aim=Aim.BETTER),
        ),
        rel=1e-6,
        abs=1e-6,
    )


EXACT = [
    kind
    for kind in GOALS
    if kind not in ("mean", "mean, unknown", "ratio", "per request", "quantile")
]


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("aim", list(Aim))
def test_a_stage_split_at_equal_share_is_one_stage(kind, aim):
    whole_treatment, whole_control = drawn(kind, 5), drawn(kind, 6)
    treatment, control = halves(whole_treatment), halves(whole_control)
    method = method_of(GOALS[kind], returning=True)
    whole = method.compare([Compared(whole_treatment, whole_control, 0, 0, 0.25)])
    split = method.compare(
        [Compared(t, c, 0, 0, 0.25) for t, c in zip(treatment, control, strict=True)]
    )
    for side in (Side.GREATER, Side.LESS):
        one, other = whole.log_e(side=side, aim=aim), split.log_e(side=side, aim=aim)
        assert one == pytest.approx(other, rel=1e-9, abs=1e-9)


def halves(sample: Sample) -> tuple[Sample, Sample]:
    first = {index: count // 2 for index, count in sample.counts.items()}
    rest = {index: count - first[index] for index, count in sample.counts.items()}
    return Sample(first), Sample(rest)


def test_an_absolute_margin_for_slow_units_needs_those_that_were_fast():
    guardrail = Guardrail(Metric(LATENCY, Slow(250)), Worse.HIGHER, max_difference=0.05)
    method = method_of(guardrail, returning=True)

    def harm(units: int) -> float:
        seen = [Compared(Sample({1: 300}), Sample({1: 100}), units, units, 0.5)]
        margin = Margin(difference=0.05)
        return method.compare(seen).log_e(side=Side.GREATER, margin=margin, aim=Aim.HARM)

    assert harm(1_000) > log(20)
    assert harm(100_000) < 0


@pytest.mark.parametrize("returning", [False, True])
def test_what_a_unit_gives_more_than_once_is_kept_by_group_if_units_return(returning):
    assert is_grouped(Metric("m", Ratio(), Per.REQUEST), returning=returning)
    assert is_grouped(Metric("m", Binary(), Per.REQUEST), returning=returning) is returning
    assert not is_grouped(Metric("m", Binary()), returning=returning)


@pytest.mark.parametrize("returning", [True, False])
@pytest.mark.parametrize("goal", GOALS.values(), ids=GOALS.keys())
def test_means_and_what_is_kept_by_group_alone_are_compared_by_approximation(goal, returning):
    approximate = isinstance(goal.metric.kind, Mean) or is_grouped(goal.metric, returning=returning)
    assert isinstance(method_of(goal, returning=returning), GaussianMethod) == approximate
