"""One plain experiment, told by hand, and whatever else hypothesis thinks of."""

from dataclasses import replace
from datetime import timedelta, timezone
from string import printable

from hypothesis import strategies as st

from experiments.decision import (
    Continue,
    Drop,
    Halt,
    Inconclusive,
    Look,
    Pass,
    Plan,
    Promote,
    RollBack,
)
from experiments.evidence import Evidence, Matured, Sample, StageEvidence, Tally
from experiments.experiment import Experiment
from experiments.lifecycle import State
from experiments.model import NOTHING, Declaration, Stage
from experiments.pairs import Agreed, Paired
from experiments.receipts import ByHand, Receipt
from experiments.stats.moments import Moments
from experiments.stats.paired import Pairs
from experiments.unit import HeaderUnit, JsonUnit, RequestUnit
from registry.refs import ModelName, Version
from tests.unit.declared import DECLARATION as DECLARATION
from tests.unit.declared import ERRORS as ERRORS
from tests.unit.declared import LIMITS as LIMITS
from tests.unit.declared import RAMP as RAMP
from tests.unit.declared import SECOND as SECOND
from tests.unit.declared import SLOW as SLOW
from tests.unit.declared import START as START
from tests.unit.declared import declarations

NOBODY = Tally()


def stages_until(rung: int, *, declaration: Declaration = DECLARATION) -> tuple[Stage, ...]:
    """Return the stages of a ramp that moved every 20 seconds."""
    floors = (NOTHING, *declaration.ramp)
    return tuple(
        Stage(
            number=each,
            rung=each,
            share=declaration.ramp[each],
            opened_at=START + 20 * each * SECOND,
            challengers=declaration.challengers,
            floor=floors[each],
        )
        for each in range(rung + 1)
    )


def plan_at(rung: int, *, state: State = State.RAMPING, **changes: object) -> Plan:
    declaration = replace(DECLARATION, **changes)
    return Plan(declaration, state, stages_until(rung, declaration=declaration), START)


def tally(
    units: int, *, successes: int = 0, failures: int = 0, errors: int = 0, slow: int = 0
) -> Tally:
    samples = {
        "correct": Sample({1: successes, 0: failures}),
        ERRORS: Sample({1: errors}),
        SLOW: Sample({1: slow}),
    }
    return Tally(requests=units, failovers=errors, units=units, samples=samples)


def evidence_of(*arms: tuple[Tally, Tally], veterans: Tally = NOBODY, hot: bool = True) -> Evidence:
    """Return evidence of one challenger, with one stage per pair of challenger and champion."""
    opened = stages_until(len(arms) - 1)
    return Evidence(
        tuple(
            StageEvidence(
                stage=stage.number,
                champion=champion,
                challengers={DECLARATION.challengers[0]: challenger},
                odds=(stage.probability.numerator, stage.probability.denominator),
                veterans=veterans if stage.number else NOBODY,
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
receipt_ids = st.sampled_from([None, "0" * 64, "abcdef01" * 8])
units = st.sampled_from([RequestUnit(), HeaderUnit("x-unit-id"), JsonUnit("$.user[0].id")])
counts = st.sampled_from([0, 1, 2, 17, 400, 10**6])
sums = st.sampled_from([0.0, 0.1, 1e9])
summaries = st.builds(Moments, counts, st.sampled_from([-1e9, 0.0, 0.1]), sums, sums, sums, sums)
seen = st.builds(
    Sample,
    st.dictionaries(st.integers(0, 600), counts, max_size=3),
    st.dictionaries(st.integers(0, 99), summaries, max_size=2),
)
tallies = st.builds(
    Tally,
    requests=counts,
    failovers=counts,
    units=counts,
    samples=st.fixed_dictionaries({}, optional=dict.fromkeys(("correct", ERRORS, SLOW), seen)),
)


@st.composite
def stage_lists(draw: st.DrawFn, declaration: Declaration = DECLARATION) -> tuple[Stage, ...]:
    ramp = declaration.ramp
    if declaration.shadow is not None:
        return Experiment.begin(declaration, Version(1), draw(moments)).stages
    opened = sorted(draw(st.lists(moments, min_size=1, max_size=min(4, len(ramp)))))
    floors = (NOTHING, *ramp) if draw(st.booleans()) else (NOTHING,) * len(ramp)
    return tuple(
        Stage(number, number, ramp[number], at, declaration.challengers, floors[number])
        for number, at in enumerate(opened)
    )


tables = st.builds(Pairs, counts, counts, counts, counts)
pairs_seen = st.builds(
    Paired,
    units=counts,
    pairs=counts,
    dropped=counts,
    bad=st.fixed_dictionaries({ERRORS: tables, SLOW: tables}),
    agreed=st.builds(Agreed, counts, counts),
    difference=summaries,
    latency=summaries,
    slower=counts,
    faster=counts,
)


@st.composite
def evidences(draw: st.DrawFn, stages: tuple[Stage, ...] | None = None) -> Evidence:
    found = tuple(
        StageEvidence(
            stage=stage.number,
            champion=draw(tallies),
            challengers={version: draw(tallies) for version in stage.challengers},
            odds=(stage.probability.numerator, stage.probability.denominator),
            veterans=draw(tallies),
        )
        for stage in (draw(stage_lists()) if stages is None else stages)
    )
    return Evidence(
        stages=found,
        segments={"de": found[:1]} if draw(st.booleans()) else {},
        matured={"correct": Matured(1, 17)} if draw(st.booleans()) else {},
        rollback_target_hot=draw(st.booleans()),
        lost_bytes=draw(counts),
        late=draw(counts),
        shadow={Version(2): draw(pairs_seen)} if draw(st.booleans()) else {},
    )


looks = st.lists(
    st.builds(Look, versions, st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([0.0, 17.5, 1e9])),
    max_size=2,
).map(tuple)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    declaration = draw(declarations())
    return Plan(
        declaration,
        draw(st.sampled_from(State)),
        draw(stage_lists(declaration)),
        draw(moments),
        dropped=declaration.challengers[1:] if draw(st.booleans()) else (),
        winner=draw(st.none() | st.just(declaration.challengers[0])),
        looks=draw(looks),
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
        dropped=plan.dropped,
        winner=plan.winner,
        looks=plan.looks,
    )


acts = (
    st.builds(Continue, reasons, st.none() | st.integers(0, 19), looks)
    | st.builds(Drop, reasons, st.lists(versions, max_size=2).map(tuple), reasons)
    | st.builds(Promote, reasons, versions)
    | st.builds(Pass, reasons, st.lists(versions, max_size=2).map(tuple))
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
