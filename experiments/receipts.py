"""A decision with everything that is needed to make it again, chained to the one before.

The id of a receipt is the SHA-256 of its content, and its content names the receipt before it, so
no receipt can be altered, removed or slipped in without breaking the chain after it.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Literal, TypeAlias

from pydantic import ValidationError

from experiments.codec import decode, encode
from experiments.decision import METHODS, Decision, Plan, decide
from experiments.errors import InvalidDeclaration, ReceiptMismatch
from experiments.evidence import Evidence
from registry.refs import ModelName


@dataclass(frozen=True, slots=True)
class ByHand:
    """Something that no decision led to: a person did it, or it repairs or begins something.

    There is nothing to recompute, but it belongs in the chain.
    """

    action: str
    reasons: tuple[str, ...]
    kind: Literal["by_hand"] = "by_hand"


_BEYOND_THE_FORMULAS = (
    ArithmeticError,
    AssertionError,
    LookupError,
    StopIteration,
    TypeError,
    ValueError,
)

Act: TypeAlias = Decision | ByHand


@dataclass(frozen=True, slots=True)
class Receipt:
    """Why a model's route was changed.

    Args:
        plan: What was agreed; None where no experiment was involved.
        evidence: What had been seen; None where a person acted without it.
        previous: The receipt of the model's route until then.
        methods: The formulas that were used, by name.
    """

    model: ModelName
    at: datetime
    by: str
    act: Act
    plan: Plan | None
    evidence: Evidence | None
    previous: str | None
    spec_hash: str | None = None
    methods: str = METHODS


def content_of(receipt: Receipt) -> bytes:
    """Return the receipt's content, in the one form that its id is the digest of."""
    return encode(Receipt, receipt)


def receipt_id(content: bytes) -> str:
    """Return the id that belongs to this content."""
    return sha256(content).hexdigest()


def replay(name: str, content: bytes) -> Receipt:
    """Make the decision of a receipt again, from the receipt alone, and return the receipt.

    Raises:
        ReceiptMismatch: the content is not what `name` stands for, lacks what its decision was
            made from, or gives another decision.
    """
    if receipt_id(content) != name:
        raise ReceiptMismatch(f"Receipt {name[:12]} was altered: its content has another digest.")
    try:
        receipt = decode(Receipt, content)
    except (ValidationError, InvalidDeclaration) as error:
        raise ReceiptMismatch(f"Receipt {name[:12]} cannot be read: {error}") from error
    if isinstance(receipt.act, ByHand):
        return receipt
    if receipt.methods != METHODS:
        raise ReceiptMismatch(f"Receipt was made by {receipt.methods}; this release has {METHODS}.")
    if receipt.plan is None or receipt.evidence is None:
        raise ReceiptMismatch(f"Receipt {name[:12]} decides without a plan or without evidence.")
    try:
        again = decide(receipt.plan, receipt.evidence, receipt.at)
    except _BEYOND_THE_FORMULAS as error:
        # Only content that nobody decided upon is beyond the formulas, such as negative counts.
        raise ReceiptMismatch(f"Receipt {name[:12]} cannot be recomputed: {error}") from error
    if again != receipt.act:
        raise ReceiptMismatch(f"Receipt {name[:12]} says {receipt.act}, but recomputes to {again}.")
    return receipt
