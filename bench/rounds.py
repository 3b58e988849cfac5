"""Rounds: in each of them every server has its turn, in another order."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.load import Load, UnreadableLoad
from bench.servers import DoesNotServe, Field, Server

CONNECTIONS = (1, 8, 32)

Tell = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Sample:
    """What one load on one target gave in one round."""

    round: int
    target: str
    size: str
    connections: int
    load: Load


def played(field: Field, *, rounds: int, seconds: int, tell: Tell) -> list[Sample]:
    """Measure every server in every round; one that fails is missing from then on."""
    order = random.Random(rounds)
    samples: list[Sample] = []
    for number in range(1, rounds + 1):
        servers = list(field.servers)
        order.shuffle(servers)
        for server in servers:
            try:
                with field.awake(server):
                    for sample in _turn(field, server, number, seconds):
                        samples.append(sample)
                        tell(f"round {number} of {rounds}: {_said(sample)}")
            except (DoesNotServe, UnreadableLoad) as error:
                tell(f"{server.name} is out: {error}")
                field.drop(server, error)
    return samples


def _turn(field: Field, server: Server, number: int, seconds: int) -> Iterator[Sample]:
    # Targets of one server alternate, so that what is compared is measured moments apart.
    for size in field.questions:
        for connections in CONNECTIONS:
            for target in field.targets[server.name]:
                question = field.questions[size][server.dialect]
                load = field.load(target, question, connections, seconds)
                field.drain(target, question)
                yield Sample(number, target.name, size, connections, load)


def _said(sample: Sample) -> str:
    load = sample.load
    wrong = f", {load.failures} failed: {load.stray}" if load.failures else ""
    return (
        f"{sample.target}, {sample.size}, {sample.connections} connections: "
        f"{load.per_second:,.0f}/s, p50 {load.p50_ms:.2f} ms{wrong}"
    )
