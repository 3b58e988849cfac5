"""Three edges under load: once a rollback is acknowledged, the challenger begins no more answer."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from experiments.lifecycle import State
from experiments.model import ExperimentName, Variant
from serving.break_glass import Order
from serving.clock import utc_now
from serving.edge.config import EdgeFiles
from serving.edge.logline import parse
from tests.e2e.client import eventually
from tests.e2e.edge_fixture import CHALLENGER, CHAMPION, MODEL, Answer, Client, Mood
from tests.e2e.edges_fixture import FILE, LOOK_SECONDS, Machine, control_of, running_machine

CLIENTS = 3
"""At each edge."""


@dataclass
class Load:
    """What clients of one edge were answered, and what is in its log."""

    log: Path
    answers: list[Answer] = field(default_factory=list)

    def begun_by_the_challenger(self, experiment: ExperimentName) -> list[datetime]:
        """Return when each answer began that was the challenger's own."""
        lines = map(parse, self.log.read_text().splitlines())
        return [
            line.at + line.first
            for line in lines
            if line.experiment == experiment and line.variant is Variant.CHALLENGER
            if not line.failed_over and line.first is not None
        ]


@contextmanager
def load(machine: Machine) -> Iterator[dict[str, Load]]:
    """Have every edge asked without a pause."""
    loads = {edge.edge_name: Load(EdgeFiles(edge.edge_dir).log) for edge in machine.edges}
    stop = threading.Event()

    def ask(port: int, answers: list[Answer]) -> None:
        client = Client(port)
        while not stop.is_set():
            answers.append(client.infer())
        client.close()

    threads = [
        threading.Thread(target=ask, args=(edge.edge_port, loads[edge.edge_name].answers))
        for edge in machine.edges
        for _ in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield loads
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """Three edges."""
    with running_machine(3) as machine:
        yield machine


@pytest.mark.parametrize("mood", [Mood.ANSWER, Mood.SLOW])
async def test_no_answer_of_the_challenger_begins_after_its_rollback_was_acknowledged(
    machine: Machine, mood: Mood
) -> None:
    """Whether it answers at once, or has requests under way when it is withdrawn."""
    machine.ingress.moods = {CHALLENGER: [mood]}
    async with control_of(machine) as control:
        await control.hot(CHAMPION, CHALLENGER)
        await control.publish(champion=CHAMPION)
        name = (await control.begin(FILE.format(name=f"load-{mood.name.lower()}"))).declaration.name
        with load(machine) as loads:

            async def met() -> bool:
                return all(len(e.begun_by_the_challenger(name)) > 10 for e in loads.values())

            await eventually(met, what="it is met at every edge", pause=LOOK_SECONDS)
            began = utc_now()
            done = await control.rollback(Order(MODEL, "tests", "a test"))
            before = {edge: len(each.answers) for edge, each in loads.items()}

            async def asked_on() -> bool:
                return all(len(each.answers) > before[e] + 50 for e, each in loads.items())

            await eventually(asked_on, what="all go on asking", pause=LOOK_SECONDS)
        await control.controller.tick()
        assert (await control.records.experiment(name)).value.state is State.ROLLED_BACK
    assert (done.edges, done.silent, done.lost) == (tuple(sorted(loads)), (), ())
    for edge, each in loads.items():
        # By its own word, which came no later than the last.
        acknowledged = began + timedelta(milliseconds=done.acknowledged[edge])
        assert max(each.begun_by_the_challenger(name)) <= acknowledged
        assert Counter(answer.status for answer in each.answers) == {200: len(each.answers)}
