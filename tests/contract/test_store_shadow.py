"""From the pairs' log to a decision: through a store in memory, and through a real Redis."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from experiments.decision import Continue, RollBack, decide
from experiments.evidence import Evidence, gather
from experiments.experiment import Experiment
from experiments.spec import read_declaration
from experiments.stats.moments import Moments
from experiments.stats.paired import Pairs
from experiments.store import Store
from registry.refs import Version
from serving.edge.pairline import About, Drops, Pair, Reason
from serving.edge.pairs import PairsCollector
from serving.edge.routebook import Known
from serving.intent import trial_of
from serving.routes import Route

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW = START + timedelta(minutes=1)
DECLARED = read_declaration(
    "name: digits-v2\nmodel: digits\nchallenger: 2\nunit: header:x-unit-id\nshare: [5%]\n"
    "goal: {metric: correct, direction: increase, min_effect: 1%}\n"
    "guardrails: [{metric: latency_ms, above: 250, max_ratio: 1.5}]\n"
    "limits: {min_runtime: 1s, max_runtime: 1d}\n"
    "shadow: {share: 20%, pairs: 100, agreement: 95%}\n"
)
BEGUN = Experiment.begin(DECLARED, Version(1), START)
ABOUT = About("", 0, DECLARED.model, DECLARED.name, 0, Version(2))
LIKE = Pair(ABOUT, 0, 200, 200, 10.0, 12.0, agreed=True, difference=0.0)
FAILED = replace(LIKE, challenger=500, challenger_ms=300.0, agreed=False, difference=None)


async def seen(store: Store, folder: Path, *lines: Pair | Drops) -> Evidence:
    """Have an edge's agent follow a log of these lines, and return what a decision looks at."""
    trial = trial_of(BEGUN)
    assert trial is not None
    model, champion = DECLARED.model, Version(1)
    route = Route(model, 1, champion, None, (trial,), by="test", why="test", at=START)
    log = folder / "pairs.log"
    named = (replace(e, about=replace(e.about, name=f"a-{n}")) for n, e in enumerate(lines))
    log.write_bytes(b"".join(each.line() for each in named))
    known = Known().with_route(route)
    collector = PairsCollector(log, edge="edge-0", store=store, known=lambda: known)
    while await collector.step():
        pass
    readings = await store.readings(DECLARED.name)
    return gather(DECLARED, BEGUN.stages, readings, NOW, rollback_target_hot=True)


async def test_pairs_arrive_each_unit_once_and_let_the_first_users_in(
    store: Store, tmp_path: Path
) -> None:
    again = [replace(LIKE, slot=slot % 200) for slot in range(300)]
    dropped = Drops(ABOUT, 7, Reason.QUEUE_FULL)
    evidence = await seen(store, tmp_path, *again, dropped)
    found = evidence.paired(Version(2))
    assert (found.units, found.pairs, found.dropped) == (200, 300, 7)
    assert found.bad == {"error_rate": Pairs(200, 0, 0, 0), "latency_ms>250": Pairs(200, 0, 0, 0)}
    assert (found.agreed.yes, found.agreed.no) == (200, 0)
    assert (found.slower, found.faster) == (200, 0)
    assert found.latency == Moments(200, 2.0)
    assert found.difference == Moments(200, 0.0)
    decision = decide(BEGUN.plan, evidence, NOW)
    assert isinstance(decision, Continue)
    assert decision.to_rung == 0


async def test_failures_of_the_challenger_alone_arrive_and_roll_it_back(
    store: Store, tmp_path: Path
) -> None:
    pairs = [replace(FAILED if slot % 5 == 0 else LIKE, slot=slot) for slot in range(200)]
    evidence = await seen(store, tmp_path, *pairs)
    found = evidence.paired(Version(2))
    assert found.bad == {
        "error_rate": Pairs(160, 40, 0, 0),
        "latency_ms>250": Pairs(160, 40, 0, 0),
    }
    assert (found.agreed.yes, found.agreed.no) == (160, 40)
    assert (found.latency.n, found.slower) == (160, 160), "one that fails is neither fast nor slow"
    decision = decide(BEGUN.plan, evidence, NOW)
    assert isinstance(decision, RollBack)
    assert set(decision.culprits) <= {"error_rate", "latency_ms>250", "agreement"}
