"""Outcomes in: verified, counted once, and kept on disk while the store is away."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from experiments.errors import (
    DuplicateOutcome,
    InvalidPrediction,
    LateOutcome,
    StoreUnavailable,
    UnknownExperiment,
)
from experiments.evidence import LATE
from experiments.model import Declaration, ExperimentName
from experiments.outcomes import Outcome, check_outcome, parse_outcomes
from experiments.prediction import Prediction, verify
from experiments.store import Applied, Cell, OutcomeRecord, Store
from registry.errors import TiltyardError
from serving.clock import Clock
from serving.errors import SpoolFull
from serving.records import Records
from serving.spool import Refusals, Spool

SPOOLED = "spooled"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one outcome: a word for programs, and if it was refused the error."""

    status: str
    refusal: TiltyardError | None = None


class Intake:
    """Takes outcomes from clients into the store."""

    def __init__(
        self,
        store: Store,
        records: Records,
        *,
        key: bytes,
        window: timedelta,
        spool: Spool,
        clock: Clock,
    ) -> None:
        self._store = store
        self._records = records
        self._key = key
        self._window = window
        self._spool = spool
        self._refusals = Refusals()
        self._clock = clock
        self._draining = asyncio.Lock()
        self._declarations: dict[ExperimentName, Declaration] = {}

    async def take(self, body: bytes) -> list[Result]:
        """Count every outcome in the body of a request, each judged by itself.

        While the store is away, those with a genuine prediction id are kept and counted later; if
        too much is waiting already, all of them are refused with `SpoolFull`.

        Raises:
            MalformedJson, MalformedBody, TooManyOutcomes: nothing was counted.
        """
        outcomes = parse_outcomes(body)
        now = self._clock()
        judged = [self._verified(outcome) for outcome in outcomes]
        try:
            return await self._count(outcomes, judged, now)
        except StoreUnavailable:
            kept = await self._keep(body, judged, now)
            return [
                Result("refused", found) if isinstance(found, TiltyardError) else kept
                for found in judged
            ]

    @property
    def waiting_bytes(self) -> int:
        """What is kept on disk for the store."""
        return self._spool.waiting_bytes

    async def drain(self) -> int:
        """Count what was kept while the store was away; return how many requests that were.

        Counting again after a crash does no harm: each (prediction, metric) counts once.

        Raises:
            StoreUnavailable: the store is still away; everything is kept.
        """
        async with self._draining:
            await self._refusals.tell(self._store)
            drained = 0
            if self._spool.take():
                for at, body in self._spool.read():
                    await self._count_kept(body, at)
                    drained += 1
                self._spool.done()
            return drained

    async def _count_kept(self, body: bytes, at: datetime) -> None:
        try:
            outcomes = parse_outcomes(body)
        except TiltyardError as error:
            # It could be read when it was kept: the disk has changed it.
            _log.warning("a request with outcomes cannot be read any more: %s", error.message)
            return
        await self._count(outcomes, [self._verified(outcome) for outcome in outcomes], at)

    async def _keep(
        self, body: bytes, judged: list[Prediction | InvalidPrediction], now: datetime
    ) -> Result:
        """Keep a request for later; return what became of those in it with genuine ids."""
        genuine = [found for found in judged if isinstance(found, Prediction)]
        # Whoever sends nothing but forged ids takes no room from the others.
        if genuine:
            try:
                await asyncio.to_thread(self._spool.keep, body, now)
            except SpoolFull as error:
                self._refusals.note(genuine)
                return Result("refused", error)
        return Result(SPOOLED)

    def _verified(self, outcome: Outcome) -> Prediction | InvalidPrediction:
        try:
            return verify(outcome.prediction_id, self._key)
        except InvalidPrediction as error:
            return error

    async def _count(
        self,
        outcomes: tuple[Outcome, ...],
        judged: list[Prediction | InvalidPrediction],
        now: datetime,
    ) -> list[Result]:
        judgements: list[Result | tuple[OutcomeRecord, ...]] = []
        for outcome, found in zip(outcomes, judged, strict=True):
            if isinstance(found, InvalidPrediction):
                judgements.append(Result("refused", found))
                continue
            try:
                judgements.append(await self._records_of(outcome, found, now))
            except LateOutcome as error:
                await self._store.observe([_late(found, now + self._window)])
                judgements.append(Result("refused", error))
            except StoreUnavailable:
                raise
            except TiltyardError as error:
                judgements.append(Result("refused", error))
        records = [each for found in judgements if isinstance(found, tuple) for each in found]
        applied = iter(await self._store.observe(records) if records else ())
        return [
            found if isinstance(found, Result) else _result([next(applied) for _ in found])
            for found in judgements
        ]

    async def _records_of(
        self, outcome: Outcome, prediction: Prediction, now: datetime
    ) -> tuple[OutcomeRecord, ...]:
        if prediction.experiment is None:
            raise InvalidPrediction(
                "The prediction was made outside of any experiment, so there is nothing to count.",
                next_step="Send outcomes only for answers with an X-Experiment header.",
            )
        declaration = await self._declaration(prediction.experiment)
        return check_outcome(outcome, prediction, declaration, now=now, window=self._window)

    async def _declaration(self, name: ExperimentName) -> Declaration:
        if name not in self._declarations:
            try:
                held = await self._records.experiment(name)
            except UnknownExperiment as error:
                raise InvalidPrediction(
                    f"The prediction is foreign: there is no experiment {name!r} here."
                ) from error
            self._declarations[name] = held.value.declaration
        return self._declarations[name]


def _late(prediction: Prediction, expires_at: datetime) -> OutcomeRecord:
    """Return what counts an outcome as late: once, however often it is sent."""
    assert prediction.experiment is not None
    assert prediction.stage is not None
    assert prediction.variant is not None
    cell = Cell(
        prediction.experiment, prediction.stage, prediction.variant, prediction.version, LATE
    )
    return OutcomeRecord(cell, f"{prediction.nonce}.{LATE}", None, expires_at)


def _result(applied: list[Applied]) -> Result:
    """Return what to say of an outcome by its first record: the others follow from the same."""
    if not applied:
        return Result(Applied.COUNTED.value)
    if applied[0] is Applied.DUPLICATE:
        return Result(
            "refused", DuplicateOutcome("This prediction already has an outcome for the metric.")
        )
    return Result(applied[0].value)
