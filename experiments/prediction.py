"""Prediction ids: signed, so that an outcome needs no lookup and cannot be made up.

Ten fields between dots: model, version, experiment, stage, variant (`c`, `t` or `v`), slot,
segment, second of minting, nonce, and the signature over everything before it. A field that does
not apply is `-`; outside the declared segments, and outside experiments, the segment is 0.
The edge mints them in Lua; this is the reference, and what verifies them.
"""

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime

from experiments.errors import InvalidDeclaration, InvalidPrediction
from experiments.model import ExperimentName, Variant, experiment_name
from registry.errors import InvalidName
from registry.refs import ModelName, Version, VersionRef

_NONE = "-"
_MAC_BYTES = 16
_MAC_LENGTH = 22
_FIELDS = 10
_LETTERS = {
    None: _NONE,
    Variant.CHAMPION: "c",
    Variant.CHALLENGER: "t",
    Variant.VETERAN: "v",
}
_VARIANTS = {letter: variant for variant, letter in _LETTERS.items()}
_BEGINNING = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\.[1-9][0-9]{0,8}(\.|$)")
_NONCE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What an id says about the answer that carried it.

    Args:
        version: The version that was assigned; it is charged even if another answered for it.
        experiment, stage, variant: None for an answer outside any experiment.
        slot: None where the request was a unit of its own.
        minted_at: In whole seconds.
        nonce: 32 hexadecimal digits, no two the same.
        segment: Index of the declared segment, from 1; 0 for everybody else.
    """

    model: ModelName
    version: Version
    experiment: ExperimentName | None
    stage: int | None
    variant: Variant | None
    slot: int | None
    minted_at: datetime
    nonce: str
    segment: int = 0


def mint(prediction: Prediction, key: bytes) -> str:
    """Return the signed id of `prediction`."""
    fields = (
        prediction.model,
        prediction.version,
        _NONE if prediction.experiment is None else prediction.experiment,
        _NONE if prediction.stage is None else prediction.stage,
        _LETTERS[prediction.variant],
        _NONE if prediction.slot is None else prediction.slot,
        prediction.segment,
        int(prediction.minted_at.timestamp()),
        prediction.nonce,
    )
    signed = ".".join(map(str, fields))
    return f"{signed}.{_mac(signed, key)}"


def verify(text: str, key: bytes) -> Prediction:
    """Return what a genuine id says.

    Raises:
        InvalidPrediction: `text` was cut short, was altered or signed with another key, or is
            no prediction id at all; the message tells which.
    """
    signed, _, mac = text.rpartition(".")
    # Whatever is not ASCII is no id, and compare_digest refuses to look at it.
    if not text.isascii() or not _BEGINNING.match(text) or text.count(".") >= _FIELDS:
        raise InvalidPrediction("foreign: this system makes no such prediction ids")
    if text.count(".") < _FIELDS - 1 or len(mac) < _MAC_LENGTH:
        raise InvalidPrediction("truncated: the end of the prediction id is missing")
    if not hmac.compare_digest(mac, _mac(signed, key)):
        raise InvalidPrediction("forged: the signature is not this system's")
    try:
        return _read(signed)
    except (ValueError, KeyError, InvalidName, InvalidDeclaration) as error:
        raise InvalidPrediction(
            "signed by a release that wrote prediction ids in another way"
        ) from error


def _read(signed: str) -> Prediction:
    model, version, experiment, stage, letter, slot, segment, minted, nonce = signed.split(".")
    ref = VersionRef.parse(f"{model}/{version}")
    if not _NONCE.fullmatch(nonce):
        raise ValueError(nonce)
    return Prediction(
        model=ref.model,
        version=ref.version,
        experiment=None if experiment == _NONE else experiment_name(experiment),
        stage=None if stage == _NONE else int(stage),
        variant=_VARIANTS[letter],
        slot=None if slot == _NONE else int(slot),
        minted_at=datetime.fromtimestamp(int(minted), UTC),
        nonce=nonce,
        segment=int(segment),
    )


def _mac(signed: str, key: bytes) -> str:
    digest = hmac.digest(key, signed.encode(), hashlib.sha256)
    return urlsafe_b64encode(digest[:_MAC_BYTES]).rstrip(b"=").decode()
