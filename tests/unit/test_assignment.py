"""Which variant a unit meets."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from experiments.assignment import (
    BUCKETS,
    SLOTS,
    Assigned,
    assign,
    bucket,
    holdout_bucket,
    lane,
    layer_bucket,
    segment,
    slot,
)
from experiments.model import BasisPoints, Stage, Variant
from registry.refs import ModelName, Version
from tests.unit.declared import START

CONTROL, SEVEN, EIGHT, NINE = (Version(number) for number in (1, 7, 8, 9))
LANES = (SEVEN, EIGHT, NINE)
DIGITS, LETTERS = ModelName("digits"), ModelName("letters")

units = st.binary(min_size=1, max_size=256)
salts = st.text(min_size=1, max_size=63)
cuts = st.integers(0, BUCKETS).map(BasisPoints)
lanes = st.sampled_from([(SEVEN,), (SEVEN, EIGHT), LANES])


def one_of(
    unit: bytes,
    *,
    salt: str = "trial",
    cut: int,
    floor: int = 0,
    challengers: tuple[Version, ...] = (SEVEN,),
    dropped: tuple[Version, ...] = (),
) -> Assigned:
    return assign(
        unit,
        salt=salt,
        challengers=challengers,
        control=CONTROL,
        cut=BasisPoints(cut),
        floor=BasisPoints(floor),
        dropped=dropped,
    )


@given(unit=units, salt=salts, one=cuts, other=cuts, challengers=lanes)
def test_growing_a_share_moves_nobody_out_of_a_challenger(
    unit: bytes, salt: str, one: int, other: int, challengers: tuple[Version, ...]
) -> None:
    small, large = sorted((one, other))
    before = one_of(unit, salt=salt, cut=small, challengers=challengers)
    if before.variant is Variant.CHALLENGER:
        assert one_of(unit, salt=salt, cut=large, challengers=challengers) == before
        # Once it is no longer randomised, it still meets the same version.
        later = one_of(unit, salt=salt, cut=large, floor=small, challengers=challengers)
        assert later == Assigned(Variant.VETERAN, before.version)


@given(unit=units, salt=salts, cut=cuts, floor=cuts, gone=st.sampled_from(LANES))
def test_dropping_a_challenger_moves_only_the_units_of_its_lane(
    unit: bytes, salt: str, cut: int, floor: int, gone: Version
) -> None:
    floor, cut = sorted((cut, floor))
    before = one_of(unit, salt=salt, cut=cut, floor=floor, challengers=LANES)
    after = one_of(unit, salt=salt, cut=cut, floor=floor, challengers=LANES, dropped=(gone,))
    if LANES[lane(unit, salt=salt, lanes=len(LANES))] == gone and before.version == gone:
        # Whether it has met the challenger is not known any more, so it is compared with nobody.
        assert after == Assigned(Variant.VETERAN, CONTROL)
    else:
        assert after == before


@pytest.mark.parametrize("dropped", [(), (SEVEN,), (SEVEN, LANES[2])])
def test_who_is_dropped_changes_nobody_elses_chances(dropped: tuple[Version, ...]) -> None:
    stage = Stage(1, 1, BasisPoints(4_000), START, LANES, BasisPoints(1_000))
    seen = Counter(
        one_of(b"user-%d" % i, cut=4_000, floor=1_000, challengers=LANES, dropped=dropped)
        for i in range(20_000)
    )
    challenger = seen[Assigned(Variant.CHALLENGER, EIGHT)]
    both = challenger + seen[Assigned(Variant.CHAMPION, CONTROL)]
    assert binomtest(challenger, both, float(stage.probability)).pvalue > 1e-6


@given(unit=units, salt=salts, cut=cuts, challengers=lanes)
def test_the_lane_says_which_challenger_a_unit_meets_if_it_meets_one(
    unit: bytes, salt: str, cut: int, challengers: tuple[Version, ...]
) -> None:
    own = challengers[lane(unit, salt=salt, lanes=len(challengers))]
    met = one_of(unit, salt=salt, cut=cut, challengers=challengers)
    assert met in (Assigned(Variant.CHALLENGER, own), Assigned(Variant.CHAMPION, CONTROL))


@given(unit=units, salt=salts)
def test_no_share_is_nobody_and_the_whole_is_everybody(unit: bytes, salt: str) -> None:
    assert one_of(unit, salt=salt, cut=0) == Assigned(Variant.CHAMPION, CONTROL)
    assert one_of(unit, salt=salt, cut=BUCKETS) == Assigned(Variant.CHALLENGER, SEVEN)


@given(unit=units, salt=salts)
def test_the_cut_belongs_to_the_champion(unit: bytes, salt: str) -> None:
    at = bucket(unit, salt=salt)
    assert one_of(unit, salt=salt, cut=at).variant is Variant.CHAMPION
    assert one_of(unit, salt=salt, cut=at + 1).variant is Variant.CHALLENGER
    assert one_of(unit, salt=salt, cut=at + 1, floor=at).variant is Variant.CHALLENGER
    assert one_of(unit, salt=salt, cut=at + 1, floor=at + 1).variant is Variant.VETERAN


@given(unit=units, salt=salts)
def test_every_unit_has_a_slot(unit: bytes, salt: str) -> None:
    assert 0 <= slot(unit, salt=salt) < SLOTS


@pytest.mark.parametrize("share", [1, 500, 2_500, 5_000, 9_999])
def test_variants_receive_their_share(share: int) -> None:
    n = 40_000
    met = Counter(one_of(b"user-%d" % i, cut=share).variant for i in range(n))
    # Two-sided, and exact: a share that is too small fails as surely as one too large.
    assert binomtest(met[Variant.CHALLENGER], n, share / BUCKETS).pvalue > 1e-6


@pytest.mark.parametrize("challenger", LANES)
def test_each_challenger_receives_an_equal_part_of_the_share(challenger: Version) -> None:
    n = 40_000
    met = Counter(one_of(b"user-%d" % i, cut=3_000, challengers=LANES).version for i in range(n))
    assert binomtest(met[challenger], n, 0.1).pvalue > 1e-6


def test_two_experiments_divide_the_same_units_independently() -> None:
    n = 40_000
    both = Counter(
        tuple(one_of(b"user-%d" % i, salt=salt, cut=5_000).variant for salt in ("one", "two"))
        for i in range(n)
    )
    assert chisquare(list(both.values())).pvalue > 1e-6
    assert len(both) == 4


@pytest.mark.parametrize("salt", ["s", "layer/a", "holdout/digits"])
def test_no_hash_of_a_unit_says_anything_of_another(salt: str) -> None:
    n = 40_000
    names = [b"user-%d" % i for i in range(n)]
    counts = Counter(
        (
            bucket(name, salt=salt) < 5_000,
            lane(name, salt=salt, lanes=2),
            slot(name, salt=salt) % 2,
            layer_bucket(name, layer="a") < 5_000,
            holdout_bucket(name, model=DIGITS) < 5_000,
        )
        for name in names
    )
    assert len(counts) == 32
    assert chisquare(list(counts.values())).pvalue > 1e-6


def test_layers_and_holdouts_of_models_are_independent_too() -> None:
    counts = Counter(
        (
            *(layer_bucket(name, layer=layer) < 5_000 for layer in ("a", "b")),
            *(holdout_bucket(name, model=model) < 5_000 for model in (DIGITS, LETTERS)),
        )
        for name in (b"user-%d" % i for i in range(40_000))
    )
    assert len(counts) == 16
    assert chisquare(list(counts.values())).pvalue > 1e-6


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 500), (2_500, 7_500), (9_999, 10_000)])
def test_a_part_of_a_layer_has_its_share_of_each_side(low: int, high: int) -> None:
    """Whatever the part, a challenger meets its share of those in it."""
    n = 40_000
    names = [b"user-%d" % i for i in range(n)]
    inside = [name for name in names if low <= layer_bucket(name, layer="a") < high]
    assert binomtest(len(inside), n, (high - low) / BUCKETS).pvalue > 1e-6
    met = sum(bucket(name, salt="trial") < 3_000 for name in inside)
    assert binomtest(met, len(inside), 0.3).pvalue > 1e-6


@pytest.mark.parametrize("share", [1, 500, 5_000])
def test_a_holdout_has_its_share(share: int) -> None:
    n = 40_000
    held = sum(holdout_bucket(b"user-%d" % i, model=DIGITS) < share for i in range(n))
    assert binomtest(held, n, share / BUCKETS).pvalue > 1e-6


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
    assert [lane(name, salt="digits-v2", lanes=2) for name in names] == [0, 1, 0, 0, 0]
    assert [lane(name, salt="digits-v2", lanes=3) for name in names] == [2, 2, 1, 1, 0]
    assert [layer_bucket(name, layer="checkout") for name in names] == [8072, 7828, 3288, 5182, 315]
    assert [holdout_bucket(name, model=DIGITS) for name in names] == [5841, 4507, 7985, 6326, 5771]


@pytest.mark.parametrize(
    ("value", "index"),
    [
        (None, 0),
        ("", 0),
        ("free", 1),
        ("pro", 2),
        (b" pro\t", 2),
        ("Pro", 0),
        ("pro,free", 0),
        ("p", 0),
        ("1", 0),
        (b"\xff", 0),
    ],
)
def test_only_a_declared_value_names_a_segment(value: str | bytes | None, index: int) -> None:
    assert segment(value, ("free", "pro")) == index
