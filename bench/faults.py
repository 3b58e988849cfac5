"""What users notice of a challenger that raises errors, ends its process, or does not come back."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bench import questions
from bench.load import Load, Target
from bench.questions import Dialect, Model, Question, Rows
from bench.rounds import Tell
from bench.servers import DoesNotServe, Field
from bench.tiltyard import MODEL, PATH, Tiltyard
from registry.mlflow import save_python_model
from serving.demo.fragile import Fragile

FRAGILE = "3"

INK: Mapping[str, float] = {"errors": 8.0, "crashes": 16.0, "hangs": 0.0}
"""What all pixels of the image are that breaks the challenger so; hangs last, for it stays hung."""

CONNECTIONS = 8

OVER_WITHIN = 60.0

CONTROL = "-m serving.api"

EXPERIMENT = """\
name: bench-{fault}
model: digits
challenger: 3
unit: header:x-unit-id
share: [50%]
deadline: 500ms
goal: {{metric: correct, kind: binary, direction: increase, min_effect: 1%}}
limits: {{min_units: 1000000, min_runtime: 7d, max_runtime: 30d}}
alpha: {{harm: 0.05, promote: 0.025}}
"""


def save_fragile(model: Model, images: Rows, folder: Path) -> Path:
    """Save a version that is the model itself for all but three images, which break it."""
    fragile = Fragile(model, raises_above=500, dies_above=1_000, hangs_below=1)
    ink = images.sum(axis=1)
    return save_python_model(fragile, folder, example=images[(ink > 200) & (ink < 400)][:4])


def ask(model: Model, folder: Path) -> dict[str, Question]:
    """Return what breaks the challenger, and what its champion answers."""
    return {
        fault: questions.write(folder, fault, model, np.full((1, 64), ink))[Dialect.OPEN_INFERENCE]
        for fault, ink in INK.items()
    }


def endured(
    field: Field, system: Tiltyard, asked: Mapping[str, Question], *, seconds: int, tell: Tell
) -> dict[str, dict[str, float]]:
    """Return what came of each fault.

    The system has the fragile version registered, and no experiment runs.
    """
    found: dict[str, dict[str, float]] = {}
    for fault, question in asked.items():
        # Again, because a version that was rolled back is taken away.
        system.do("deploy", MODEL, FRAGILE, "--replicas", "1")
        _await_challenger(field, system)
        load, over = _endured(field, system, fault, question, seconds)
        found[fault] = {
            "answers": load.answers,
            "rescued": load.rescued,
            "failures": load.failures,
            "p99_ms": load.p99_ms,
            "seconds_to_rollback": over,
        }
        tell(
            f"challenger {fault}: {load.answers:,} answers, {load.rescued:,} of them by the "
            f"champion in its place; users saw {load.failures} failures {load.stray}; "
            f"then rolled back within {over} s"
        )
    return found


def _endured(
    field: Field, system: Tiltyard, fault: str, question: Question, seconds: int
) -> tuple[Load, float]:
    """Return what users saw, and how long control took to go back once it was let."""
    name = f"bench-{fault}"
    system.begin(EXPERIMENT.format(fault=fault))
    # Else control would go back within a second, and hardly anybody would meet the challenger.
    system.group.freeze(CONTROL)
    try:
        load = field.load(Target("edge", system.edges[0], (PATH,)), question, CONNECTIONS, seconds)
    finally:
        system.group.thaw()
    began = time.monotonic()
    while (state := system.do("experiment", "show", name)["state"]) != "rolled_back":
        if time.monotonic() - began > OVER_WITHIN:
            raise DoesNotServe(f"{name} was not rolled back: it is {state}")
        time.sleep(0.2)
    return load, round(time.monotonic() - began, 1)


def _await_challenger(field: Field, system: Tiltyard) -> None:
    """Wait until the challenger answers what does not break it."""
    path = f"/v2/models/{MODEL}/versions/{FRAGILE}/infer"
    usual = field.questions["small"][Dialect.OPEN_INFERENCE]
    field.await_target(Target("challenger", system.edges[0], (path,)), usual, OVER_WITHIN)
