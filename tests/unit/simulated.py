"""Experiment files that are quick to simulate, and runs of them."""

import numpy as np

from experiments.model import Declaration
from experiments.simulation import Run, Truth, simulate
from experiments.spec import read_declaration

BINARY = "{metric: ok, kind: binary, direction: increase, min_effect: 20%, baseline: 30%}"


def declared(
    *, goal: str = BINARY, unit: str = "header:x-unit-id", more: str = "", challengers: str = "[2]"
) -> Declaration:
    """Return a small experiment; `more` is whatever else its file says."""
    return read_declaration(
        f"name: small\nmodel: m\nchallengers: {challengers}\nunit: {unit}\nshare: [20%, 50%]\n"
        f"goal: {goal}\nlimits: {{min_units: 40, min_runtime: 10s, max_runtime: 1d}}\n{more}\n"
    )


def ran(
    declaration: Declaration,
    truth: Truth | None = None,
    *,
    seed: int = 0,
    units: int = 3_000,
    batch: int = 150,
    watch: bool = False,
) -> Run:
    """Return one run."""
    return simulate(
        declaration,
        truth or Truth(),
        rng=np.random.default_rng(seed),
        batch=batch,
        most_units=units,
        watch=watch,
    )
