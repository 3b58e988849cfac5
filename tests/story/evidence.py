"""What a world's experiments have seen: units, outcomes and losses, without a request."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta

from experiments.evidence import LOST, LOST_REQUESTS
from experiments.experiment import Experiment
from experiments.metric import Slow
from experiments.model import WHOLE, ExperimentName, Variant
from experiments.prediction import Prediction, mint
from experiments.store import Batch, Cell, OutcomeRecord, Store
from registry.refs import Version
from serving.clock import Clock
from serving.records import Records

KEY = bytes(range(32))
"""Signs predictions, and what control checks them with."""


class AddedEvidence:
    """Evidence as edges and users would add it to the store."""

    def __init__(self, store: Store, records: Records, clock: Clock) -> None:
        self._store = store
        self._records = records
        self._clock = clock
        self._applied = 0
        self._outcomes = 0

    async def traffic(
        self,
        units: int,
        *,
        goal: tuple[float, ...] | None = None,
        errors: tuple[float, ...] = (0,),
        slow: tuple[float, ...] = (0,),
        share: float | None = None,
        name: str = "digits-v2",
    ) -> None:
        """Have units meet the experiment, divided to the last one as its stage says.

        Args:
            units: Distinct in this stage, and no veterans of an earlier one.
            goal, errors, slow: Rates with the champion, then with each challenger in turn; the last
                stands for all that follow.
            share: The part that meets challengers, where it is not to be as meant.
        """
        experiment = await self._experiment(name)
        stage = experiment.stage
        meant = (stage.share - stage.floor) / (WHOLE - stage.floor)
        lane = round(units * (meant if share is None else share) / len(stage.challengers))
        rest = units - lane * len(stage.challengers)
        arms = [(Variant.CHAMPION, experiment.champion, rest)]
        arms += [(Variant.CHALLENGER, version, lane) for version in stage.challengers]
        for place, (variant, version, met) in enumerate(arms):
            if version not in experiment.dropped:
                seen = {"errors": met * _at(errors, place), "slow": met * _at(slow, place)}
                ones = round(met * _at(goal, place)) if goal else 0
                zeros = met - ones if goal else 0
                await self._see(experiment, variant, version, met, seen, (zeros, ones))

    async def _see(
        self,
        experiment: Experiment,
        variant: Variant,
        version: Version,
        units: int,
        seen: Mapping[str, float],
        outcomes: tuple[int, int],
    ) -> None:
        """Add units and their outcomes to the evidence of the experiment's present stage."""
        declaration = experiment.declaration
        cell = Cell(declaration.name, experiment.stage.number, variant, version, "requests")
        counters = {"requests": units, "units": units, "errors": round(seen["errors"])}
        for guardrail in declaration.guardrails:
            which = "slow" if isinstance(guardrail.metric.kind, Slow) else "errors"
            counters[f"{guardrail.metric.counter}:1"] = round(seen[which])
        await self.apply({replace(cell, counter=each): n for each, n in counters.items()})
        for value, times in enumerate(outcomes):
            counter = f"{declaration.goal.metric.counter}:{value}"
            await self._observe(replace(cell, counter=counter), times)

    async def lose(self, lost_bytes: int, requests: int = 0, *, name: str = "digits-v2") -> None:
        """Have so much of the request log, and so many requests, never be counted."""
        experiment = await self._experiment(name)
        stage, champion = experiment.stage.number, experiment.champion
        where = ExperimentName(name), stage, Variant.CHAMPION, champion
        await self.apply({Cell(*where, LOST): lost_bytes, Cell(*where, LOST_REQUESTS): requests})

    async def prediction(
        self,
        variant: Variant = Variant.CHALLENGER,
        *,
        slot: int | None = None,
        name: str = "digits-v2",
        key: bytes = KEY,
        **changed: object,
    ) -> str:
        """Return the signed id of an answer of the experiment, with fields `changed` if wished."""
        experiment = await self._experiment(name)
        declaration = experiment.declaration
        is_champion = variant is Variant.CHAMPION
        self._outcomes += 1
        made = Prediction(
            model=declaration.model,
            version=experiment.champion if is_champion else declaration.challengers[0],
            experiment=declaration.name,
            stage=experiment.stage.number,
            variant=variant,
            slot=slot,
            minted_at=self._clock(),
            nonce=f"{self._outcomes:032x}",
        )
        return mint(replace(made, **changed), key)  # type: ignore[arg-type]

    async def apply(self, counts: Mapping[Cell, int]) -> None:
        """Have so many of everything be counted, as if a log had told so."""
        batch = Batch("a log", self._applied, self._applied + 1, counts=counts)
        self._applied = await self._store.apply(batch)

    async def _observe(self, cell: Cell, times: int) -> None:
        tomorrow = self._clock() + timedelta(days=1)
        first, self._outcomes = self._outcomes + 1, self._outcomes + times
        await self._store.observe(
            [
                OutcomeRecord(cell, f"{number:032x}:{cell.name}", None, tomorrow)
                for number in range(first, first + times)
            ]
        )

    async def _experiment(self, name: str) -> Experiment:
        return (await self._records.experiment(ExperimentName(name))).value


def _at(rates: tuple[float, ...], place: int) -> float:
    return rates[min(place, len(rates) - 1)]
