import json
from pathlib import Path

import pytest
import yaml

from registry import Signature, Tensor
from registry.errors import UnreadableModel
from registry.mlmodel import describe


def written(folder: Path, **said: object) -> Path:
    flavors = {"flavors": {"python_function": {"loader_module": "nowhere"}}}
    (folder / "MLmodel").write_text(yaml.safe_dump(flavors | said))
    return folder


def with_inputs(folder: Path, *specs: object) -> Path:
    return written(folder, signature={"inputs": json.dumps(specs), "outputs": "[]"})


def tensor(dtype: str, *shape: int, name: str | None = None) -> dict[str, object]:
    spec: dict[str, object] = {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}}
    return spec if name is None else spec | {"name": name}


def test_nameless_tensors_are_counted_from_zero(tmp_path: Path) -> None:
    signature = {
        "inputs": json.dumps([tensor("float32", -1, 64)]),
        "outputs": json.dumps([tensor("int64", -1)]),
    }
    assert describe(written(tmp_path, signature=signature)).signature == Signature(
        inputs=(Tensor("input-0", "FP32", (-1, 64)),),
        outputs=(Tensor("output-0", "INT64", (-1,)),),
    )


@pytest.mark.parametrize(
    ("dtype", "datatype"),
    [
        ("bool", "BOOL"), ("int8", "INT8"), ("int16", "INT16"), ("int32", "INT32"),
        ("int64", "INT64"), ("uint8", "UINT8"), ("uint16", "UINT16"), ("uint32", "UINT32"),
        ("uint64", "UINT64"), ("float16", "FP16"), ("float32", "FP32"), ("float64", "FP64"),
        ("str", "BYTES"), ("bytes", "BYTES"), ("object", "BYTES"),
    ],
)  # fmt: skip
def test_every_tensor_type_has_its_datatype(tmp_path: Path, dtype: str, datatype: str) -> None:
    described = describe(with_inputs(tmp_path, tensor(dtype, -1, name="x"))).signature
    assert described is not None
    assert described.inputs == (Tensor("x", datatype, (-1,)),)


@pytest.mark.parametrize(
    ("kind", "datatype"),
    [
        ("boolean", "BOOL"), ("integer", "INT32"), ("long", "INT64"), ("float", "FP32"),
        ("double", "FP64"), ("string", "BYTES"), ("binary", "BYTES"), ("datetime", "BYTES"),
    ],
)  # fmt: skip
def test_every_column_type_has_its_datatype(tmp_path: Path, kind: str, datatype: str) -> None:
    described = describe(with_inputs(tmp_path, {"type": kind, "name": "c"})).signature
    assert described is not None
    assert described.inputs == (Tensor("c", datatype, (-1,)),)


def test_a_column_of_lists_has_a_dimension_more(tmp_path: Path) -> None:
    spec = {"type": "array", "items": {"type": "float"}, "name": "c", "required": True}
    described = describe(with_inputs(tmp_path, spec)).signature
    assert described is not None
    assert described.inputs == (Tensor("c", "FP32", (-1, -1)),)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({"type": "object", "properties": {}, "name": "c"}, id="object"),
        pytest.param({"type": "map", "values": {"type": "long"}, "name": "c"}, id="map"),
        pytest.param({"type": "any", "name": "c"}, id="any"),
        pytest.param(tensor("complex128", -1, name="c"), id="complex"),
        pytest.param(tensor("datetime64[ns]", -1, name="c"), id="times"),
    ],
)
def test_what_is_no_tensor_is_refused_by_name(tmp_path: Path, spec: object) -> None:
    with pytest.raises(UnreadableModel, match=r"^c: "):
        describe(with_inputs(tmp_path, spec))


def test_a_model_may_have_no_signature(tmp_path: Path) -> None:
    assert describe(written(tmp_path)).signature is None
    assert describe(written(tmp_path, signature=None)).signature is None


def test_a_signature_may_know_no_outputs(tmp_path: Path) -> None:
    signature = {"inputs": json.dumps([tensor("bool", -1)]), "outputs": None}
    described = describe(written(tmp_path, signature=signature)).signature
    assert described == Signature((Tensor("input-0", "BOOL", (-1,)),), ())


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "flavors: [", "flavors: {}", "flavors: {sklearn: {}}", "\x00",
        "{flavors: {python_function: {}}, signature: {inputs: '{'}}",
        "{flavors: {python_function: {}}, signature: {inputs: '[1]'}}",
        "{flavors: {python_function: {}}, signature: {inputs: '[{}]'}}",
        "{flavors: {python_function: {}}, signature: {inputs: '7'}}",
        "{flavors: {python_function: {}}, signature: text}",
        "{flavors: {python_function: {}}, signature: {inputs: "
        "'[{\"type\": \"tensor\", \"tensor-spec\": {\"dtype\": \"?!\", \"shape\": []}}]'}}",
    ],
)  # fmt: skip
def test_an_mlmodel_file_that_makes_no_sense_is_unreadable(tmp_path: Path, text: str) -> None:
    (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(UnreadableModel):
        describe(tmp_path)


def test_two_inputs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel, match="same name"):
        describe(with_inputs(tmp_path, tensor("bool", -1, name="x"), tensor("bool", -1, name="x")))


def test_a_folder_without_an_mlmodel_file_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(UnreadableModel, match="no MLmodel file"):
        describe(tmp_path)
