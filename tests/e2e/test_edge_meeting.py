"""The edge and the reference agree on what each request meets, whatever names its unit."""

from random import Random

import pytest
from hypothesis import given, settings

from experiments.errors import UnitEmpty, UnitTooLong
from experiments.prediction import verify
from experiments.unit import Unit
from serving.meeting import Met, meet
from serving.routes import Route
from tests.e2e.edge_checks import assert_problem
from tests.e2e.edge_fixture import KEY, Answer, Edge, running
from tests.e2e.meetings import UNITS, Request, a_request, a_route
from tests.unit.asking import chances

__all__ = ["running"]


def expected(edge: Edge, route: Route, request: Request, answer: Answer) -> Met | str:
    """Return what the reference says: what the request meets, or the code of its refusal."""
    stamp = answer.headers.get("x-prediction-id")
    # Where the request is refused, nothing has been minted, and nothing depends on a nonce.
    nonce = verify(stamp, KEY).nonce if stamp else ""
    try:
        longest = edge.settings.retry_body_bytes
        return meet(route, request.asked, nonce=nonce, longest_body=longest)
    except (UnitEmpty, UnitTooLong) as refused:
        return refused.code


def assert_met(answer: Answer, met: Met) -> None:
    assert (answer.status, answer.version) == (200, met.version)
    prediction = verify(answer.headers["x-prediction-id"], KEY)
    said = (prediction.version, prediction.experiment, prediction.variant)
    assert said == (met.version, met.experiment, met.variant)
    assert (prediction.slot, prediction.segment) == (met.slot, met.segment)
    assert answer.headers.get("x-experiment") == met.experiment


@pytest.mark.parametrize("unit", UNITS, ids=str)
@settings(max_examples=100, deadline=None)
@given(chance=chances)
def test_edge_and_reference_agree_on_every_request(
    running: Edge, unit: Unit, chance: Random
) -> None:
    route = running.obey(a_route(chance, unit))
    client = running.client()
    for _ in range(6):
        request = a_request(chance)
        answer = request.sent(client)
        met = expected(running, route, request, answer)
        if isinstance(met, Met):
            assert_met(answer, met)
        else:
            assert_problem(answer, 400, met)
    running.forget()
