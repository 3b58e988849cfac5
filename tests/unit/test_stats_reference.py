"""The engine agrees with published tables and with other packages."""

import json
from copy import deepcopy
from pathlib import Path

import pytest

import tests.reference
from tests.reference.__main__ import main
from tests.reference.check import check, check_file, report

FILES = sorted(Path(tests.reference.__file__).with_name("cases").glob("*.json"))
CASES = [case for file in FILES for case in json.loads(file.read_text())["cases"]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_engine_agrees_with_reference(case):
    result = check(case)
    assert result.applicable
    assert result.mismatches == ()


def test_a_wrong_number_is_a_mismatch_and_fails_the_command(tmp_path, capsys):
    wrong = deepcopy(next(case for case in CASES if case["area"] == "mixture_tuning"))
    wrong["expected"]["omega_exact"][0] *= 1.0 + 1e-8
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps({"cases": [wrong]}))
    assert main([str(path)]) == 1
    assert "omega_exact: got" in capsys.readouterr().out


def test_a_case_that_cannot_be_answered_is_a_mismatch_and_hides_no_other(tmp_path, capsys):
    odd = deepcopy(CASES[0])
    odd["inputs"] = {"unheard of": 1}
    path = tmp_path / "odd.json"
    path.write_text(json.dumps({"cases": [odd, CASES[1]]}))
    assert main([str(path)]) == 1
    told = capsys.readouterr().out
    assert f"{odd['id']}: " in told
    assert "KeyError" in told
    assert f"{CASES[1]['id']}: " not in told


@pytest.mark.parametrize(
    ("text", "why"), [(None, "No such file"), ("x", "Expecting value"), ("{}", "a list `cases`")]
)
def test_a_file_without_cases_is_said_to_have_none(tmp_path, capsys, text, why):
    path = tmp_path / "cases.json"
    if text is not None:
        path.write_text(text)
    assert main([str(path)]) == 2
    assert why in capsys.readouterr().err


def test_an_area_without_adapter_is_not_applicable_rather_than_right():
    result = check({"id": "x", "area": "unheard of", "inputs": {}, "expected": {"y": 1.0}})
    assert not result.applicable
    assert "unheard of" in report([result])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_area_of_the_file_is_covered(file):
    assert all(result.applicable for result in check_file(file))
