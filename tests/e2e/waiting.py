"""Requests under way: a version holds them until the test lets it answer."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.e2e.edge_fixture import BODY, PATIENCE_SECONDS, Answer, Edge

MOST = 32


class Waiting:
    """Requests that wait for their answers."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._threads = ThreadPoolExecutor(MOST)
        self._answers: list[Future[Answer]] = []

    def fill(self, version: int, count: int, body: bytes = BODY) -> None:
        """Have `count` more requests wait at the version that all of them meet, or end up at."""
        self._edge.ingress.hold(version)
        arrived = self._calls_of(version) + count
        for _ in range(count):
            client = self._edge.client()
            self._answers.append(self._threads.submit(client.infer, body=body))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._calls_of(version) < arrived:
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def _calls_of(self, version: int) -> int:
        return sum(called == version for called, _, _ in self._edge.ingress.calls)

    def answers(self) -> list[Answer]:
        """Let all of them be answered."""
        self._edge.ingress.let_go()
        return [answer.result() for answer in self._answers]

    def answer(self) -> Answer:
        """Let the only one be answered."""
        [answer] = self.answers()
        return answer


@pytest.fixture
def waiting(edge: Edge) -> Iterator[Waiting]:
    waiting = Waiting(edge)
    yield waiting
    waiting.answers()
