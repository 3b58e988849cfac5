"""One plain experiment, told by hand, and whatever else hypothesis thinks of."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from string import printable

from hypothesis import strategies as st

from experiments.decision import Continue, Halt, Inconclusive, Plan, Promote, RollBack
from experiments.evidence import Evidence, StageEvidence, Tally
from experiments.experiment import Experiment
from experiments.lifecycle import State
from experiments.model import (
    Alpha,
    BasisPoints,
    Declaration,
    Direction,
    ExperimentName,
    Goal,
    Guardrail,
    HeaderUnit,
    Limits,
    RequestUnit,
    Stage,
)
from experiments.receipts import ByHand, Receipt
from registry.refs import ModelName, Version

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ERRORS, SLOW = "error_rate", "latency_ms>250"
RAMP = (BasisPoints(500), BasisPoints(2500), BasisPoints(5000))
NOBODY = Tally()
LIMITS = Limits(200, timedelta(seconds=60), timedelta(days=7))
DECLARATION = Declaration(
    name=ExperimentName("digits-v2"),
    model=ModelName("digits"),
    challenger=Version(2),
    unit=HeaderUnit("x-unit-id"),
    ramp=RAMP,
    goal=Goal("correct", Direction.INCREASE, 0.01),
    guardrails=(Guardrail(ERRORS, 2.0), Guardrail("latency_ms", 1.5, above_ms=250)),
    limits=LIMITS,
)


def stages_until(rung: int, *, declaration: Declaration = DECLARATION) -> tuple[Stage, ...]:
    """Return the stages of a ramp that moved every 20 seconds."""
    floors = (BasisPoints(0), *declaration.ramp)
    return tuple(
        Stage(each, each, declaration.ramp[each], START + 20 * each * SECOND, floors[each])
        for each in range(rung + 1)
    )


def plan_at(rung: int, *, state: State = State.RAMPING, **changes: object) -> Plan:
    declaration = replace(DECLARATION, **changes)
    return Plan(declaration, state, stages_until(rung, declaration=declaration), START)


def tally(
    units: int, *, successes: int = 0, failures: int = 0, errors: int = 0, slow: int = 0
) -> Tally:
    return Tally(units, errors, units, {ERRORS: errors, SLOW: slow}, successes, failures)


def evidence_of(*arms: tuple[Tally, Tally], veterans: Tally = NOBODY, hot: bool = True) -> Evidence:
    """Return evidence with one stage per pair of challenger and champion."""
    opened = stages_until(len(arms) - 1)
    return Evidence(
        tuple(
            StageEvidence(
                stage.number,
                stage.share,
                champion,
                challenger,
                veterans if stage.number else NOBODY,
                stage.floor,
            )
            for stage, (challenger, champion) in zip(opened, arms, strict=True)
        ),
        rollback_target_hot=hot,
    )


# Whatever hypothesis thinks of.

names = st.sampled_from(["digits-v2", "0", "a_b", "x" * 63])
versions = st.integers(1, 10**9 - 1).map(Version)
texts = st.text(printable + "é€🙂\u2028", max_size=6)
reasons = st.lists(texts, max_size=2).map(tuple)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.builds(
    lambda us, zone: START.astimezone(zone) + timedelta(microseconds=us),
    st.integers(-(10**15), 10**15),
    zones,
)
spans = st.integers(0, 10**12).map(lambda us: timedelta(microseconds=us))
rates = st.sampled_from([1e-9, 0.01, 0.3, 0.999])
receipt_ids = st.sampled_from([None, "0" * 64, "abcdef01" * 8])
units = st.sampled_from([RequestUnit(), HeaderUnit("x-unit-id"), HeaderUnit("0")])
ramps = st.lists(st.integers(1, 9_999), min_size=1, max_size=4, unique=True).map(
    lambda shares: tuple(BasisPoints(share) for share in sorted(shares))
)
guardrails = st.builds(
    Guardrail,
    metric=st.sampled_from([ERRORS, "latency_ms"]),
    max_ratio=st.sampled_from([1.0, 1.5, 7.3]),
    above_ms=st.none() | st.integers(1, 60_000),
    negligible=rates,
)
declarations = st.builds(
    Declaration,
    name=names.map(ExperimentName),
    model=names.map(ModelName),
    challenger=versions,
    unit=units,
    ramp=ramps,
    goal=st.builds(
        Goal,
        names,
        st.sampled_from(Direction),
        st.sampled_from([1e-4, 0.013, 10.0]),
        st.none() | rates,
    ),
    guardrails=st.lists(guardrails, max_size=3).map(tuple),
    limits=st.builds(Limits, st.integers(1, 10**6), spans, spans),
    alpha=st.builds(Alpha, rates, rates, rates),
    deadline=spans,
)
counts = st.sampled_from([0, 1, 2, 17, 400, 10**6])
tallies = st.builds(
    Tally,
    requests=counts,
    failovers=counts,
    units=counts,
    bad=st.fixed_dictionaries({}, optional={ERRORS: counts, SLOW: counts}),
    successes=counts,
    failures=counts,
)


@st.composite
def stage_lists(draw: st.DrawFn, ramp: tuple[BasisPoints, ...] = RAMP) -> tuple[Stage, ...]:
    opened = sorted(draw(st.lists(moments, min_size=1, max_size=len(ramp))))
    floors = (BasisPoints(0), *ramp) if draw(st.booleans()) else (BasisPoints(0),) * len(ramp)
    return tuple(
        Stage(number, number, ramp[number], at, floors[number]) for number, at in enumerate(opened)
    )


@st.composite
def evidences(draw: st.DrawFn, stages: tuple[Stage, ...] | None = None) -> Evidence:
    seen = tuple(
        StageEvidence(
            stage.number, stage.share, draw(tallies), draw(tallies), draw(tallies), stage.floor
        )
        for stage in (draw(stage_lists()) if stages is None else stages)
    )
    return Evidence(seen, draw(st.booleans()), draw(counts), draw(counts))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    declaration = draw(declarations)
    return Plan(
        declaration,
        draw(st.sampled_from(State)),
        draw(stage_lists(declaration.ramp)),
        draw(moments),
    )


@st.composite
def experiments(draw: st.DrawFn) -> Experiment:
    plan = draw(plans())
    return Experiment(
        plan.declaration,
        draw(versions),
        plan.state,
        plan.stages,
        plan.started_at,
        draw(st.none() | moments),
        draw(reasons),
        draw(receipt_ids),
    )


acts = (
    st.builds(Continue, reasons, st.none() | st.integers(0, 19))
    | st.builds(Promote, reasons)
    | st.builds(RollBack, reasons, reasons)
    | st.builds(Halt, reasons)
    | st.builds(Inconclusive, reasons)
    | st.builds(ByHand, texts, reasons)
)
receipts = st.builds(
    Receipt,
    model=names.map(ModelName),
    at=moments,
    by=texts,
    act=acts,
    plan=st.none() | plans(),
    evidence=st.none() | evidences(),
    previous=receipt_ids,
    spec_hash=receipt_ids,
    methods=texts,
)
