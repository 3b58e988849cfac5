"""Simulated experiments with a shadow: through the real decisions, as with users."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest

from experiments.experiment import Experiment
from experiments.lifecycle import State
from experiments.model import BEFORE_RAMP, Declaration
from experiments.simulation import End, Truth, extent_of, summarise
from experiments.simulation.pairing import Pairing
from experiments.simulation.run import START
from experiments.spec import read_declaration
from registry.refs import Version
from tests.unit.simulated import declared, ran

BEFORE = "shadow: {share: 50%, pairs: 100, agreement: 90%}"
ALONE = read_declaration(
    "name: small\nmodel: m\nchallenger: 2\nunit: request\nmode: shadow\n"
    f"{BEFORE}\nlimits: {{min_runtime: 10s, max_runtime: 1d}}\n"
)
BEFORE_A_RAMP = declared(more=BEFORE)
SEVERAL = declared(more=BEFORE, challengers="[2, 3]")


def test_it_begins_in_the_shadow_and_goes_on_with_the_ramp():
    run = ran(BEFORE_A_RAMP, Truth(effect=1.0), units=8_000)
    assert run.end is End.PROMOTED
    assert [stage.rung for stage in run.stages] == [BEFORE_RAMP, 0, 1]
    assert run.stages[1].units >= 200, "half of the units give a pair, and 100 are asked for"


@pytest.mark.parametrize("declaration", [BEFORE_A_RAMP, ALONE])
@pytest.mark.parametrize(
    ("truth", "culprit"),
    [
        (Truth(agreement=0.6), "agreement"),
        (Truth(harm={"error_rate": 10.0}, baselines={"error_rate": 0.05}), "error_rate"),
    ],
)
def test_what_the_shadow_can_see_is_never_met_by_anybody(declaration, truth, culprit):
    run = ran(declaration, truth)
    assert (run.end, run.culprits) == (End.ROLLED_BACK, (culprit,))
    assert [stage.rung for stage in run.stages] == [BEFORE_RAMP]


def test_alone_it_passes_and_nobody_has_decided_by_a_goal():
    run = ran(ALONE, units=20_000, watch=True)
    assert (run.end, run.state, run.winner, run.culprits) == (End.PASSED, State.PASSED, None, ())
    assert run.path[-1].benefit >= run.path[-1].needed


def test_of_several_the_harmful_one_is_dropped_in_the_shadow():
    run = ran(SEVERAL, Truth(agreement=0.5, effect=1.0), units=6_000)
    assert run.dropped == (Version(2),)
    assert run.stages[1].rung == 0


def test_units_of_a_lane_that_was_dropped_give_no_pairs():
    stages = Experiment.begin(SEVERAL, Version(1), START).stages
    pairing = Pairing(SEVERAL, Truth(), np.random.default_rng(1))
    pairing.arrive(10_000, stages[0], (Version(2),), drift=1.0)
    seen = pairing.evidence(stages)
    assert seen[Version(2)].units == 0
    assert binomtest(seen[Version(3)].units, 10_000, 0.25).pvalue > 1e-6


def test_both_answers_to_a_request_are_bad_together_as_much_as_they_are_alike():
    truth = Truth(alike=0.5, baselines={"error_rate": 0.2}, harm={"error_rate": 2.0})
    stages = Experiment.begin(ALONE, Version(1), START).stages
    pairing = Pairing(ALONE, truth, np.random.default_rng(1))
    pairing.arrive(40_000, stages[0], (), drift=1.0)
    pairs = pairing.evidence(stages)[Version(2)].bad["error_rate"]
    for count, rate in ((pairs.treatment_bad, 0.4), (pairs.control_bad, 0.2), (pairs.both, 0.14)):
        assert binomtest(count, pairs.n, rate).pvalue > 1e-6


def test_a_summary_of_those_without_users_has_passes_in_the_place_of_promotions():
    truth = Truth(agreement=0.89)
    runs = [ran(ALONE, truth, seed=seed) for seed in range(4)]
    summary = summarise(runs, ALONE, truth)
    assert list(summary.ends) == [End.PASSED, End.ROLLED_BACK, End.INCONCLUSIVE]
    assert summary.false_promotions is None
    assert summary.false_passes is not None
    assert [gate.rung for gate in summary.gates] == [BEFORE_RAMP]
    good = summarise([ran(ALONE, units=20_000)], ALONE, Truth())
    assert (good.false_passes, good.missed_harm) == (None, None)


def test_a_summary_of_those_with_users_is_as_it_was_but_for_the_first_gate():
    summary = summarise([ran(BEFORE_A_RAMP, Truth(effect=1.0))], BEFORE_A_RAMP, Truth(effect=1.0))
    assert End.PASSED not in summary.ends
    assert [gate.rung for gate in summary.gates] == [BEFORE_RAMP, 0, 1]
    assert summary.false_passes is None


@pytest.mark.parametrize(
    ("declaration", "truth", "why"),
    [
        (ALONE, Truth(effect=0.1), "there is no goal"),
        (declared(), Truth(agreement=0.9), "has no shadow"),
    ],
)
def test_what_cannot_be_true_is_refused(declaration: Declaration, truth: Truth, why: str):
    with pytest.raises(ValueError, match=why):
        ran(declaration, truth)


def test_an_agreement_is_a_share():
    with pytest.raises(ValueError, match="from 0% to 100%"):
        Truth(agreement=1.2)


def test_the_traffic_is_enough_for_what_the_shadow_has_to_show():
    assert extent_of(ALONE, Truth()).units == 1_600
    plain = replace(BEFORE_A_RAMP, shadow=None)
    more = extent_of(BEFORE_A_RAMP, Truth()).units - extent_of(plain, Truth()).units
    assert more == 1_600
