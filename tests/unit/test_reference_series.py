"""Formulas of reference cases are read as they are meant, and nothing else is run."""

from math import exp, log, pi, sin

import pytest

from tests.reference.series import read_series


@pytest.mark.parametrize(
    ("text", "third"),
    [
        ("x_k=((7k) mod 11)/10, k=0..199", 0.3),
        ("x_k=(7k) mod 11,k=0..499", 3.0),
        ("7k mod 11, k=0..4", 3.0),
        ("x_k=1 if k^2 mod 10==4 else 0, k=0..399", 1.0),
        ("x_k=1 if k mod 2 = 1 or k>=7 else 0, k=0..9", 0.0),
        ("-1.2*log(1-(k+0.5)/5000), k=0..4999", -1.2 * log(1 - 2.5 / 5000)),
        ("2(k+1)(k-1) - 3k^2/4, k=0..4", 3.0),
        ("1e2*exp(-2 sin(pi k/3)), k=0..9", 100.0 * exp(-2.0 * sin(2.0 * pi / 3.0))),
        ("(1e9 + k), k = 0..4", 1e9 + 2),
        ("x_i = abs(i - 5), i=0...6", 3.0),
        ("5.0 x200", 5.0),
        ([1, 2, 3], 3.0),
    ],
)
def test_the_third_value(text, third):
    assert read_series(text)[2] == pytest.approx(third, rel=1e-12)


def test_the_length_is_that_of_the_range():
    assert len(read_series("k, k=1..199")) == 199
    assert len(read_series("0.5 x50")) == 50


@pytest.mark.parametrize(
    "text", ["k", "__import__('os').getcwd(), k=0..3", "k.real, k=0..3", "z+k, k=0..3"]
)
def test_anything_else_is_refused(text):
    with pytest.raises((ValueError, SyntaxError)):
        read_series(text)
