"""The normal mixture: tests and radii belong together, far out as well."""

from math import exp, inf, isclose, isfinite, log, pi, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm, t

from experiments.stats import normal
from experiments.stats.contrast import Estimate, estimate_log_e
from experiments.stats.mixture import (
    normal_mixture_log_e,
    normal_mixture_radius,
    one_sided_bound_p_value,
    one_sided_radius_bound,
    shrunk_estimate,
    t_mixture_log_e,
    t_mixture_one_sided_log_e,
    t_mixture_radius,
)
from experiments.stats.normal import neg_log10_p, normal_p_value, student_log_cdf
from experiments.stats.stages import Side
from experiments.stats.tuning import approximate_omega, omega_star

zs = st.floats(-1e4, 1e4)
ws = st.floats(1e-6, 1e9)
alphas = st.floats(1e-6, 0.4)
sides = st.sampled_from(list(Side))
few = settings(max_examples=25, deadline=None)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("w", [0.01, 1.0, 8.0, 1000.0])
def test_the_expected_evidence_under_the_null_is_one(side, w):
    def weighted(z):
        return exp(normal_mixture_log_e(z, w, side) - 0.5 * z * z) / sqrt(2.0 * pi)

    reach = 40.0 * (1.0 + w) ** 0.5
    found = quad(weighted, -reach, reach, limit=500, points=[0.0])[0]
    assert isclose(found, 1.0, rel_tol=1e-6)


@few
@given(ws, alphas, sides)
def test_at_the_radius_the_evidence_is_just_enough(w, alpha, side):
    radius = normal_mixture_radius(w, alpha=alpha, side=side)
    z = -radius if side is Side.LESS else radius
    assert isclose(normal_mixture_log_e(z, w, side), log(1.0 / alpha), rel_tol=1e-8)


@few
@given(ws, alphas)
def test_the_closed_bound_lies_between_the_one_sided_radius_and_little_more(w, alpha):
    exact = normal_mixture_radius(w, alpha=alpha, side=Side.GREATER)
    bound = one_sided_radius_bound(w, alpha=alpha)
    assert exact <= bound * (1.0 + 1e-9)
    assert isclose(one_sided_bound_p_value(bound, w), alpha, rel_tol=1e-6)


@few
@given(zs, ws)
def test_the_sides_mirror_each_other(z, w):
    greater = normal_mixture_log_e(z, w, Side.GREATER)
    assert greater == normal_mixture_log_e(-z, w, Side.LESS)
    assert isfinite(greater)
    assert normal_mixture_log_e(z, w) == normal_mixture_log_e(-z, w)


@few
@given(st.floats(-50.0, 50.0), st.floats(0.01, 1e4), st.sampled_from([2, 10, 126]))
def test_few_groups_are_less_evidence_on_either_side(z, w, degrees):
    shrinkage = 1.0 / (1.0 + w)
    one = t_mixture_one_sided_log_e(z, degrees=degrees, shrinkage=shrinkage)
    other = t_mixture_one_sided_log_e(-z, degrees=degrees, shrinkage=shrinkage)
    both = t_mixture_log_e(z * z, degrees=degrees, shrinkage=shrinkage)
    top = max(one, other)
    assert isclose(top + log((exp(one - top) + exp(other - top)) / 2.0), both, abs_tol=1e-9)


def test_with_many_degrees_of_freedom_t_becomes_z():
    for side in Side:
        z = estimate_log_e(Estimate(3.0, 1.0), 8.0, side)
        assert isclose(estimate_log_e(Estimate(3.0, 1.0, 1e8), 8.0, side), z, rel_tol=1e-6)


@pytest.mark.parametrize("side", list(Side))
def test_the_t_radius_is_where_the_evidence_is_just_enough_or_infinite(side):
    radius = t_mixture_radius(degrees=30, shrinkage=0.1, alpha=0.05, side=side)
    t_value = -radius if side is Side.LESS else radius
    assert isclose(estimate_log_e(Estimate(t_value, 1.0, 30), 9.0, side), log(20.0), rel_tol=1e-9)
    assert t_mixture_radius(degrees=1, shrinkage=0.5, alpha=0.01, side=side) == inf


def test_tails_keep_their_digits_where_one_minus_the_distribution_is_nothing():
    assert isclose(normal_p_value(20.0), 2.0 * float(norm.sf(20.0)), rel_tol=1e-12)
    assert normal_p_value(45.0) == 0.0
    assert 440.0 < neg_log10_p(45.0) < 443.0
    assert isfinite(neg_log10_p(1e200))
    assert isclose(neg_log10_p(1e4 * (1.0 + 1e-12)), neg_log10_p(1e4), rel_tol=1e-9)


@pytest.mark.parametrize("degrees", [1.0, 7.5, 126.0])
def test_both_ways_to_the_tail_of_students_t_agree(monkeypatch, degrees):
    xs = [-1.5, -4.0, -30.0]
    direct = [student_log_cdf(x, degrees=degrees) for x in xs]
    assert direct == pytest.approx([float(t.logcdf(x, degrees)) for x in xs], rel=1e-10)
    monkeypatch.setattr(normal, "_SMALLEST", 1.0)
    assert [student_log_cdf(x, degrees=degrees) for x in xs] == pytest.approx(direct, rel=1e-10)


def test_an_estimate_shrinks_more_the_less_is_known():
    near, sd = shrunk_estimate(0.02, 0.001, 0.01)
    far, _ = shrunk_estimate(0.02, 0.1, 0.01)
    assert 0.0 < far < 0.001 < 0.019 < near < 0.02
    assert sd < 0.001


def test_the_radius_is_least_at_omega_star():
    for alpha in (0.05, 0.01):
        best = normal_mixture_radius(omega_star(alpha), alpha=alpha)
        assert best < normal_mixture_radius(approximate_omega(alpha), alpha=alpha) < best * 1.001
        assert best < normal_mixture_radius(1.1 * omega_star(alpha), alpha=alpha)


@pytest.mark.parametrize("w", [0.0, -1.0, inf])
def test_a_mixture_needs_a_width(w):
    with pytest.raises(ValueError, match="positive"):
        normal_mixture_log_e(1.0, w)
