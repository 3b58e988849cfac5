"""Models saved, registered and loaded with real MLflow, as the hosts do it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.linear_model import LogisticRegression

from registry import Signature, Tensor
from registry.digest import digest_of
from registry.errors import CorruptArtifact, InvalidInput, UnreadableModel
from registry.mlflow import load, save_python_model, save_sklearn

ROWS = np.arange(40.0).reshape(10, 4)
LABELS = np.arange(10) % 2


class Doubling:
    """A model of the tests' own, which no other process can import."""

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        if inputs[0, 0] < 0:
            raise RuntimeError("bad day")
        return inputs * _FACTOR


_FACTOR = 2


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = LogisticRegression().fit(ROWS, LABELS)
    return save_sklearn(model, tmp_path / "saved", example=ROWS[:3])


def loaded(folder: Path, workdir: Path):
    return load(folder.as_uri(), digest_of(folder), workdir)


def test_a_saved_estimator_answers_as_it_did(saved: Path, tmp_path: Path) -> None:
    model = loaded(saved, tmp_path / "work")
    assert model.signature == Signature(
        inputs=(Tensor("input-0", "FP64", (-1, 4)),), outputs=(Tensor("output-0", "INT64", (-1,)),)
    )
    assert model.example is not None
    np.testing.assert_array_equal(model.example["input-0"], ROWS[:3])
    answer = model.predict({"input-0": ROWS})
    expected = LogisticRegression().fit(ROWS, LABELS).predict(ROWS)
    np.testing.assert_array_equal(answer["output-0"], expected)


def test_an_estimator_of_columns_is_fed_by_column(tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS, columns=list("abcd"))
    model = LogisticRegression().fit(frame, LABELS)
    found = loaded(save_sklearn(model, tmp_path / "s", example=frame[:2]), tmp_path / "work")
    assert found.signature is not None
    assert found.signature.inputs == tuple(Tensor(name, "FP64", (-1,)) for name in "abcd")
    # Backwards: the model knows its columns by name, and warns (here: fails) if they are not.
    answer = found.predict({name: frame[name].to_numpy() for name in "dcba"})
    np.testing.assert_array_equal(answer["output-0"], model.predict(frame))


def test_wrong_inputs_never_reach_the_model(saved: Path, tmp_path: Path) -> None:
    model = loaded(saved, tmp_path / "work")
    with pytest.raises(InvalidInput, match="FP32"):
        model.predict({"input-0": ROWS.astype(np.float32)})


def test_a_model_of_ones_own_brings_its_code_along(tmp_path: Path) -> None:
    folder = save_python_model(Doubling(), tmp_path / "saved", example=ROWS[:2])
    script = (
        "import sys; from pathlib import Path;from registry.mlflow import load;"
        "model = load(sys.argv[1], sys.argv[2], Path(sys.argv[3]));"
        "print(model.predict(model.example)['output-0'].tolist())"
    )
    arguments = (folder.as_uri(), digest_of(folder), str(tmp_path / "work"))
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == (str((ROWS[:2] * 2).tolist()), "")


class Spelling:
    """Takes texts and a parameter; answers whole, or letter by letter."""

    def predict(self, frame: pd.DataFrame, params: dict[str, str]) -> list[str]:
        return [self._joined(text, params) for text in frame["text"]]

    def predict_stream(self, row: dict[str, str], params: dict[str, str]) -> Iterator[str]:
        for letter in row["text"]:
            yield letter + params["between"]

    @staticmethod
    def _joined(text: str, params: dict[str, str]) -> str:
        return params["between"].join(text)


def test_a_model_with_parameters_and_a_stream_keeps_both(tmp_path: Path) -> None:
    example = pd.DataFrame({"text": ["abc"]})
    folder = save_python_model(
        Spelling(), tmp_path / "saved", example=example, params={"between": "-"}
    )
    model = loaded(folder, tmp_path / "work")
    asked = {"text": np.array(["xyz"], dtype=object)}
    assert model.predict(asked)["output-0"].tolist() == ["x-y-z"]
    plus = model.parameters({"between": "+", "priority": 1})
    assert model.predict(asked, plus)["output-0"].tolist() == ["x+y+z"]
    assert model.streams
    pieces = [piece["output-0"].tolist() for piece in model.predict_stream(asked, plus)]
    assert pieces == [["x+"], ["y+"], ["z+"]]
    with pytest.raises(InvalidInput, match="between"):
        model.parameters({"between": ["+"]})


def test_a_model_without_a_stream_has_none(saved: Path, tmp_path: Path) -> None:
    model = loaded(saved, tmp_path / "work")
    assert not model.streams
    assert model.parameters({"anything": 1}) == {}


def test_what_a_model_raises_reaches_the_caller(tmp_path: Path) -> None:
    folder = save_python_model(Doubling(), tmp_path / "saved", example=ROWS[:2])
    with pytest.raises(RuntimeError, match="bad day"):
        loaded(folder, tmp_path / "work").predict({"input-0": -ROWS - 1})


@pytest.mark.parametrize("damage", ["changed", "lost", "added"])
def test_files_other_than_the_registered_ones_are_never_loaded(
    saved: Path, tmp_path: Path, damage: str
) -> None:
    digest = digest_of(saved)
    match damage:
        case "changed":
            (saved / "model.pkl").write_bytes(b"something else")
        case "lost":
            (saved / "input_example.json").unlink()
        case _:
            (saved / "extra").touch()
    with pytest.raises(CorruptArtifact, match=digest):
        load(saved.as_uri(), digest, tmp_path / "work")
    assert not list((tmp_path / "work").glob("sha256-*/"))


def test_files_that_are_gone_are_said_to_be_gone(saved: Path, tmp_path: Path) -> None:
    digest = digest_of(saved)
    shutil.rmtree(saved)
    with pytest.raises(CorruptArtifact, match="gone from"):
        load(saved.as_uri(), digest, tmp_path / "work")


def test_a_good_copy_on_the_machine_is_used_again(saved: Path, tmp_path: Path) -> None:
    digest = digest_of(saved)
    load(saved.as_uri(), digest, tmp_path / "work")
    shutil.rmtree(saved)
    assert load(saved.as_uri(), digest, tmp_path / "work").predict({"input-0": ROWS})


def test_a_damaged_copy_on_the_machine_is_replaced(saved: Path, tmp_path: Path) -> None:
    digest = digest_of(saved)
    load(saved.as_uri(), digest, tmp_path / "work")
    (copy,) = (tmp_path / "work").glob("sha256-*/")
    (copy / "model.pkl").write_bytes(b"something else")
    assert load(saved.as_uri(), digest, tmp_path / "work").predict({"input-0": ROWS})
    assert digest_of(copy) == digest


def test_bytecode_beside_a_model_is_never_run(saved: Path, tmp_path: Path) -> None:
    digest = digest_of(saved)
    (saved / "__pycache__").mkdir()
    (saved / "__pycache__" / "planted.pyc").touch()
    for _ in range(2):
        load(saved.as_uri(), digest, tmp_path / "work")
        (copy,) = (tmp_path / "work").glob("sha256-*/")
        assert not (copy / "__pycache__").exists()
        (copy / "__pycache__").mkdir()


def test_a_model_without_a_signature_takes_what_comes(saved: Path, tmp_path: Path) -> None:
    said = yaml.safe_load((saved / "MLmodel").read_text())
    (saved / "MLmodel").write_text(yaml.safe_dump(said | {"signature": None}))
    model = loaded(saved, tmp_path / "work")
    assert model.signature is None
    assert model.predict({"x": ROWS})["output-0"].shape == (10,)


def test_a_model_that_does_not_load_says_why(saved: Path, tmp_path: Path) -> None:
    (saved / "model.pkl").write_bytes(b"no pickle")
    with pytest.raises(UnreadableModel, match="does not load: UnpicklingError"):
        loaded(saved, tmp_path / "work")


def test_saving_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_sklearn(LogisticRegression().fit(ROWS, LABELS), tmp_path / "a", example=ROWS[:1])
    save_python_model(Doubling(), tmp_path / "b", example=ROWS[:1])
    assert capfd.readouterr() == ("", "")
