"""What the control API shows: the system, a model, an experiment, as plain values."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from experiments.assessment import assess
from experiments.completeness import incompleteness
from experiments.decision import Decision, Plan, assess_plan, conclude
from experiments.evidence import Evidence
from experiments.experiment import Experiment
from experiments.headline import by_importance
from experiments.lifecycle import State, serves_challenger
from experiments.model import ExperimentName, Stage
from experiments.receipts import Receipt
from experiments.report import report
from experiments.reported import Report
from experiments.spec import as_dict
from registry.refs import ModelName, Version
from serving.edge.partition import CutOff, PartitionPolicy
from serving.edge.report import EdgeReport
from serving.hosts import HostState, HostStatus
from serving.lanes import is_lane
from serving.routes import Route


@dataclass(frozen=True, slots=True)
class HostView:
    """A deployed version. `role` is champion, challenger, previous or spare."""

    version: Version
    role: str
    state: HostState
    replicas: int
    ready_replicas: int
    cpus: float
    gpus: float
    reason: str


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model: what it stands for now, and every version that is deployed.

    Args:
        holdout: Share of the units that never meet a challenger, from 0 to 1.
    """

    model: ModelName
    champion: Version | None
    previous: Version | None
    epoch: int | None
    experiments: tuple[ExperimentName, ...]
    holdout: float
    hosts: tuple[HostView, ...]


@dataclass(frozen=True, slots=True)
class EdgeView:
    """An edge that was heard of within its lease.

    Args:
        lost_bytes, lost_requests: What it could not count since its agent started, and so no
            experiment knows of.
        policy: What it serves while Redis has not heard of it for longer than its lease.
        cut_off: When that was last so, since its agent started.
    """

    edge: str
    heard_at: datetime
    haproxy_up: bool
    epochs: dict[ModelName, int]
    requests_seen: int
    backlog_bytes: int
    lost_bytes: int
    lost_requests: int
    break_glass: tuple[ModelName, ...]
    policy: PartitionPolicy
    cut_off: CutOff | None


@dataclass(frozen=True, slots=True)
class SystemView:
    """Everything at a glance.

    Args:
        troubles: What could not be done lately, in words, by part.
        waiting_outcome_bytes: Outcomes that this control keeps for Redis.
        lost_edges: Those that have vanished without having ended in order, and when, to the minute,
            they were last heard of.
    """

    leads: bool
    edges: tuple[EdgeView, ...]
    models: tuple[ModelView, ...]
    troubles: dict[str, str]
    waiting_outcome_bytes: int
    lost_edges: dict[str, datetime]


@dataclass(frozen=True, slots=True)
class ExperimentView:
    """An experiment: what was agreed, what was seen, and what follows from it right now.

    Args:
        stage: Number of the present stage; `rung` is its place in the ramp. Both from 0.
        share: The challengers' together, from 0 to 1.
        dropped: Challengers that were found harmful while others went on.
        winner: The challenger that was promoted; None before that.
        stages: Every stage so far, and when it began.
        decision: What the controller would decide now; None where it decides nothing.
        reason: Why it stands as it does, in one sentence: what matters most of the present decision
            or, where nothing is decided any more, of the act that ended it. `also` has the rest.
        incomplete: What is missing from the evidence, and what that means; empty if nothing is.
        report: Every number there is, per challenger and metric, and why there is none; left out
            of a list of experiments.
        traffic: When it was started: what is known of the model's traffic, in words.
        warnings: When it was started: why it will probably reach no verdict.
    """

    name: ExperimentName
    model: ModelName
    champion: Version
    challengers: tuple[Version, ...]
    dropped: tuple[Version, ...]
    winner: Version | None
    state: State
    started_at: datetime
    ended_at: datetime | None
    stage: int
    rung: int
    share: float
    stages: tuple[Stage, ...]
    reasons: tuple[str, ...]
    receipt: str | None
    decision: Decision | None
    reason: str
    also: tuple[str, ...]
    incomplete: tuple[str, ...]
    report: Report | None
    evidence: Evidence
    declaration: dict[str, Any]
    traffic: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiptView:
    """A line of a model's history."""

    id: str
    at: datetime
    by: str
    act: str
    experiment: ExperimentName | None
    reasons: tuple[str, ...]


def view_model(model: ModelName, route: Route | None, statuses: list[HostStatus]) -> ModelView:
    """Return a model with its hosts."""
    return ModelView(
        model=model,
        champion=route.champion if route else None,
        previous=route.previous if route else None,
        epoch=route.epoch if route else None,
        experiments=tuple(trial.experiment for trial in route.trials) if route else (),
        holdout=route.holdout / 10_000 if route else 0.0,
        hosts=tuple(view_host(status, route) for status in statuses),
    )


def view_host(status: HostStatus, route: Route | None) -> HostView:
    """Return a deployed version and the part that it plays."""
    version = status.spec.ref.version
    role = "spare"
    if route is not None:
        roles: dict[Version | None, str] = {route.previous: "previous"}
        roles |= dict.fromkeys(route.active, "challenger")
        # In a holdback the champion is on trial too; what it is for users comes first.
        roles[route.champion] = "champion"
        role = roles.get(version, "spare")
    return HostView(
        version=version,
        role=role,
        state=status.state,
        replicas=status.spec.replicas,
        ready_replicas=status.ready_replicas,
        cpus=status.spec.cpus,
        gpus=status.spec.gpus,
        reason=status.reason,
    )


def view_edge(said: EdgeReport) -> EdgeView:
    """Return what an edge last said."""
    return EdgeView(
        edge=said.edge,
        heard_at=said.at,
        haproxy_up=said.haproxy_up,
        epochs={model: epoch for model, epoch in said.epochs.items() if not is_lane(model)},
        requests_seen=said.requests_seen,
        backlog_bytes=said.backlog_bytes,
        lost_bytes=said.lost_bytes,
        lost_requests=said.lost_requests,
        break_glass=said.break_glass,
        policy=said.policy,
        cut_off=said.cut_off,
    )


def view_experiment(
    experiment: Experiment, evidence: Evidence, now: datetime, *, brief: bool = False
) -> ExperimentView:
    """Return an experiment with what its evidence shows now; over, nothing is decided any more.

    Args:
        brief: Leave out the report, which takes long to make.
    """
    plan = experiment.plan
    decision, reasons = None, experiment.reasons
    if serves_challenger(experiment.state):
        found = assess_plan(plan, evidence)
        decision = conclude(plan, evidence, found, now)
        reasons = by_importance(decision, found)
    return ExperimentView(
        name=experiment.declaration.name,
        model=experiment.declaration.model,
        champion=experiment.champion,
        challengers=experiment.declaration.challengers,
        dropped=experiment.dropped,
        winner=experiment.winner,
        state=experiment.state,
        started_at=experiment.started_at,
        ended_at=experiment.ended_at,
        stage=experiment.stage.number,
        rung=experiment.stage.rung,
        share=experiment.stage.share / 10_000,
        stages=experiment.stages,
        reasons=experiment.reasons,
        receipt=experiment.receipt,
        decision=decision,
        reason=reasons[0] if reasons else "",
        also=reasons[1:],
        incomplete=incompleteness(evidence),
        report=None if brief else _report(plan, evidence),
        evidence=evidence,
        declaration=as_dict(experiment.declaration),
    )


def _report(plan: Plan, evidence: Evidence) -> Report:
    found = assess_plan(plan, evidence)
    decided = {verdicts.version: verdicts for verdicts in found.challengers}
    # Those that lost are still shown. Of one that was dropped the evidence is in the receipt of its
    # drop: since then its units went elsewhere, and the champion's counts went on.
    everybody = assess(
        plan.declaration, evidence, dropped=plan.dropped, looks=plan.looks
    ).challengers
    shown = tuple(decided.get(verdicts.version, verdicts) for verdicts in everybody)
    return report(plan.declaration, evidence, replace(found, challengers=shown), plan.looks)


def view_receipt(name: str, receipt: Receipt) -> ReceiptView:
    """Return a receipt as a line of history."""
    act = receipt.act.action if receipt.act.kind == "by_hand" else receipt.act.kind
    return ReceiptView(
        id=name,
        at=receipt.at,
        by=receipt.by,
        act=act,
        experiment=receipt.plan.declaration.name if receipt.plan else None,
        reasons=receipt.act.reasons,
    )
