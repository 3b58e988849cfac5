"""What a model is asked, and whether two answers are the same.

Questions are made from the input example that the model was saved with: its rows, and rows like
them. Only what the champion answers is asked, and what it answers is what is right.
"""

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

QUESTIONS: Final = 48
"""How many different ones are made. The champion's answer to each is asked for beforehand."""

STIR: Final = 0.1
"""How far numbers of a question are from those of the example, relatively."""

CLOSE: Final = 1e-3
"""Numbers within this, relatively, are the same: a model that answers several requests at once may
round otherwise than for one."""

Tensors = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Question:
    """A request, and the outputs of the right answer."""

    body: bytes
    answer: Tensors


def bodies(example: Mapping[str, Any], signature: list[dict[str, Any]], seed: int) -> list[bytes]:
    """Return requests like `example`, in an order that `seed` decides; the first are its own rows.

    Args:
        example: A request of the Open Inference Protocol.
        signature: The inputs as the model's metadata describe them: -1 where an extent varies.
    """
    chance = random.Random(seed)
    declared = {tensor["name"]: tensor["shape"] for tensor in signature}
    tensors: Tensors = example["inputs"]
    in_rows = bool(declared) and all(declared.get(t["name"], [0])[:1] == [-1] for t in tensors)
    rows = (
        [[_row(t, at) for t in tensors] for at in range(_rows(tensors))] if in_rows else [tensors]
    )
    asked = rows[:QUESTIONS]
    stirred = [
        [_stirred(tensor, chance) for tensor in chance.choice(rows)]
        for _ in range(QUESTIONS - len(asked))
    ]
    return [json.dumps({"inputs": each}).encode() for each in (*asked, *stirred)]


def outputs(body: bytes) -> Tensors:
    """Return the outputs of an answer; none if it is no answer of the protocol."""
    try:
        found = json.loads(body)["outputs"]
    except (ValueError, KeyError, TypeError):
        return []
    return found if isinstance(found, list) else []


def same(one: Tensors, other: Tensors) -> bool:
    """Tell whether two answers say the same, up to how numbers are rounded.

    Examples:
        >>> one = [{"name": "y", "datatype": "FP64", "shape": [1], "data": [0.5]}]
        >>> same(one, [one[0] | {"data": [0.5000001]}]), same(one, [one[0] | {"data": [0.6]}])
        (True, False)
    """
    if len(one) != len(other) or not one:
        return False
    return all(
        a["name"] == b["name"]
        and a["shape"] == b["shape"]
        and len(a["data"]) == len(b["data"]) > 0
        and all(map(_close, a["data"], b["data"]))
        for a, b in zip(one, other, strict=True)
    )


def _close(one: object, other: object) -> bool:
    if isinstance(one, float) or isinstance(other, float):
        return math.isclose(float(one), float(other), rel_tol=CLOSE, abs_tol=1e-9)  # type: ignore[arg-type]
    return one == other


def _rows(tensors: Tensors) -> int:
    return min(int(tensor["shape"][0]) for tensor in tensors)


def _row(tensor: dict[str, Any], at: int) -> dict[str, Any]:
    size = math.prod(tensor["shape"][1:])
    data = tensor["data"][at * size : (at + 1) * size]
    return tensor | {"shape": [1, *tensor["shape"][1:]], "data": data}


def _stirred(tensor: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """Return numbers with a fraction, each a little beside its own; all else as it is."""
    if not tensor["datatype"].startswith("FP"):
        return tensor
    return tensor | {"data": [x * chance.uniform(1 - STIR, 1 + STIR) for x in tensor["data"]]}
