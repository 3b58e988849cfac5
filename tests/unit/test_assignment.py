"""Which variant a unit meets."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from experiments.assignment import BUCKETS, SLOTS, assign, bucket, slot, unit_bytes
from experiments.errors import UnitEmpty, UnitTooLong
from experiments.model import BasisPoints, Variant

CHALLENGER = Variant.CHALLENGER

units = st.binary(min_size=1, max_size=256)
salts = st.text(min_size=1, max_size=63)
cuts = st.integers(0, BUCKETS).map(BasisPoints)


@given(unit=units, salt=salts, one=cuts, other=cuts)
def test_growing_a_share_moves_nobody_out_of_the_challenger(
    unit: bytes, salt: str, one: BasisPoints, other: BasisPoints
) -> None:
    small, large = sorted((one, other))
    if assign(unit, salt=salt, cut=small) is CHALLENGER:
        assert assign(unit, salt=salt, cut=large) is CHALLENGER


@given(unit=units, salt=salts)
def test_no_share_is_nobody_and_the_whole_is_everybody(unit: bytes, salt: str) -> None:
    assert assign(unit, salt=salt, cut=BasisPoints(0)) is Variant.CHAMPION
    assert assign(unit, salt=salt, cut=BasisPoints(BUCKETS)) is CHALLENGER


@given(unit=units, salt=salts)
def test_the_cut_belongs_to_the_champion(unit: bytes, salt: str) -> None:
    at = bucket(unit, salt=salt)
    assert assign(unit, salt=salt, cut=BasisPoints(at)) is Variant.CHAMPION
    assert assign(unit, salt=salt, cut=BasisPoints(at + 1)) is CHALLENGER


@given(unit=units, salt=salts)
def test_every_unit_has_a_slot(unit: bytes, salt: str) -> None:
    assert 0 <= slot(unit, salt=salt) < SLOTS


@pytest.mark.parametrize("share", [1, 500, 2_500, 5_000, 9_999])
def test_variants_receive_their_share(share: int) -> None:
    n = 40_000
    cut = BasisPoints(share)
    met = Counter(assign(b"user-%d" % i, salt="exp", cut=cut) for i in range(n))
    # Two-sided, and exact: a share that is too small fails as surely as one too large.
    assert binomtest(met[CHALLENGER], n, share / BUCKETS).pvalue > 1e-6


def test_two_experiments_divide_the_same_units_independently() -> None:
    n = 40_000
    cut = BasisPoints(5_000)
    both = Counter(
        (assign(b"user-%d" % i, salt="one", cut=cut), assign(b"user-%d" % i, salt="two", cut=cut))
        for i in range(n)
    )
    assert chisquare(list(both.values())).pvalue > 1e-6
    assert len(both) == 4


def test_the_slot_says_nothing_about_the_bucket() -> None:
    n = 40_000
    counts = Counter(
        (bucket(b"user-%d" % i, salt="s") < 5_000, slot(b"user-%d" % i, salt="s") % 2)
        for i in range(n)
    )
    assert chisquare(list(counts.values())).pvalue > 1e-6


def test_assignment_never_changes_between_releases() -> None:
    """Recorded once: a change here would move users between variants mid-experiment."""
    names = [b"user-0", b"user-1", b"a, b", "é 😀".encode(), b"x" * 256]
    assert [bucket(name, salt="digits-v2") for name in names] == [7027, 3784, 5907, 4403, 5678]
    assert [slot(name, salt="digits-v2") for name in names] == [
        2035764,
        1992651,
        693944,
        1884606,
        2160756,
    ]


def test_blanks_around_a_unit_do_not_belong_to_it_and_blanks_inside_do() -> None:
    assert unit_bytes("\t user 1  ") == b"user 1"
    assert unit_bytes("\u00a0é") == "\u00a0é".encode()


@pytest.mark.parametrize("value", ["", " ", "\t \t"])
def test_a_unit_without_a_name_is_refused(value: str) -> None:
    with pytest.raises(UnitEmpty) as refused:
        unit_bytes(value)
    assert refused.value.code == "unit_empty"


def test_a_unit_may_have_256_bytes_and_no_more() -> None:
    assert unit_bytes("x" * 255 + " ") == b"x" * 255
    assert unit_bytes("é" * 128) == "é".encode() * 128
    with pytest.raises(UnitTooLong) as refused:
        unit_bytes("é" * 128 + "x")
    assert refused.value.code == "unit_too_long"
