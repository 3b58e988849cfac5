"""A simulated experiment moves as a real one does, and always ends."""

from collections import Counter
from datetime import timedelta

import numpy as np
import pytest
from scipy.stats import binomtest

from experiments.assignment import assign
from experiments.decision import decide
from experiments.lifecycle import is_final
from experiments.model import BasisPoints, Stage, Variant
from experiments.simulation import End, Truth, extent_of, simulate
from experiments.simulation import run as run_module
from experiments.simulation.division import CHAMPION, CONTROL, parts_of
from experiments.simulation.extent import MOST
from experiments.simulation.run import START
from registry.refs import Version
from tests.unit.simulated import BINARY, declared, ran

GOALS = {
    "binary": BINARY,
    "binary of every request": BINARY.replace("kind: binary", "kind: binary, per: request"),
    "mean": "{metric: spend, kind: mean, cap: [0, 90], direction: increase, min_effect: 20%, "
    "baseline: 20, spread: 15}",
    "mean with covariate": "{metric: spend, kind: mean, cap: 90, covariate: true, "
    "direction: increase, min_effect: 20%, baseline: 20}",
    "mean of every request": "{metric: spend, kind: mean, cap: 90, per: request, "
    "direction: increase, min_effect: 20%, baseline: 20}",
    "score": "{metric: stars, kind: score, range: [1, 5], step: 1, direction: increase, "
    "min_effect: 10%, baseline: 3}",
    "score of every request": "{metric: stars, kind: score, range: [1, 5], per: request, "
    "direction: increase, min_effect: 10%, baseline: 3}",
    "ratio": "{metric: words, kind: ratio, direction: increase, min_effect: 20%, baseline: 10}",
    "slow": "{metric: latency_ms, above: 250, direction: decrease, min_effect: 20%, baseline: 40%}",
    "quantile": "{metric: latency_ms, quantile: 50%, direction: decrease, min_effect: 20%, "
    "baseline: 80}",
    "count": "{metric: complaints, kind: count, direction: decrease, min_effect: 20%, "
    "baseline: 30%}",
}
MODES = {
    "plain": "",
    "horizon": "horizon: {units: 1500}",
    "holdback": "holdback: {share: 20%, for: 2h}",
    "segments": "segments: {header: x-tier, values: [free, pro]}",
}


@pytest.mark.parametrize("goal", GOALS.values(), ids=GOALS)
@pytest.mark.parametrize("unit", ["request", "header:x-unit-id"])
def test_a_run_with_any_kind_of_goal_ends_in_a_final_state(goal, unit):
    run = ran(declared(goal=goal, unit=unit), units=1_000, batch=250)
    assert is_final(run.state)
    assert 0 < run.units <= 1_000
    assert run.stages[0].units == 0


@pytest.mark.parametrize("goal", GOALS.values(), ids=GOALS)
def test_a_challenger_that_halves_or_doubles_any_goal_for_the_worse_is_rolled_back(goal):
    effect = -0.6 if "increase" in goal else 1.2
    for seed in range(2):
        run = ran(declared(goal=goal), Truth(effect=effect), seed=seed)
        assert (run.end, run.blamed) == (End.ROLLED_BACK, (Version(2),))
        assert run.winner is None


@pytest.mark.parametrize("goal", GOALS.values(), ids=GOALS)
def test_a_challenger_that_improves_any_goal_by_half_is_promoted(goal):
    effect = 0.5 if "increase" in goal else -0.5
    run = ran(declared(goal=goal), Truth(effect=effect), units=10_000, batch=500)
    assert (run.end, run.winner) == (End.PROMOTED, Version(2))
    assert len(run.stages) == 2


@pytest.mark.parametrize("more", MODES.values(), ids=MODES)
@pytest.mark.parametrize("challengers", ["[2]", "[2, 3]"])
def test_every_mode_runs_through_to_a_final_state(more, challengers):
    for effect in (0.0, 0.5):
        run = ran(declared(more=more, challengers=challengers), Truth(effect=effect))
        assert is_final(run.state)


def test_a_promotion_with_a_holdback_is_timed_at_its_verdict_and_ends_after_the_holdback():
    declaration = declared(more=MODES["holdback"])
    run = ran(declaration, Truth(effect=0.5), watch=True)
    assert (run.end, run.winner) == (End.PROMOTED, Version(2))
    assert run.stages[-1].rung == len(declaration.ramp)
    assert run.units == run.stages[-1].units < run.path[-1].units


def test_harm_to_a_guardrail_is_rolled_back_and_blamed_on_it():
    declaration = declared(more="guardrails: [{metric: latency_ms, above: 250, max_ratio: 1.5}]")
    truth = Truth(harm={"latency_ms>250": 20.0}, baselines={"latency_ms>250": 0.02})
    run = ran(declaration, truth)
    assert (run.end, run.culprits) == (End.ROLLED_BACK, ("latency_ms>250",))


def test_one_harmful_challenger_of_two_is_found_and_never_the_other():
    for seed in range(3):
        run = ran(declared(challengers="[2, 3]"), Truth(effect=-0.7), seed=seed)
        assert run.blamed == run.dropped == (Version(2),)


def test_outcomes_with_a_window_are_not_looked_at_before_it_has_closed(monkeypatch):
    seen = []

    def watched(plan, evidence, now):
        seen.append((now, evidence))
        return decide(plan, evidence, now)

    monkeypatch.setattr(run_module, "decide", watched)
    goal = BINARY.replace("kind: binary", "kind: binary, window: 6h")
    ran(declared(goal=goal))
    for now, evidence in seen:
        matured, stage = evidence.matured["ok"], evidence.stages[0]
        if now <= START + timedelta(hours=6):
            assert matured.units == 0
            assert stage.champion.sample("ok").counts == {}
        looked_at = sum(
            sum(tally.sample("ok").counts.values())
            for each in evidence.stages
            for tally in (each.champion, *each.challengers.values())
        )
        assert looked_at == matured.units <= matured.of
    assert seen[-1][1].matured["ok"].units > 1_000


def test_the_real_decide_is_asked_at_every_look(monkeypatch):
    asked = []

    def counted(plan, evidence, now):
        asked.append(plan.state)
        return decide(plan, evidence, now)

    monkeypatch.setattr(run_module, "decide", counted)
    run = ran(declared())
    assert len(asked) == run.looks > 10


def test_segments_together_are_everybody_who_is_in_one(monkeypatch):
    seen = []

    def watched(plan, evidence, now):
        seen.append(evidence)
        return decide(plan, evidence, now)

    monkeypatch.setattr(run_module, "decide", watched)
    ran(declared(more=MODES["segments"]))
    last = seen[-1]
    for place, stage in enumerate(last.stages):
        parts = [last.segments[value][place].champion.units for value in ("free", "pro")]
        assert binomtest(sum(parts), stage.champion.units, 2 / 3).pvalue > 1e-6


def test_when_traffic_ends_early_only_the_clock_goes_on_until_the_longest_runtime():
    declaration = declared()
    rng = np.random.default_rng(0)
    run = simulate(declaration, Truth(), rng=rng, batch=50, most_units=200, rate=100.0)
    assert (run.end, run.units) == (End.INCONCLUSIVE, 200)
    assert run.took == declaration.limits.max_runtime


def test_a_watched_run_is_the_same_run():
    declaration = declared(more=MODES["horizon"])
    plain, watched = ran(declaration), ran(declaration, watch=True)
    assert plain.path == ()
    assert len(watched.path) == watched.looks
    assert (plain.end, plain.units, plain.stages) == (watched.end, watched.units, watched.stages)


def test_the_same_generator_gives_the_same_run_and_another_one_another():
    runs = [ran(declared(), Truth(effect=0.3), seed=seed, watch=True) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0].path != runs[2].path


@pytest.mark.parametrize("dropped", [(), (Version(2),)])
@pytest.mark.parametrize("floor", [0, 1000])
def test_units_are_divided_as_the_edge_divides_them(dropped, floor):
    stage = Stage(
        0, 0, BasisPoints(4000), START, (Version(2), Version(3)), floor=BasisPoints(floor)
    )
    parts = parts_of(stage, dropped)
    met: Counter[object] = Counter()
    for number in range(4_000):
        found = assign(
            b"user-%d" % number,
            salt="colour",
            challengers=stage.challengers,
            control=CONTROL,
            cut=stage.share,
            floor=stage.floor,
            dropped=dropped,
        )
        veteran = found.variant is Variant.VETERAN
        arm = CHAMPION if found.variant is Variant.CHAMPION else found.version
        met["veteran" if veteran else arm] += 1
    for arm, part in parts.items():
        assert binomtest(met[arm], 4_000, part).pvalue > 1e-6
    assert met["veteran"] == 0 or sum(parts.values()) < 1


def test_where_nobody_says_the_horizon_is_reached_with_some_traffic_to_spare():
    declaration = declared(more=MODES["horizon"])
    extent = extent_of(declaration, Truth())
    assert extent.units > 1_500 / 0.8
    assert extent.units / extent.rate == pytest.approx(86_400)
    assert extent_of(declaration, Truth(), rate=0.01).units == 864
    assert extent_of(declaration, Truth(), units=500).batch == 3


def test_traffic_that_is_known_goes_on_while_the_minimum_runtime_holds_the_ramp():
    declaration = declared(more=MODES["horizon"])
    least = declaration.limits.min_runtime.total_seconds()
    rate = 10 * extent_of(declaration, Truth()).units / least
    assert extent_of(declaration, Truth(), rate=rate).units > rate * least
    assert extent_of(declaration, Truth(), units=500, rate=rate).units == 500
    assert extent_of(declaration, Truth(), rate=1e9).units == MOST


def test_a_simulation_without_traffic_is_refused():
    rng = np.random.default_rng(0)
    for wrong in ({"batch": 0, "most_units": 10}, {"batch": 1, "most_units": 0}):
        with pytest.raises(ValueError, match="needs a unit"):
            simulate(declared(), Truth(), rng=rng, **wrong)
