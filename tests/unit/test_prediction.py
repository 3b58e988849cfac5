"""Prediction ids: what is minted is read back, and nothing else is."""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.assignment import SLOTS
from experiments.errors import InvalidPrediction
from experiments.model import ExperimentName, Variant
from experiments.prediction import Prediction, mint, verify
from registry.refs import ModelName, Version

KEY = bytes(range(32))
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
IN_A_TRIAL = Prediction(
    ModelName("digits"),
    Version(2),
    ExperimentName("digits-v2"),
    0,
    Variant.CHALLENGER,
    1_234_567,
    NOON,
    "0123456789abcdef" * 2,
    segment=3,
)

names = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
predictions = st.builds(
    Prediction,
    model=names.map(ModelName),
    version=st.integers(1, 999_999_999).map(Version),
    experiment=st.none() | names.map(ExperimentName),
    stage=st.none() | st.integers(0, 1000),
    variant=st.none() | st.sampled_from(Variant),
    slot=st.none() | st.integers(0, SLOTS - 1),
    minted_at=st.integers(0, 2**32).map(lambda second: datetime.fromtimestamp(second, UTC)),
    nonce=st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
    segment=st.integers(0, 99),
)


@given(prediction=predictions, key=st.binary(min_size=32, max_size=32))
def test_what_was_minted_is_read_back(prediction: Prediction, key: bytes) -> None:
    assert verify(mint(prediction, key), key) == prediction


@given(prediction=predictions, data=st.data())
def test_one_changed_character_is_enough_to_be_refused(
    prediction: Prediction, data: st.DataObject
) -> None:
    genuine = mint(prediction, KEY)
    at = data.draw(st.integers(0, len(genuine) - 1))
    other = data.draw(st.characters().filter(lambda c: c != genuine[at]))
    with pytest.raises(InvalidPrediction):
        verify(genuine[:at] + other + genuine[at + 1 :], KEY)


@given(prediction=predictions, data=st.data())
def test_a_truncated_id_is_called_truncated(prediction: Prediction, data: st.DataObject) -> None:
    genuine = mint(prediction, KEY)
    shortest = len(f"{prediction.model}.{prediction.version}")
    kept = data.draw(st.integers(shortest, len(genuine) - 1))
    with pytest.raises(InvalidPrediction, match="truncated"):
        verify(genuine[:kept], KEY)


def test_an_id_signed_with_another_key_is_called_forged() -> None:
    with pytest.raises(InvalidPrediction, match="forged"):
        verify(mint(IN_A_TRIAL, bytes(32)), KEY)


def test_an_id_moved_to_the_other_variant_is_called_forged() -> None:
    genuine = mint(IN_A_TRIAL, KEY)
    with pytest.raises(InvalidPrediction, match="forged"):
        verify(genuine.replace(".t.", ".c."), KEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        ".........",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
        "é.1.-.-.-.-.0.1.0.aaaaaaaaaaaaaaaaaaaaaa",
        mint(IN_A_TRIAL, KEY) + ".more",
        mint(IN_A_TRIAL, KEY).upper(),
        " " + mint(IN_A_TRIAL, KEY),
    ],
)
def test_what_is_no_prediction_id_is_called_foreign(text: str) -> None:
    with pytest.raises(InvalidPrediction, match="foreign") as refused:
        verify(text, KEY)
    assert refused.value.code == "invalid_prediction_id"


@given(text=st.text())
def test_no_text_breaks_the_check(text: str) -> None:
    with pytest.raises(InvalidPrediction):
        verify(text, KEY)


def test_an_id_moved_to_another_segment_is_called_forged() -> None:
    genuine = mint(IN_A_TRIAL, KEY)
    with pytest.raises(InvalidPrediction, match="forged"):
        verify(genuine.replace(".1234567.3.", ".1234567.0."), KEY)


@pytest.mark.parametrize(
    ("variant", "letter"),
    [
        (Variant.CHAMPION, "c"),
        (Variant.CHALLENGER, "t"),
        (Variant.VETERAN, "v"),
        (None, "-"),
    ],
)
def test_each_variant_has_a_letter_of_its_own(variant: Variant | None, letter: str) -> None:
    minted = mint(replace(IN_A_TRIAL, variant=variant), KEY)
    assert minted.split(".")[4] == letter
    assert verify(minted, KEY).variant is variant


def test_a_letter_that_no_variant_has_is_of_another_release() -> None:
    signed = mint(IN_A_TRIAL, KEY).rpartition(".")[0].replace(".t.", ".x.")
    mac = urlsafe_b64encode(hmac.digest(KEY, signed.encode(), hashlib.sha256)[:16])
    with pytest.raises(InvalidPrediction, match="another way"):
        verify(f"{signed}.{mac.rstrip(b'=').decode()}", KEY)


def test_ids_stay_readable_between_releases() -> None:
    """Recorded once: ids outlive the release that minted them by the attribution window."""
    assert mint(IN_A_TRIAL, KEY) == (
        "digits.2.digits-v2.0.t.1234567.3.1772366400."
        "0123456789abcdef0123456789abcdef.tt5SUZO1GZ88SOG--RKdZg"
    )
