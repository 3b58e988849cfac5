"""One line of the pairs' log: a request that two versions were asked, or some that could not be.

Fields between tabs: form (`1`), name, at, model, experiment, stage, version, slot. Then for a pair
the champion's and the challenger's status, the milliseconds of both, whether they agreed (`1`, `0`
or `-`) and how far they lie apart (a number or `-`); else `dropped`, how many and why.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

from experiments.errors import InvalidDeclaration
from experiments.model import ExperimentName, experiment_name
from experiments.store.slots import SLOTS
from registry.refs import ModelName, Version
from serving.routes import NONE

FORMAT = "1"
_DROPPED = "dropped"
_PAIR_FIELDS, _DROP_FIELDS = 14, 11
_AGREED = {"1": True, "0": False, NONE: None}
_LETTERS = {agreed: letter for letter, agreed in _AGREED.items()}

NO_ANSWER = -1
"""Status of a version that gave no answer of its own."""


def failed(status: int) -> bool:
    """Return whether a user would have needed another version's answer."""
    return status == NO_ANSWER or status == 429 or status >= 500


class Reason(StrEnum):
    """Why a request became no pair; `serving.metrics.edge` says in words what each means."""

    BODY_TOO_LARGE = "body_too_large"
    ANSWER_TOO_LARGE = "answer_too_large"
    CHALLENGER_ANSWER_TOO_LARGE = "challenger_answer_too_large"
    STREAMED = "streamed"
    TURNED_AWAY = "turned_away"
    UNFINISHED = "unfinished"
    QUEUE_FULL = "queue_full"
    STALE = "stale"
    WORKER_FAILED = "worker_failed"
    UNKNOWN_EXPERIMENT = "unknown_experiment"
    UNSENDABLE = "unsendable"
    ERROR = "error"


class UnreadablePairLine(ValueError):
    """A line that `Pair.line` or `Drops.line` did not write, or not to its end."""


@dataclass(frozen=True, slots=True)
class About:
    """What a line is about.

    Args:
        name: Unique among all that HAProxy hands over: it is put down once.
        at_ms: When the champion was asked, in milliseconds since 1970.
        version: The challenger's.
    """

    name: str
    at_ms: int
    model: ModelName
    experiment: ExperimentName
    stage: int
    version: Version

    @classmethod
    def of(
        cls, name: str, at: str, model: str, experiment: str, stage: str, version: str
    ) -> "About":
        """Return what six fields say.

        Raises:
            ValueError: one of them says nothing.
        """
        try:
            known = experiment_name(experiment)
        except InvalidDeclaration as error:
            raise ValueError(experiment) from error
        about = cls(name, int(at), ModelName(model), known, int(stage), Version(int(version)))
        if about.stage < 0 or about.version < 1:
            raise ValueError(f"stage {stage}, version {version}")
        return about

    def fields(self) -> tuple[object, ...]:
        return (self.name, self.at_ms, self.model, self.experiment, self.stage, self.version)


@dataclass(frozen=True, slots=True)
class Pair:
    """What two versions made of one request.

    Args:
        slot: None where the request was a unit of its own.
        champion, challenger: Statuses; `NO_ANSWER` for none of its own.
        champion_ms, challenger_ms: From the last byte of the request, on its way to the version, to
            the last of its answer, or until there was none; both on HAProxy's clock.
        agreed: None where the champion gave nothing to compare with.
        difference: See `serving.edge.shadow.comparison`; None where there is no such number.
    """

    about: About
    slot: int | None
    champion: int
    challenger: int
    champion_ms: float
    challenger_ms: float
    agreed: bool | None
    difference: float | None

    def line(self) -> bytes:
        return _line(
            *self.about.fields(),
            NONE if self.slot is None else self.slot,
            self.champion,
            self.challenger,
            f"{self.champion_ms:.3f}",
            f"{self.challenger_ms:.3f}",
            _LETTERS[self.agreed],
            NONE if self.difference is None else f"{self.difference!r}",
        )


@dataclass(frozen=True, slots=True)
class Drops:
    """Requests that were to be repeated, and became no pair."""

    about: About
    count: int
    reason: Reason

    def line(self) -> bytes:
        return _line(*self.about.fields(), NONE, _DROPPED, self.count, self.reason)


def parse(line: str) -> Pair | Drops:
    """Return what a line says, without its line end.

    Raises:
        UnreadablePairLine: the line is damaged, or of another form.
    """
    form, *fields = line.split("\t")
    try:
        if form != FORMAT:
            raise ValueError(form)
        if len(fields) == _DROP_FIELDS - 1 and fields[7] == _DROPPED:
            return Drops(About.of(*fields[:6]), int(fields[8]), Reason(fields[9]))
        if len(fields) != _PAIR_FIELDS - 1:
            raise ValueError(len(fields))
        return _pair(fields)
    except (ValueError, KeyError) as error:
        raise UnreadablePairLine(f"not a line of the pairs' log: {line!r}") from error


def name_of(line: str) -> str | None:
    """Return the name in a whole line, or None if it has none."""
    try:
        return parse(line).about.name
    except UnreadablePairLine:
        return None


def _pair(fields: list[str]) -> Pair:
    slot, champion, challenger, champion_ms, challenger_ms, agreed, difference = fields[6:]
    pair = Pair(
        about=About.of(*fields[:6]),
        slot=None if slot == NONE else int(slot),
        champion=int(champion),
        challenger=int(challenger),
        champion_ms=float(champion_ms),
        challenger_ms=float(challenger_ms),
        agreed=_AGREED[agreed],
        difference=None if difference == NONE else float(difference),
    )
    if pair.slot is not None and not 0 <= pair.slot < SLOTS:
        raise ValueError(slot)
    if not isfinite(pair.champion_ms + pair.challenger_ms + (pair.difference or 0.0)):
        raise ValueError("not finite")
    return pair


def _line(*fields: object) -> bytes:
    return ("\t".join(map(str, (FORMAT, *fields))) + "\n").encode()
