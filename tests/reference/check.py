"""Feed reference cases to the engine and compare, within each case's own tolerance."""

import json
from collections import defaultdict
from dataclasses import dataclass
from math import isinf
from pathlib import Path
from typing import Any

from tests.reference.adapters import ADAPTERS


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One number that the engine gets wrong."""

    case: str
    key: str
    got: Any
    expected: Any


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one case."""

    case: str
    area: str
    applicable: bool
    mismatches: tuple[Mismatch, ...] = ()
    not_computed: tuple[str, ...] = ()
    """Expected numbers that the engine has no function for."""


def check_file(path: Path) -> list[Result]:
    """Check every case of a file.

    Raises:
        ValueError: the file is no JSON document with a list of cases.
    """
    match json.loads(path.read_text()):
        case {"cases": [*cases]}:
            return [check(case) for case in cases]
        case _:
            raise ValueError("it is no object with a list `cases`")


def check(case: dict[str, Any]) -> Result:
    """Check one case; without an adapter for its area it is not applicable."""
    adapter = ADAPTERS.get(case["area"])
    if adapter is None:
        return Result(case["id"], case["area"], applicable=False)
    expected = {key: value for key, value in case["expected"].items() if value is not None}
    try:
        # Which function of a package was called is, for some cases, said nowhere else.
        answer = adapter(case["inputs"] | {"call": case.get("source", {}).get("call", "")})
    except Exception as error:  # one case that the engine cannot take must not hide the others
        failure = f"{type(error).__name__}: {error}"
        return Result(
            case["id"],
            case["area"],
            applicable=True,
            mismatches=tuple(Mismatch(case["id"], key, failure, expected[key]) for key in expected),
        )
    tolerance = case["tolerance"]
    return Result(
        case["id"],
        case["area"],
        applicable=True,
        mismatches=tuple(
            Mismatch(case["id"], key, answer[key], expected[key])
            for key in expected.keys() & answer.keys()
            if not _agree(answer[key], expected[key], tolerance)
        ),
        not_computed=tuple(sorted(expected.keys() - answer.keys())),
    )


def report(results: list[Result]) -> str:
    """A line per area, and one per number that differs."""
    areas: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        areas[result.area].append(result)
    lines = [f"{'area':34} {'checked':>7} {'matched':>7} {'n/a':>5}"]
    for area, found in sorted(areas.items()):
        checked = [result for result in found if result.applicable]
        matched = [result for result in checked if not result.mismatches]
        lines.append(f"{area:34} {len(checked):7} {len(matched):7} {len(found) - len(checked):5}")
        for result in checked:
            if result.not_computed:
                lines.append(f"  {result.case}: not computed: {', '.join(result.not_computed)}")
            lines += [
                f"  {m.case}: {m.key}: got {m.got}, expected {m.expected}"
                for m in result.mismatches
            ]
    return "\n".join(lines)


def _agree(got: Any, expected: Any, tolerance: dict[str, float]) -> bool:
    if isinstance(expected, list):
        return (
            isinstance(got, list | tuple)
            and len(got) == len(expected)
            and all(_agree(one, other, tolerance) for one, other in zip(got, expected, strict=True))
        )
    if not isinstance(got, int | float):
        return False
    wanted = float(expected)
    if isinf(wanted):
        return float(got) == wanted
    return abs(got - wanted) <= tolerance["atol"] + tolerance["rtol"] * abs(wanted)
