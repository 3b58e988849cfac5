"""What can go wrong with experiments, outcomes and the store.

TiltyardError
├── InvalidDeclaration       the experiment file says something that cannot be
│   └── InvalidFile          every problem of an experiment file, each with its place
├── ExperimentExists         the name is taken, or the model has a running experiment
├── ChallengerIsChampion     a version cannot be compared with itself
├── UnknownExperiment        no experiment of that name
├── WrongState               the lifecycle does not allow this now
├── UnknownReceipt           no receipt of that id
├── ReceiptMismatch          a receipt does not recompute to its own verdict
├── MalformedJson            the body is not JSON
├── MalformedBody            the body is JSON, but not what is asked for
├── TooManyOutcomes          more outcomes than one request may carry
├── UnitEmpty                what names the unit is empty
├── UnitTooLong              what names the unit has more than 256 bytes
├── InvalidPrediction        forged, truncated or foreign prediction id
├── InvalidOutcome           no such metric, or a value that the metric cannot take
├── DuplicateOutcome         this prediction already has an outcome for the metric
├── LateOutcome              the attribution window has passed
├── StaleRevision            somebody else changed the document first
├── LeaseLost                this process is no longer the leader
└── StoreUnavailable         Redis cannot be reached
"""

from dataclasses import dataclass

from registry.errors import TiltyardError


class InvalidDeclaration(TiltyardError):
    code = "invalid_declaration"
    next_step = "Correct the file and start the experiment again; nothing was changed."


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an experiment file; line and column count from 1.

    Args:
        field: Path such as `guardrails[1].above`; empty where it concerns the file as a whole.
    """

    field: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        field = f"{self.field}: " if self.field else ""
        return f"line {self.line}, column {self.column}: {field}{self.message}"


class InvalidFile(InvalidDeclaration):
    """Carries every problem that was found, in the order of the file."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class ExperimentExists(TiltyardError):
    code = "experiment_exists"
    next_step = "Stop the running experiment first, or choose another name."


class ChallengerIsChampion(TiltyardError):
    code = "challenger_is_champion"
    next_step = "Name another version as the challenger."


class UnknownExperiment(TiltyardError):
    code = "unknown_experiment"
    next_step = "`tiltyard experiment list` shows every experiment."


class WrongState(TiltyardError):
    code = "wrong_state"
    next_step = "`tiltyard experiment show NAME` tells which state it is in."


class UnknownReceipt(TiltyardError):
    code = "unknown_receipt"
    next_step = "`tiltyard history MODEL` lists the receipts."


class ReceiptMismatch(TiltyardError):
    code = "receipt_mismatch"
    next_step = "Do not trust this receipt: it was altered, or made by another release."


class MalformedJson(TiltyardError):
    code = "malformed_json"
    next_step = "Send JSON in UTF-8; NaN and Infinity are not JSON."


class MalformedBody(TiltyardError):
    code = "malformed_body"
    next_step = "Send the fields that the API's documentation names; nothing was changed."


class TooManyOutcomes(TiltyardError):
    code = "too_many_outcomes"
    next_step = "Send the outcomes in several requests; nothing was counted."


class UnitEmpty(TiltyardError):
    code = "unit_empty"
    next_step = "Send a value, or leave it out: the request is a unit of its own then."


class UnitTooLong(TiltyardError):
    code = "unit_too_long"
    next_step = "Send a shorter name of the unit, such as a hash of it."


class InvalidPrediction(TiltyardError):
    code = "invalid_prediction_id"
    next_step = "Send back the X-Prediction-Id header of the answer, unchanged."


class InvalidOutcome(TiltyardError):
    code = "invalid_outcome"
    next_step = "Send the metrics that the experiment declares, with values they can take."


class DuplicateOutcome(TiltyardError):
    code = "duplicate_outcome"
    next_step = "Nothing: the first outcome counts, this one was ignored."


class LateOutcome(TiltyardError):
    code = "late_outcome"
    next_step = "Send outcomes within the attribution window."


class StaleRevision(TiltyardError):
    code = "stale_revision"
    next_step = "Read the document again and repeat the change."


class LeaseLost(TiltyardError):
    code = "lease_lost"
    next_step = "Nothing: another control process leads now and goes on."


class StoreUnavailable(TiltyardError):
    code = "store_unavailable"
    next_step = (
        "Traffic is served with the routes as last known. "
        "`tiltyard rollback MODEL --local` works meanwhile."
    )
