"""A shadow before the ramp, or in its place."""

import pytest

from experiments.model import BasisPoints, Shadow
from experiments.spec import WATCHED_ERRORS, as_dict, read_declaration, spec_hash
from tests.unit.written import FILE, MINIMAL, only_problem, problems

ALONE = """\
name: digits-v2
model: digits
challenger: 2
unit: request
mode: shadow
shadow: {share: 20%, agreement: 95%}
"""


def test_users_meet_the_challenger_at_once_unless_the_file_says_otherwise():
    declaration = read_declaration(MINIMAL)
    assert declaration.shadow is None
    assert not declaration.shadow_only
    assert declaration.gates == 1


def test_a_share_is_enough():
    declaration = read_declaration(FILE + "shadow: 20%\n")
    assert declaration.shadow == Shadow(BasisPoints(2000), 500, None, 0.01)
    assert declaration.gates == 4


def test_what_it_says_is_read():
    text = "shadow: {share: 100%, pairs: 2000, agreement: 99.5%, tolerance: 0}\n"
    assert read_declaration(FILE + text).shadow == Shadow(BasisPoints(10_000), 2000, 0.995, 0.0)


def test_in_place_of_a_ramp_there_is_neither_share_nor_goal():
    declaration = read_declaration(ALONE)
    assert declaration.shadow_only
    assert (declaration.ramp, declaration.goal, declaration.gates) == ((), None, 1)
    assert declaration.guardrails == (WATCHED_ERRORS,)
    assert declaration.asked == declaration.guardrails


def test_a_file_without_a_shadow_keeps_the_hash_that_it_had():
    live = read_declaration(MINIMAL)
    assert "shadow" not in as_dict(live)
    assert "mode" not in as_dict(live)
    assert spec_hash(read_declaration(MINIMAL + "mode: live\n")) == spec_hash(live)
    assert spec_hash(read_declaration(MINIMAL + "shadow: 5%\n")) != spec_hash(live)


@pytest.mark.parametrize(
    ("line", "field", "message"),
    [
        ("shadow: 0%", "shadow.share", "must be above 0% and at most 100%, not 0%"),
        ("shadow: 101%", "shadow.share", "must be above 0% and at most 100%, not 101%"),
        ("shadow: 0.2", "shadow.share", "write 20%"),
        ("shadow: yes", "shadow.share", "must be a percentage"),
        ("shadow: [20%]", "shadow", "fields with values"),
        ("shadow: {pairs: 500}", "shadow.share", "is required"),
        ("shadow: {share: 5%, pair: 1}", "shadow.pair", "did you mean pairs?"),
        ("shadow: {share: 5%, pairs: 0}", "shadow.pairs", "at least 1"),
        ("shadow: {share: 5%, pairs: 10000001}", "shadow.pairs", "at most 10000000"),
        ("shadow: {share: 5%, pairs: 1.5}", "shadow.pairs", "a whole number"),
        ("shadow: {share: 5%, agreement: 0.95}", "shadow.agreement", "write 95%"),
        ("shadow: {share: 5%, agreement: 0%}", "shadow.agreement", "above 0%"),
        ("shadow: {share: 5%, agreement: 100%}", "shadow.agreement", "can never be shown"),
        ("shadow: {share: 5%, tolerance: -0.1}", "shadow.tolerance", "at least 0"),
        ("shadow: {share: 5%, tolerance: 1%}", "shadow.tolerance", "must be a number"),
        ("mode: dark", "mode", "use 'live' or 'shadow'"),
    ],
)
def test_what_cannot_be_is_refused_with_its_place(line, field, message):
    problem = only_problem(MINIMAL + line + "\n")
    assert (problem.field, problem.line) == (field, 7)
    assert message in problem.message


def test_a_shadow_in_place_of_a_ramp_needs_its_share():
    problem = only_problem(ALONE.replace("shadow: {share: 20%, agreement: 95%}\n", ""))
    assert (problem.field, problem.message) == (
        "shadow",
        "is required with mode: shadow, such as `shadow: 20%`",
    )


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("share: [5%]", "share"),
        ("goal: {metric: correct, direction: increase, min_effect: 1%}", "goal"),
        ("limits: {min_units: 100}", "limits.min_units"),
        ("failover: {budget: 20%}", "failover"),
        ("horizon: {units: 400}", "horizon"),
        ("holdback: {share: 5%, for: 1h}", "holdback"),
        ("segments: {header: x-country, values: [de]}", "segments"),
        (
            "guardrails: [{metric: satisfaction, kind: binary, worse: lower, max_ratio: 2}]",
            "guardrails[0].metric",
        ),
    ],
)
def test_what_needs_users_has_no_place_where_there_are_none(line, field):
    problem = only_problem(f"{ALONE}{line}\n")
    assert (problem.field, problem.line) == (field, 7)
    assert "with mode: shadow nobody meets the challenger" in problem.message


def test_pairs_have_no_quantiles_to_compare():
    guardrail = "guardrails: [{metric: latency_ms, quantile: 99%, max_ratio: 2}]"
    problem = only_problem(f"{ALONE}{guardrail}\n")
    assert (problem.field, problem.message) == (
        "guardrails[0].quantile",
        "pairs of answers are compared by a limit: use above",
    )


def test_a_mode_that_is_wrong_makes_nothing_else_look_wrong():
    found = problems(ALONE.replace("mode: shadow", "mode: dark"))
    assert [problem.field for problem in found] == ["mode"]
