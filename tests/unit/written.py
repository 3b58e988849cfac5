"""Declarations as files, and files with something wrong."""

import pytest
import yaml

from experiments.errors import InvalidFile, Problem
from experiments.model import Declaration
from experiments.source import scalar
from experiments.spec import as_dict, read_declaration

FILE = """\
name: digits-v2
model: digits
challenger: 2
unit: header:x-unit-id        # or: request
share: [5%, 25%, 50%]         # ramp; each stage has its gate
goal: {metric: correct, kind: binary, direction: increase, min_effect: 1%}
guardrails:
  - {metric: error_rate, max_ratio: 2.0}              # measured at the edge
  - {metric: latency_ms, above: 250, max_ratio: 1.5}  # share of requests slower than 250 ms
limits: {min_units: 200, min_runtime: 10s, max_runtime: 7d}
alpha: {harm: 0.05, promote: 0.025}
"""

MINIMAL = """\
name: digits-v2
model: digits
challenger: 2
unit: request
share: [10%]
goal: {metric: correct, direction: decrease, min_effect: 0.5%}
"""


def problems(text: str | bytes) -> tuple[Problem, ...]:
    with pytest.raises(InvalidFile) as refused:
        read_declaration(text)
    return refused.value.problems


def only_problem(text: str | bytes) -> Problem:
    (problem,) = problems(text)
    return problem


def changed(old: str, new: str) -> str:
    """The example with one thing written differently."""
    assert old in FILE
    return FILE.replace(old, new)


def to_yaml(declaration: Declaration) -> str:
    """Return a file that `read_declaration` reads as an equal declaration."""
    return yaml.dump(
        as_dict(declaration), Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=100
    )


class _Dumper(yaml.SafeDumper):
    """Quotes every text that the reader, or another of YAML 1.1, takes for something else."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if isinstance(scalar(text), str) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
