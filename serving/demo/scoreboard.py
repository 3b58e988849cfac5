"""Looks at everything once a second, and has the narrator show it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from math import exp
from time import monotonic

from registry.errors import TiltyardError
from serving.client import Answer, ControlClient
from serving.demo.narrator import Evidence, Glance, Narrator
from serving.demo.traffic import Traffic

PAUSE = 1.0

LATELY = 2.0
"""Seconds that a rate and a share are taken over."""


class Scoreboard:
    """What is shown of the running story.

    Attributes:
        traffic, control, experiment: What to look at, from when it is there.
    """

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator
        self._began = monotonic()
        self._under_way: dict[str, float] = {}
        self._notes: dict[str, str] = {}
        self.traffic: Traffic | None = None
        self.control: ControlClient | None = None
        self.experiment: str | None = None

    @property
    def seconds(self) -> float:
        """How long the story has been told."""
        return monotonic() - self._began

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show, while the context lasts, that this is being waited for."""
        self.begin(what)
        try:
            yield
        finally:
            self.end(what)

    def begin(self, what: str) -> None:
        """Show from now on that this is being waited for."""
        self._under_way[what] = self.seconds

    def end(self, what: str) -> None:
        """Show it no longer."""
        self._under_way.pop(what, None)
        self._notes.pop(what, None)

    def note(self, what: str, words: str) -> None:
        """Show beside what is being waited for how far it is."""
        self._notes[what] = words

    async def run(self) -> None:
        """Look and show until cancelled."""
        while True:
            self._narrator.glance(self._glance(await self._evidence()))
            await asyncio.sleep(PAUSE)

    async def _evidence(self) -> Evidence | None:
        if self.control is None or self.experiment is None:
            return None
        with suppress(TiltyardError):  # There is a next look.
            return _evidence(await self.control.experiment(self.experiment))
        return None

    def _glance(self, evidence: Evidence | None) -> Glance:
        waited = {
            f"{what}, {self._notes[what]}" if what in self._notes else what: self.seconds - began
            for what, began in self._under_way.items()
        }
        if self.traffic is None:
            return Glance(self.seconds, under_way=waited)
        lately = self.traffic.since(monotonic() - LATELY)
        return Glance(
            self.seconds,
            requests=self.traffic.requests,
            failed=self.traffic.failed,
            rescued=self.traffic.rescued,
            rate=lately.total() / LATELY,
            versions={version: n / lately.total() for version, n in lately.items()},
            evidence=evidence,
            under_way=waited,
        )


def _evidence(experiment: Answer) -> Evidence:
    (challenger,) = experiment["report"]["challengers"]
    goal = next(metric for metric in challenger["metrics"] if metric["role"] == "goal")
    better = next(test for test in goal["tests"] if test["question"] == "superior")
    harm = challenger["any_harm"]
    return Evidence(
        name=experiment["name"],
        share=experiment["share"],
        better=better["e"],
        better_needed=f"{exp(better['needed']):.3g}",
        harm=harm["e"],
        harm_needed=f"{exp(harm['needed']):.3g}",
    )
