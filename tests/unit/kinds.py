"""One experiment with a metric of each kind, and evidence of it: some by hand, some by chance."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count

from hypothesis import strategies as st

from experiments.decision import Plan
from experiments.evidence import Evidence, Matured, Sample, StageEvidence, Tally
from experiments.lifecycle import State
from experiments.looks import Look
from experiments.metric import (
    ERROR_RATE,
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
from experiments.model import Declaration, Horizon, Segments
from experiments.stats.histogram import bucket_of
from experiments.stats.moments import Moments
from registry.refs import Version
from tests.unit.declared import DECLARATION
from tests.unit.samples import START, stages_until

CORRECT = Metric("correct", Binary(), window=timedelta(hours=1))
ASKED_AGAIN = Metric("asked_again", Binary(), per=Per.REQUEST)
SPENT = Metric("spent", Mean(0.0, 600.0, covariate=True))
RATING = Metric("rating", Score(1.0, 5.0, 1.0))
TOKENS = Metric("tokens", Ratio(), per=Per.REQUEST)
SLOWER = Metric(LATENCY, Slow(250))
TAIL = Metric(LATENCY, Quantile(0.99))
ERRORS = Metric(ERROR_RATE, Count())

GOALS = {
    metric.key: Goal(metric, Direction.INCREASE, 0.05, baseline)
    for metric, baseline in (
        (CORRECT, 0.5),
        (ASKED_AGAIN, None),
        (SPENT, None),
        (RATING, None),
        (TOKENS, 10.0),
        (SLOWER, None),
        (TAIL, None),
        (ERRORS, None),
    )
}
"""Each kind as the goal; errors never are outside of tests."""

GUARDRAILS = {
    "correct": Guardrail(CORRECT, Worse.LOWER, max_difference=0.02),
    "asked_again": Guardrail(ASKED_AGAIN, Worse.HIGHER, max_ratio=1.2),
    "spent": Guardrail(SPENT, Worse.EITHER, max_ratio=1.1),
    "rating": Guardrail(RATING, Worse.LOWER, max_difference=0.1),
    "tokens": Guardrail(TOKENS, Worse.EITHER, max_difference=2.0),
    "latency_ms>250": Guardrail(SLOWER, Worse.HIGHER, max_ratio=1.5, negligible=0.01),
    "latency_ms@99": Guardrail(TAIL, Worse.HIGHER, max_ratio=1.2),
    "error_rate": Guardrail(ERRORS, Worse.HIGHER, max_ratio=2.0, negligible=0.01),
}

EVERY_KIND: Declaration = replace(
    DECLARATION,
    goal=GOALS["correct"],
    guardrails=tuple(each for key, each in GUARDRAILS.items() if key != "correct"),
    segments=Segments("x-country", ("de", "fr")),
)
"""All kinds at once; the unit returns."""

WITHIN_A_HORIZON = replace(EVERY_KIND, horizon=Horizon(10_000))
THREE = replace(EVERY_KIND, challengers=tuple(map(Version, (2, 3, 4))))


def plan_of(declaration: Declaration, *, rung: int = 2, state: State = State.RAMPING) -> Plan:
    """Return a plan whose ramp has come to `rung`."""
    return Plan(declaration, state, stages_until(rung, declaration=declaration), START)


def arm(units: int, better: float = 1.0) -> Tally:
    """Return an arm that is `better` times as good as usual at everything, as near as may be."""

    def part(share: float) -> int:
        return round(units * min(1.0, share))

    groups = range(GROUPS) if units else ()
    hits, bad = part(0.5 * better), part(0.02 / better)
    half, third = part(0.5), part(0.3)
    return Tally(
        requests=2 * units,
        failovers=bad,
        units=units,
        samples={
            "correct": Sample({1: hits, 0: units - hits}),
            "asked_again": Sample(moments=dict(_grouped(groups, units, 0.3 * better, 1.0))),
            "spent": Sample(moments={1: _covaried(units, 60.0 * better)}),
            "rating": Sample({4 if better > 1 else 2: third, 3: half, 1: units - half - third}),
            "tokens": Sample(moments=dict(_grouped(groups, units, 120.0 * better, 12.0))),
            "latency_ms>250": Sample({1: bad}),
            "latency_ms@99": Sample({bucket_of(20.0): units - bad, bucket_of(300.0): bad}),
            "error_rate": Sample({1: bad}),
        },
    )


def _grouped(
    groups: range | tuple[()], units: int, y: float, x: float
) -> Iterator[tuple[int, Moments]]:
    each = max(1, units // GROUPS)
    for group in groups:
        about = y * (1 + 0.1 * (group % 5 - 2))
        yield group, Moments(each, about, each * y, x, each * x * 0.1, 0.0)


def _covaried(units: int, mean: float) -> Moments:
    return Moments(units, mean, 400.0 * units, 50.0, 300.0 * units, 200.0 * units)


def evidence_for(
    declaration: Declaration, *champions: int, better: float = 1.0, hot: bool = True
) -> Evidence:
    """Return evidence with a stage per number of champions, divided as promised.

    Args:
        better: How good each challenger is beside the champion.
    """
    opened = stages_until(len(champions) - 1, declaration=declaration)
    stages = tuple(
        StageEvidence(
            stage=stage.number,
            champion=arm(units),
            challengers=dict.fromkeys(
                stage.challengers,
                arm(round(units * stage.probability / (1 - stage.probability)), better),
            ),
            odds=(stage.probability.numerator, stage.probability.denominator),
            veterans=Tally(units=17) if stage.number else Tally(),
        )
        for stage, units in zip(opened, champions, strict=True)
    )
    values = declaration.segments.values if declaration.segments else ()
    units = sum(champions)
    matured = {m.key: Matured(units // 2, units) for m in declaration.metrics if m.window}
    return Evidence(stages, dict.fromkeys(values, stages), matured, rollback_target_hot=hot)


# Whatever hypothesis thinks of: from nothing at all to far more than anybody has.

counts = st.sampled_from([0, 0, 1, 2, 17, 400, 10**6, 10**9])
numbers = st.sampled_from([0.0, 1.0, -1e9, 1e9, 0.1, 600.0])
spreads = st.sampled_from([0.0, 1e-9, 1.0, 1e9])


@st.composite
def summaries(draw: st.DrawFn, lowest: float = -1e9) -> Moments:
    """Any summary that some outcomes have."""
    n = draw(counts)
    if not n:
        return Moments(0)
    m2, m2_x = (0.0, 0.0) if n == 1 else (n * draw(spreads), n * draw(spreads))
    co = draw(st.sampled_from([-1.0, 0.0, 0.3, 1.0])) * (m2 * m2_x) ** 0.5
    mean, mean_x = (max(lowest, draw(numbers)) for _ in range(2))
    return Moments(n, mean, m2, mean_x, m2_x, co)


@st.composite
def any_arm(draw: st.DrawFn) -> Tally:
    """An arm in which every metric has its own extreme."""
    units = draw(counts)

    def some(*indices: int) -> Sample:
        return Sample({index: draw(counts) for index in indices if draw(st.booleans())})

    def grouped() -> Sample:
        every = [draw(summaries(0.0)) for _ in range(draw(st.integers(0, 2)))]
        groups = range(draw(st.sampled_from([0, 1, 2, GROUPS])))
        return Sample(moments=dict(zip(groups, cycle_of(every), strict=False)))

    found = {
        "correct": some(0, 1),
        "asked_again": grouped(),
        "spent": Sample(moments={i: draw(summaries()) for i in (0, 1) if draw(st.booleans())}),
        "rating": some(0, 1, 2, 3, 4),
        "tokens": grouped(),
        "latency_ms>250": some(1),
        "latency_ms@99": some(0, 1, bucket_of(20.0), bucket_of(300.0), bucket_of(600_000.0)),
        "error_rate": some(1),
    }
    return Tally(units, 0, units, {key: s for key, s in found.items() if draw(st.booleans())})


def cycle_of(every: list[Moments]) -> Iterator[Moments]:
    """Yield these again and again; nothing, if there are none."""
    return (every[i % len(every)] for i in count()) if every else iter(())


@st.composite
def any_evidence(draw: st.DrawFn, declaration: Declaration) -> Evidence:
    stages = stages_until(draw(st.integers(0, 2)), declaration=declaration)

    def seen() -> tuple[StageEvidence, ...]:
        return tuple(
            StageEvidence(
                stage=stage.number,
                champion=draw(any_arm()),
                challengers={version: draw(any_arm()) for version in stage.challengers},
                odds=(stage.probability.numerator, stage.probability.denominator),
                veterans=draw(any_arm()),
            )
            for stage in stages
        )

    values = declaration.segments.values[:1] if declaration.segments else ()
    return Evidence(
        stages=seen(),
        segments={value: seen() for value in values},
        matured={"correct": Matured(draw(counts), 10**9)},
    )


any_look = st.builds(
    Look,
    st.sampled_from(THREE.challengers),
    st.sampled_from([0.3, 1.0]),
    st.sampled_from([1e-9, 17.5, 1e9]),
    st.booleans(),
)
