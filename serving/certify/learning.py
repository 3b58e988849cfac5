"""What is known of a model before its trials: what to ask it, what is right, and its pace."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from statistics import median, quantiles
from time import monotonic
from typing import Any, Final

import httpx2

from registry.refs import ModelName
from serving.certify.questions import Question, bodies, outputs, same
from serving.certify.trials import Pace
from serving.errors import Uncertifiable

ROWS: Final = 16
"""Rows that are made up for a model that was saved without an example."""

_SLOW_TIMES, _SLOW_MS = 2.0, 200
_DEADLINE_TIMES, _DEADLINE_MS = 10.0, 2_000


@dataclass(frozen=True, slots=True)
class Learnt:
    """What the champion has shown.

    Args:
        agreement: Share of questions that were answered the same way twice.
        failures: What was answered, in the place of a 200, to what had been answered before.
    """

    questions: tuple[Question, ...]
    pace: Pace
    agreement: float
    failures: tuple[str, ...]


async def learn(
    edge: httpx2.AsyncClient, lane: ModelName, example: dict[str, Any] | None, seed: int
) -> Learnt:
    """Ask the lane's champion everything twice: what it answers is right, and how fast normal.

    Raises:
        Uncertifiable: it answers nothing that it is asked.
    """
    described = (await edge.get(f"/v2/models/{lane}")).json()
    signature = described.get("inputs", [])
    path = f"/v2/models/{lane}/infer"
    questions: list[Question] = []
    said = "it was saved without an input example or signature"
    for body in (
        bodies(example or made_up(signature, seed), signature, seed)
        if (example or signature)
        else ()
    ):
        answer = await _asked(edge, path, body)
        if answer.status_code == 200 and (found := outputs(answer.content)):
            questions.append(Question(body, found))
        else:
            said = f"it answers {answer.status_code}: {answer.text[:200]}"
    if not questions:
        raise Uncertifiable(f"{lane} answers nothing that is known to ask: {said}")
    return await _again(edge, path, questions)


def made_up(signature: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Return a request of the right form, for a model that tells nothing but its signature."""
    chance = random.Random(seed)
    tensors = []
    for tensor in signature:
        first, *others = tensor["shape"] or [1]
        rest = [1 if extent == -1 else extent for extent in others]
        shape = [ROWS if first == -1 else first, *rest]
        data = [_value(tensor["datatype"], chance) for _ in range(prod(shape))]
        tensors.append(
            {"name": tensor["name"], "datatype": tensor["datatype"], "shape": shape, "data": data}
        )
    return {"inputs": tensors}


def _value(datatype: str, chance: random.Random) -> Any:  # noqa: ANN401  any JSON value
    if datatype.startswith("FP"):
        return chance.gauss(0, 1)
    if datatype == "BOOL":
        return chance.random() < 0.5
    if datatype == "BYTES":
        return chance.choice(["one", "two", "three"])
    return chance.randrange(10)


async def _again(edge: httpx2.AsyncClient, path: str, questions: Sequence[Question]) -> Learnt:
    milliseconds: list[float] = []
    agreed = 0
    failures: list[str] = []
    for question in questions:
        began = monotonic()
        answer = await _asked(edge, path, question.body)
        milliseconds.append((monotonic() - began) * 1000)
        if answer.status_code != 200:
            failures.append(f"answered {answer.status_code}: {answer.text[:120]}")
        agreed += same(outputs(answer.content), question.answer)
    longest = quantiles([*milliseconds, *milliseconds], n=10)[-1]
    pace = Pace(
        slow_ms=round(_SLOW_TIMES * median(milliseconds) + _SLOW_MS),
        deadline_ms=round(max(_DEADLINE_TIMES * longest, _DEADLINE_MS)),
    )
    return Learnt(tuple(questions), pace, agreed / len(questions), tuple(failures))


async def _asked(edge: httpx2.AsyncClient, path: str, body: bytes) -> httpx2.Response:
    return await edge.post(path, content=body, headers={"content-type": "application/json"})


def read_example(content: bytes | None) -> dict[str, Any] | None:
    """Return a model's example as control has passed it on; None if it has none."""
    return json.loads(content) if content else None
