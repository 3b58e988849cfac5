"""What the control API shows: the system, a model, an experiment, as plain values."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from experiments.assessment import Assessment, assess
from experiments.decision import Decision, conclude
from experiments.evidence import Evidence
from experiments.experiment import Experiment
from experiments.lifecycle import State
from experiments.model import ExperimentName
from experiments.receipts import Receipt
from experiments.spec import as_dict
from registry.refs import ModelName, Version
from serving.edge.report import EdgeReport
from serving.effects import Effect, view_effects
from serving.hosts import HostState, HostStatus
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
    """A model: what it stands for now, and every version that is deployed."""

    model: ModelName
    champion: Version | None
    previous: Version | None
    epoch: int | None
    experiment: ExperimentName | None
    hosts: tuple[HostView, ...]


@dataclass(frozen=True, slots=True)
class EdgeView:
    """An edge that was heard of within its lease."""

    edge: str
    heard_at: datetime
    haproxy_up: bool
    epochs: dict[ModelName, int]
    requests_seen: int
    backlog_bytes: int
    lost_bytes: int
    break_glass: tuple[ModelName, ...]


@dataclass(frozen=True, slots=True)
class SystemView:
    """Everything at a glance. `troubles` says in words what could not be done lately, by part."""

    leads: bool
    edges: tuple[EdgeView, ...]
    models: tuple[ModelView, ...]
    troubles: dict[str, str]


@dataclass(frozen=True, slots=True)
class TestView:
    """A test of an experiment: always-valid p-value, e-value in words, and whether it spoke."""

    question: str
    metric: str
    log_e: float
    needed: float
    e: str
    p_value: float
    reached: bool


@dataclass(frozen=True, slots=True)
class ExperimentView:
    """An experiment: what was agreed, what was seen, and what follows from it right now.

    Args:
        stage: Number of the present stage; `rung` is its place in the ramp. Both from 0.
        share: The challenger's, from 0 to 1.
        decision: What the controller would decide now; None where it decides nothing.
        intervals: Sizes of the differences, always valid; without a number where there is none.
    """

    name: ExperimentName
    model: ModelName
    champion: Version
    challenger: Version
    state: State
    started_at: datetime
    ended_at: datetime | None
    stage: int
    rung: int
    share: float
    reasons: tuple[str, ...]
    receipt: str | None
    decision: Decision | None
    tests: tuple[TestView, ...]
    intervals: tuple[Effect, ...]
    evidence: Evidence
    declaration: dict[str, Any]


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
        experiment=route.trial.experiment if route and route.trial else None,
        hosts=tuple(view_host(status, route) for status in statuses),
    )


def view_host(status: HostStatus, route: Route | None) -> HostView:
    """Return a deployed version and the part that it plays."""
    version = status.spec.ref.version
    role = "spare"
    if route is not None:
        roles = {route.previous: "previous", route.champion: "champion"}
        if route.trial:
            roles[route.trial.challenger] = "challenger"
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


def view_edge(report: EdgeReport) -> EdgeView:
    """Return what an edge last said."""
    return EdgeView(
        edge=report.edge,
        heard_at=report.at,
        haproxy_up=report.haproxy_up,
        epochs=report.epochs,
        requests_seen=report.requests_seen,
        backlog_bytes=report.backlog_bytes,
        lost_bytes=report.lost_bytes,
        break_glass=report.break_glass,
    )


def view_experiment(experiment: Experiment, evidence: Evidence, now: datetime) -> ExperimentView:
    """Return an experiment with what its evidence shows now; over, nothing is decided any more."""
    found = assess(experiment.declaration, evidence)
    watched = experiment.state in (State.RAMPING, State.PAUSED)
    return ExperimentView(
        name=experiment.declaration.name,
        model=experiment.declaration.model,
        champion=experiment.champion,
        challenger=experiment.declaration.challenger,
        state=experiment.state,
        started_at=experiment.started_at,
        ended_at=experiment.ended_at,
        stage=experiment.stage.number,
        rung=experiment.stage.rung,
        share=experiment.stage.share / 10_000,
        reasons=experiment.reasons,
        receipt=experiment.receipt,
        decision=conclude(experiment.plan, evidence, found, now) if watched else None,
        tests=view_tests(found),
        intervals=view_effects(experiment.declaration, evidence),
        evidence=evidence,
        declaration=as_dict(experiment.declaration),
    )


def view_tests(found: Assessment) -> tuple[TestView, ...]:
    """Return every test with the question that it answers."""
    asked = [
        ("superior", found.superior),
        *(("not inferior", finding) for finding in found.not_inferior),
        ("any harm", found.any_harm),
        *(("harm", finding) for finding in found.harm),
        ("sample ratio mismatch", found.sample_ratio),
    ]
    return tuple(
        TestView(
            question=question,
            metric=finding.metric,
            log_e=finding.log_e,
            needed=finding.needed,
            e=finding.e_text,
            p_value=finding.p_value,
            reached=finding.reached,
        )
        for question, finding in asked
    )


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
