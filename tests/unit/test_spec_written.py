"""Declarations in the file's own words: written, read back and hashed."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.errors import InvalidFile
from experiments.goal_form import GuardrailForm
from experiments.metric_form import MetricForm
from experiments.spec import as_dict, read_declaration, spec_hash
from tests.unit.declared import declarations
from tests.unit.written import FILE, changed, problems, to_yaml

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


def test_the_hash_is_of_what_is_declared_not_of_how_it_is_written():
    plain = read_declaration(FILE)
    rewritten = changed("10s", "10000ms").replace("5%, 25%", "5.00%,   25.0%") + "# note\n"
    assert spec_hash(read_declaration(rewritten)) == spec_hash(plain)
    assert spec_hash(plain).startswith("sha256:")


def test_the_hash_of_the_example_never_changes():
    assert spec_hash(read_declaration(FILE)) == (
        "sha256:dcab8c70101e160e34663e4039c08ec8196deb097ac7fca7c7855d98f881ad3a"
    )


def test_a_declaration_is_shown_in_the_words_of_the_file_with_every_default():
    assert as_dict(read_declaration(FILE)) == {
        "name": "digits-v2",
        "model": "digits",
        "challengers": [2],
        "unit": "header:x-unit-id",
        "share": ["5%", "25%", "50%"],
        "goal": {
            "metric": "correct",
            "kind": "binary",
            "per": "unit",
            "direction": "increase",
            "min_effect": "1%",
        },
        "guardrails": [
            {
                "metric": "error_rate",
                "kind": "count",
                "per": "unit",
                "worse": "higher",
                "max_ratio": 2.0,
                "negligible": "1%",
            },
            {
                "metric": "latency_ms",
                "kind": "latency",
                "above": 250,
                "per": "unit",
                "worse": "higher",
                "max_ratio": 1.5,
                "negligible": "1%",
            },
        ],
        "limits": {"min_units": 200, "min_runtime": "10s", "max_runtime": "7d"},
        "alpha": {"harm": 0.05, "promote": 0.025, "sample_ratio": 0.001},
        "deadline": "2s",
    }


EVERYTHING = """\
name: answers-v8
model: answers
challengers: [7, 8]
unit: header:x-unit-id
share: [5%, 47.5%]
goal: {metric: stars, kind: score, range: [1, 5], step: 1.0, per: request, window: 24h,
  direction: increase, min_effect: 1%, baseline: 3.9, spread: 1.1}
guardrails:
  - {metric: tokens, kind: ratio, worse: either, max_difference: 20}
  - {metric: minutes, kind: mean, cap: 600, covariate: true, worse: lower, max_ratio: 1.05}
  - {metric: latency_ms, quantile: 99%, max_ratio: 1.2, baseline: 250}
horizon: {units: 100000}
failover: {budget: 20%}
holdback: {share: 5%, for: 24h}
segments: {header: x-country, values: [de, 'no']}
"""


def test_every_way_to_measure_is_shown_in_the_words_of_the_file():
    shown = as_dict(read_declaration(EVERYTHING))
    assert shown["challengers"] == [7, 8]
    assert shown["goal"] == {
        "metric": "stars",
        "kind": "score",
        "range": [1.0, 5.0],
        "step": 1.0,
        "per": "request",
        "window": "1d",
        "direction": "increase",
        "min_effect": "1%",
        "baseline": 3.9,
        "spread": 1.1,
    }
    watched, tokens, minutes, latency = shown["guardrails"]
    assert watched["metric"] == "error_rate"
    assert (tokens["per"], tokens["max_difference"], "max_ratio" in tokens) == (
        "request",
        20,
        False,
    )
    assert (minutes["cap"], minutes["covariate"]) == ([-600.0, 600.0], True)
    assert (latency["quantile"], latency["baseline"]) == ("99%", 250.0)
    assert "negligible" not in latency
    assert shown["horizon"] == {"units": 100_000}
    assert shown["failover"] == {"budget": "20%"}
    assert shown["holdback"] == {"share": "5%", "for": "1d"}
    assert shown["segments"] == {"header": "x-country", "values": ["de", "no"]}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_an_experiment(path):
    declaration = read_declaration(path.read_bytes())
    assert read_declaration(to_yaml(declaration)) == declaration


@settings(max_examples=20, deadline=None)
@given(declarations())
def test_every_declaration_is_read_back_as_it_was_written(declaration):
    assert read_declaration(to_yaml(declaration)) == declaration


@settings(max_examples=10, deadline=None)
@given(declarations(), declarations())
def test_equal_hashes_mean_equal_declarations(one, other):
    assert (spec_hash(one) == spec_hash(other)) == (one == other)


@settings(max_examples=25, deadline=None)
@given(
    st.binary(max_size=200)
    | st.text(max_size=200)
    | st.text(alphabet="ab:-[]{}&*!|>'\"%@`,?#\\ \n\t0.~<=", max_size=120)
)
def test_whatever_is_sent_it_is_a_declaration_or_problems_with_their_place(raw):
    for problem in problems(raw):
        assert problem.line >= 1
        assert problem.column >= 1
        assert problem.message
        str(problem).encode()


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([FILE, EVERYTHING]),
    st.integers(0, len(EVERYTHING) - 1),
    st.integers(0, 12),
    st.text(max_size=6),
)
def test_an_edited_example_is_a_declaration_or_problems_with_their_place(
    example, start, length, insert
):
    text = example[:start] + insert + example[start + length :]
    try:
        declaration = read_declaration(text)
    except InvalidFile:
        assert all(problem.line >= 1 and problem.column >= 1 for problem in problems(text))
    else:
        assert read_declaration(to_yaml(declaration)) == declaration


PLACES = [
    ["name"],
    ["challengers"],
    ["share", 0],
    *(["goal", field] for field in MetricForm.model_fields),
    *(["goal", field] for field in ("direction", "min_effect", "baseline", "spread")),
    *(["guardrails", rail, field] for rail in range(3) for field in GuardrailForm.model_fields),
    ["limits"],
    ["horizon", "units"],
    ["failover", "budget"],
    ["holdback", "for"],
    ["segments", "values", 0],
]
NUMBERS = st.sampled_from([0, 1, -1, 7, 0.5, 1e300])
NAMES = st.sampled_from(["m", "stars", "tokens", "latency_ms", "error_rate"])
KINDS = st.sampled_from(["binary", "mean", "score", "ratio", "latency", "count"])
TEXTS = st.sampled_from(["5%", "99%", "1h", "9d", "unit", "request", "lower", "increase"])
OTHERS = st.sampled_from([None, True, [], [1, 5], [5, 1], ["a"], {}, {"metric": "m"}])
WORDS = st.one_of(NUMBERS, NAMES, KINDS, TEXTS, OTHERS)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PLACES), WORDS), min_size=1, max_size=4))
def test_whatever_a_field_says_it_is_a_declaration_or_problems_with_their_place(changes):
    data = yaml.safe_load(EVERYTHING)
    for (*way, last), words in changes:
        there = data
        for step in way:
            there = there[step]
        if isinstance(there, dict | list):
            there[last] = words
    text = yaml.safe_dump(data)
    try:
        declaration = read_declaration(text)
    except InvalidFile:
        assert all(problem.line >= 1 and problem.message for problem in problems(text))
    else:
        assert read_declaration(to_yaml(declaration)) == declaration
