"""What must have been counted of an experiment, from what the clients saw; and what has been."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from experiments.assignment import bucket
from experiments.model import Variant
from tests.e2e.client import Answer

Cells = dict[tuple[int, str], dict[str, int]]
"""Counts by stage and variant; without zeros, so that two are equal if they say the same."""


def owed(answers: Iterable[Answer], experiment: str) -> Cells:
    """Return what the answers to the clients amount to.

    Args:
        answers: In the order in which their outcomes were reported.
    """
    cells: dict[tuple[int, str], Counter[str]] = defaultdict(Counter)
    met: set[tuple[str, int, int]] = set()
    observed: dict[int, int] = {}
    for answer in answers:
        found = answer.prediction
        if found is None or found.experiment != experiment:
            continue
        assert found.stage is not None
        assert found.variant is not None
        assert found.slot is not None
        cell = cells[found.stage, found.variant]
        cell["requests"] += 1
        cell["failovers"] += answer.failover
        for counter, counts in (("units", True), ("error_rate", answer.failover)):
            mark = (counter, found.stage, found.slot)
            if counts and mark not in met:
                met.add(mark)
                cell[counter] += 1
        if observed.get(found.slot, -1) < found.stage:
            observed[found.slot] = found.stage
            cell["successes" if answer.right else "failures"] += 1
    return _without_zeros(cells)


def counted(view: Mapping[str, Any]) -> Cells:
    """Return what control shows of an experiment."""
    cells: dict[tuple[int, str], Mapping[str, int]] = {}
    for stage in view["evidence"]["stages"]:
        (challenger,) = stage["challengers"].values()
        arms = {
            Variant.CHAMPION: stage["champion"],
            Variant.CHALLENGER: challenger,
            Variant.VETERAN: stage["veterans"],
        }
        for variant, tally in arms.items():
            cells[stage["stage"], variant] = _counters(tally)
    return _without_zeros(cells)


def _counters(tally: Mapping[str, Any]) -> dict[str, int]:
    def count(metric: str, index: str) -> int:
        found: int = tally["samples"].get(metric, {}).get("counts", {}).get(index, 0)
        return found

    return {
        **{name: tally[name] for name in ("requests", "failovers", "units")},
        "error_rate": count("error_rate", "1"),
        "successes": count("correct", "1"),
        "failures": count("correct", "0"),
    }


def misplaced(answers: Iterable[Answer], view: Mapping[str, Any]) -> list[Answer]:
    """Return the answers whose unit did not belong to the variant that they name."""
    name = view["name"]
    stages = {stage["number"]: stage for stage in view["stages"]}
    wrong = []
    for answer in answers:
        found = answer.prediction
        if found is None or found.experiment != name:
            continue
        place = bucket(answer.row.unit.encode(), salt=name)
        stage = stages[found.stage]
        belongs = Variant.CHALLENGER if place < stage["share"] else Variant.CHAMPION
        if place < stage["floor"]:
            belongs = Variant.VETERAN
        if found.variant is not belongs:
            wrong.append(answer)
    return wrong


def _without_zeros(cells: Mapping[tuple[int, str], Mapping[str, int]]) -> Cells:
    return {
        (stage, str(variant)): {counter: count for counter, count in tally.items() if count}
        for (stage, variant), tally in cells.items()
        if any(tally.values())
    }
