"""YAML that is refused, and what is left of it."""

import pytest

from experiments.source import LARGEST
from experiments.spec import read_declaration
from tests.unit.written import FILE, MINIMAL, changed, only_problem, problems


def test_a_field_given_twice_is_refused_at_the_second():
    problem = only_problem(FILE + "model: digits\n")
    assert (problem.field, problem.line, problem.column) == ("model", 12, 1)
    assert problem.message == "is given twice, first in line 2"


def test_aliases_are_refused():
    text = changed("guardrails:", "guardrails: &rails").replace("limits:", "limits: *rails\n#")
    anchor, alias = problems(text)
    assert (anchor.field, anchor.message) == ("guardrails", "anchors are not allowed")
    assert (alias.field, alias.line, alias.column) == ("limits", 10, 9)
    assert "aliases are not allowed" in alias.message


def test_a_bomb_of_aliases_is_refused_without_being_expanded():
    lines = ["a0: &a0 [x, x]"] + [
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 60)
    ]
    assert any("aliases" in problem.message for problem in problems("\n".join(lines)))


@pytest.mark.parametrize(
    "value", ["!!python/object/apply:os.system ['true']", "!!str 2", "!custom 2", "!!set {a, b}"]
)
def test_tags_are_refused_and_construct_nothing(value):
    problem = only_problem(changed("challenger: 2", f"challenger: {value}"))
    assert (problem.field, problem.line, problem.column) == ("challenger", 3, 13)
    assert problem.message == "tags are not allowed"


@pytest.mark.parametrize("word", ["on", "no", "yes", "off", "y", "1_0", "0x1f", "2024-01-01"])
def test_words_that_older_yaml_takes_for_something_else_stay_text(word):
    assert read_declaration(MINIMAL.replace("model: digits", f"model: {word}")).model == word


@pytest.mark.parametrize("text", ["", "   \n", "# nothing but a comment\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(text):
    assert "empty" in only_problem(text).message


@pytest.mark.parametrize("text", ["- a", "text", "3", "[1, 2]", "true"])
def test_a_file_that_is_not_fields_with_values_is_refused(text):
    problem = only_problem(text)
    assert (problem.field, problem.line, problem.column) == ("", 1, 1)
    assert "fields with values" in problem.message


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("name: a\n\tmodel: b", 2, 1, "tabs"),
        ("name: a\nlimits:\n\t- b", 3, 1, "tabs"),
        ("name: [1, 2", 1, 12, "flow sequence"),
        ("name: a\nmodel: b: c", 2, 9, "mapping values"),
        ("name: 'a", 1, 9, "quoted scalar"),
        ("name: a\n--- \nname: b", 2, 1, "more than one document"),
        ("name: a\nmodel: \x07", 2, 8, "character"),
        (b"name: a\nmodel: \xff\xfe", 2, 8, "UTF-8"),
        ("name: a\nmodel: \ud800", 2, 8, "UTF-8"),
        ('name: a\nmodel: "\\ud800"', 2, 8, "surrogate"),
        ('name: a\nmodel: "\\UFFFFFFFF"', 2, 11, "number"),
        (f"%YAML {'9' * 5000}.1\n---\nname: a", 1, 7, "number"),
        ("name: a\n? [b]\n: c", 2, 3, "name of a field"),
        (f"name: a\nmodel: {'[' * 60_000}", 2, 16, "nested"),
        (f"name: a\nmodel: {'{a: ' * 15_000}", 2, 40, "nested"),
        (f"name: [{'a,' * 30_000}]", 1, 4000, "too many values"),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_place(text, line, column, message):
    problem = only_problem(text)
    assert (problem.line, problem.column) == (line, column)
    assert message in problem.message


def test_the_size_of_a_file_is_bounded():
    padding = LARGEST - len(FILE)
    read_declaration(FILE + "#" * padding)
    problem = only_problem(FILE + "#" * (padding + 1))
    assert problem.message == "the file is larger than 64 KiB"
