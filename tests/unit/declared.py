"""One plain experiment as it may be declared, and whatever else hypothesis thinks of."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from experiments.audience import Among, Audience, Compared, Order
from experiments.metric import (
    ERROR_RATE,
    LATENCY,
    Binary,
    Count,
    Direction,
    Goal,
    Guardrail,
    Kind,
    Mean,
    Metric,
    Per,
    Quantile,
    Ratio,
    Score,
    Slow,
    Worse,
)
from experiments.model import (
    WHOLE,
    Alpha,
    BasisPoints,
    Declaration,
    ExperimentName,
    Holdback,
    Horizon,
    Layer,
    Limits,
    Segments,
    Shadow,
)
from experiments.quantities import LARGEST_NUMBER
from experiments.unit import CookieUnit, HeaderUnit, JsonUnit, QueryUnit, RequestUnit
from registry.refs import ModelName, Version

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ERRORS, SLOW = "error_rate", "latency_ms>250"
RAMP = (BasisPoints(500), BasisPoints(2500), BasisPoints(5000))
LIMITS = Limits(200, timedelta(seconds=60), timedelta(days=7))
CORRECT = Metric("correct", Binary())
FEW_ERRORS = Guardrail(Metric(ERROR_RATE, Count()), Worse.HIGHER, max_ratio=2.0, negligible=0.01)
FAST = Guardrail(Metric(LATENCY, Slow(250)), Worse.HIGHER, max_ratio=1.5, negligible=0.01)
DECLARATION = Declaration(
    name=ExperimentName("digits-v2"),
    model=ModelName("digits"),
    challengers=(Version(2),),
    unit=HeaderUnit("x-unit-id"),
    ramp=RAMP,
    goal=Goal(CORRECT, Direction.INCREASE, 0.01),
    guardrails=(FEW_ERRORS, FAST),
    limits=LIMITS,
)


# Whatever hypothesis thinks of; every declaration can be written as a file.

WORDS = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True) | st.sampled_from(
    ["1e5", "no", "true", "null", "2024", "0x1", "1_0", "2024-01-01", "0e0"]
)
SPANS = st.integers(0, 10**10).map(lambda ms: timedelta(milliseconds=ms))
ALPHAS = st.floats(1e-9, 0.5, exclude_max=True)
SHARES = st.floats(0, 1, exclude_min=True, exclude_max=True)
SIZES = st.floats(1e-9, 1e12)
HEADERS = st.from_regex(r"[a-z0-9][a-z0-9-]{0,62}", fullmatch=True)
VERSIONS = st.integers(1, 999_999_999).map(Version)


@st.composite
def means(draw: st.DrawFn) -> Mean:
    bounds = st.integers(-(10**6), 10**6).map(float) | st.just(0.5) | st.just(-1e12)
    low, high = sorted(draw(st.sets(bounds, min_size=2, max_size=2)))
    return Mean(low, high, draw(st.booleans()))


@st.composite
def scores(draw: st.DrawFn) -> Score:
    low = float(draw(st.integers(-100, 100)))
    step = draw(st.sampled_from([0.01, 0.1, 0.25, 1.0, 7.0]))
    return Score(low, low + draw(st.integers(1, 1000)) * step, step)


slow = st.integers(1, 600_000).map(Slow)
quantiles = st.integers(1, 9999).map(lambda points: Quantile(points / 10_000))
latencies = slow | quantiles
kinds: st.SearchStrategy[Kind] = st.one_of(
    st.just(Binary()), means(), scores(), st.just(Ratio()), latencies, st.just(Count())
)
SHARE_KINDS = (Binary, Slow, Count)


@st.composite
def metrics(draw: st.DrawFn, name: str, longest: timedelta) -> Metric:
    kind = draw(latencies if name == LATENCY else kinds)
    per = Per.UNIT
    if isinstance(kind, Ratio):
        per = Per.REQUEST
    elif isinstance(kind, Binary | Mean | Score):
        per = draw(st.sampled_from(Per))
        if isinstance(kind, Mean) and kind.covariate:
            per = Per.UNIT
    window = None
    if name != LATENCY and longest > 2 * SECOND and draw(st.booleans()):
        window = timedelta(milliseconds=draw(st.integers(1000, longest // SECOND * 1000 - 1)))
    return Metric(name, kind, per, window)


def _sizes(kind: Kind) -> st.SearchStrategy[float | None]:
    match kind:
        case Binary() | Slow() | Count():
            return st.none() | SHARES
        case Score(low, high):
            inside = st.floats(max(low, 0.0), high, exclude_min=True, exclude_max=True)
            return st.none() | inside if high > max(low, 0.0) else st.none()
        case _:
            return st.none() | SIZES


def _spreads(kind: Kind) -> st.SearchStrategy[float | None]:
    return st.none() if isinstance(kind, SHARE_KINDS) else st.none() | SIZES


def _margins(kind: Kind) -> st.SearchStrategy[float]:
    match kind:
        case Binary() | Slow() | Count():
            return SHARES
        case Mean(low, high) | Score(low, high):
            largest = min(high - low, LARGEST_NUMBER)
            return st.floats(0, largest, exclude_min=True, exclude_max=True)
        case _:
            return SIZES


def _highest(kind: Kind) -> float:
    return kind.high if isinstance(kind, Score) else 1.0 if isinstance(kind, SHARE_KINDS) else 1e99


@st.composite
def goals(draw: st.DrawFn, longest: timedelta) -> Goal:
    name = draw(st.from_regex(r"g[a-z0-9_]{0,62}", fullmatch=True) | st.just(LATENCY))
    metric = draw(metrics(name, longest))
    direction = draw(st.sampled_from(Direction))
    upper = 1 if direction is Direction.DECREASE else 10
    effect = draw(st.floats(1e-4, upper, exclude_max=True))
    baseline = draw(_sizes(metric.kind))
    grown = 1 + effect if direction is Direction.INCREASE else 1
    if baseline is not None and baseline * grown > _highest(metric.kind):
        baseline = None
    if isinstance(metric.kind, Ratio):
        baseline = baseline or 1.0
    return Goal(metric, direction, effect, baseline, draw(_spreads(metric.kind)))


@st.composite
def guardrails_on(draw: st.DrawFn, metric: Metric) -> Guardrail:
    kind = metric.kind
    ratio: float | None = draw(st.floats(1, 1000, exclude_min=True))
    difference: float | None = None
    if not isinstance(kind, Quantile) and draw(st.booleans()):
        ratio = None
        difference = draw(_margins(kind))
    reported = isinstance(kind, Count) and not metric.at_edge and metric.window is None
    negligible = draw(SHARES) if isinstance(kind, Slow | Count) and not reported else None
    worse = draw(st.sampled_from(Worse))
    baseline, spread = draw(_sizes(kind)), draw(_spreads(kind))
    if isinstance(kind, Ratio) and difference is None:
        baseline = baseline or 1.0
    return Guardrail(metric, worse, ratio, difference, negligible, baseline, spread)


@st.composite
def guardrails(draw: st.DrawFn, goal: Goal, longest: timedelta) -> tuple[Guardrail, ...]:
    """At the edge, on outcomes of their own, and on other sides of one that the goal has."""
    found = [Metric(ERROR_RATE, Count())]
    found += [Metric(LATENCY, kind) for kind in draw(st.lists(latencies, max_size=2))]
    names = draw(st.sets(st.from_regex(r"m[a-z0-9_]{0,62}", fullmatch=True), max_size=3))
    found += [draw(metrics(name, longest)) for name in sorted(names)]
    if isinstance(goal.metric.kind, Slow | Quantile):
        found.append(Metric(goal.metric.name, draw(latencies), goal.metric.per, goal.metric.window))
    distinct = {metric.key: metric for metric in found}
    distinct.pop(goal.metric.key, None)
    return tuple(draw(guardrails_on(each)) for each in draw(st.permutations([*distinct.values()])))


segments = st.builds(
    Segments,
    HEADERS,
    st.lists(
        st.from_regex(r"[A-Za-z0-9_.-]{1,32}", fullmatch=True), min_size=1, max_size=8, unique=True
    ).map(tuple),
)


NAMES = st.from_regex(r"[A-Za-z0-9_.~-]{1,63}", fullmatch=True)
PATHS = st.lists(
    st.from_regex(r"\.[A-Za-z_][A-Za-z0-9_-]{0,9}|\[(0|[1-9][0-9]{0,3})\]", fullmatch=True),
    min_size=1,
    max_size=8,
).map(lambda steps: f"${''.join(steps)}")
units = st.one_of(
    st.just(RequestUnit()),
    HEADERS.map(HeaderUnit),
    NAMES.map(CookieUnit),
    NAMES.map(QueryUnit),
    PATHS.map(JsonUnit),
)

VALUES = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), include_characters=" "), max_size=64
).map(str.strip)
conditions = st.one_of(
    st.builds(
        Among,
        HEADERS,
        st.lists(VALUES, min_size=1, max_size=5, unique=True).map(tuple),
        st.booleans(),
    ),
    st.builds(
        Compared, HEADERS, st.sampled_from(Order), st.floats(-LARGEST_NUMBER, LARGEST_NUMBER)
    ),
)
audiences = st.builds(Audience, st.lists(conditions, min_size=1, max_size=8).map(tuple))


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    low, high = sorted(draw(st.sets(st.integers(0, WHOLE), min_size=2, max_size=2)))
    return Layer(draw(WORDS), BasisPoints(low), BasisPoints(high))


shadows = st.builds(
    Shadow,
    st.integers(1, WHOLE).map(BasisPoints),
    st.integers(1, 10**7),
    st.none() | SHARES,
    st.floats(0, 1e12),
)


@st.composite
def declarations(draw: st.DrawFn) -> Declaration:
    """Return one that users are in, or one that none is ever in."""
    declared = draw(declarations_with_users())
    if draw(st.booleans()):
        return replace(declared, shadow=draw(st.none() | shadows))
    pairs_tell = [each for each in declared.guardrails if _in_pairs(each.metric)]
    return replace(
        declared,
        ramp=(),
        goal=None,
        guardrails=tuple(pairs_tell),
        limits=replace(declared.limits, min_units=200),
        horizon=None,
        holdback=None,
        segments=None,
        budget=WHOLE,
        shadow=draw(shadows),
    )


def _in_pairs(metric: Metric) -> bool:
    return metric.at_edge and not isinstance(metric.kind, Quantile)


@st.composite
def declarations_with_users(draw: st.DrawFn) -> Declaration:
    shortest, more = draw(SPANS), draw(SPANS.filter(bool))
    limits = Limits(draw(st.integers(1, 1_000_000)), shortest, shortest + more)
    goal = draw(goals(limits.max_runtime))
    ramp = tuple(map(BasisPoints, sorted(draw(st.sets(st.integers(1, 9999), min_size=1)))[:20]))
    room = WHOLE - ramp[-1] - 1  # Of those who never met a challenger some must do so now.
    back = st.integers(1, max(1, room)).map(BasisPoints)
    spans = SPANS.filter(lambda span: span >= SECOND)
    horizons = st.integers(2 * limits.min_units, 10**9).map(Horizon)
    return Declaration(
        name=ExperimentName(draw(WORDS)),
        model=ModelName(draw(WORDS)),
        challengers=tuple(draw(st.lists(VERSIONS, min_size=1, max_size=8, unique=True))),
        unit=draw(units),
        ramp=ramp,
        goal=goal,
        guardrails=draw(guardrails(goal, limits.max_runtime)),
        limits=limits,
        alpha=Alpha(draw(ALPHAS), draw(ALPHAS), draw(ALPHAS)),
        deadline=timedelta(milliseconds=draw(st.integers(1, 300_000))),
        horizon=draw(st.none() | horizons),
        holdback=draw(st.none() | st.builds(Holdback, back, spans)) if room else None,
        segments=draw(st.none() | segments),
        audience=draw(st.none() | audiences),
        layer=draw(st.none() | layers()),
        budget=BasisPoints(draw(st.integers(0, WHOLE))),
    )
