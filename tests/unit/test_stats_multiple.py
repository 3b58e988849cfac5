"""Several hypotheses: few false rejections, and p-values turned into e-values."""

from math import exp, inf, log

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from experiments.stats.combine import calibrated_log_e, e_benjamini_hochberg, e_holm

LOG_ES = st.lists(st.floats(-50.0, 5000.0) | st.just(-inf), max_size=8)


@given(LOG_ES)
def test_rejections_are_the_largest_and_all_reach_the_bound(log_es):
    rejected = e_benjamini_hochberg(log_es, alpha=0.1)
    taken = [e for e, reject in zip(log_es, rejected, strict=True) if reject]
    left = [e for e, reject in zip(log_es, rejected, strict=True) if not reject]
    if taken:
        bound = log(len(log_es) / (0.1 * len(taken)))
        assert min(taken) >= max(bound - 1e-9, *left, -inf)


@given(LOG_ES)
def test_what_stands_alone_after_holm_is_rejected_too(log_es):
    alone = [e >= log(1.0 / 0.1) + 1e-9 for e in e_holm(log_es)]
    rejected = e_benjamini_hochberg(log_es, alpha=0.1)
    assert all(not one or other for one, other in zip(alone, rejected, strict=True))


@pytest.mark.parametrize(
    ("e", "reject"), [(19.999, False), (20.0, True), (20.001, True)], ids=["below", "at", "above"]
)
def test_the_bound_of_a_single_hypothesis_is_one_over_alpha(e, reject):
    assert e_benjamini_hochberg([log(e)], alpha=0.05) == (reject,)


def test_there_may_be_nothing_to_reject():
    assert e_benjamini_hochberg([], alpha=0.05) == ()
    assert e_benjamini_hochberg([inf, -inf], alpha=0.05) == (True, False)
    with pytest.raises(ValueError):
        e_benjamini_hochberg([1.0], alpha=0.0)
    with pytest.raises(ValueError):
        e_benjamini_hochberg([float("nan")], alpha=0.05)


@pytest.mark.parametrize("kappa", [0.1, 0.5, 0.9])
def test_a_calibrator_is_worth_one_under_the_null(kappa):
    area, _ = quad(lambda u: exp(calibrated_log_e(exp(-u), kappa=kappa) - u), 0.0, 400.0)
    assert area == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("kappa", [None, 0.5])
def test_a_smaller_p_value_is_more_evidence_without_a_jump(kappa):
    p_values = [0.0, 5e-324, 1e-100, 0.1, 0.3678, 0.3679, 0.5, 0.99899, 0.99901, 0.9999999, 1.0]
    found = [calibrated_log_e(p, kappa=kappa) for p in p_values]
    assert found == sorted(found, reverse=True)
    assert found[0] == inf
    assert found[4] == pytest.approx(found[5], abs=1e-3)
    assert found[7] == pytest.approx(found[8], abs=1e-4)
    assert found[-1] == pytest.approx(log(0.5))
