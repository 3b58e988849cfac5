from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from registry import Tensor
from registry.errors import InvalidInput
from registry.loaded import PADDED_BYTES, LoadedModel, named
from registry.mlmodel import Description, Field
from registry.pyfunc import Parameters


def array_field(name: str | None, kind: str, *shape: int) -> Field:
    datatype = "FP64" if kind == "float64" else "BYTES"
    return Field(Tensor(name or "input-0", datatype, shape), name, kind, column=False)


def column(name: str | None, kind: str, *, required: bool = True, place: int = 0) -> Field:
    datatype = {"double": "FP64", "string": "BYTES", "binary": "BYTES", "datetime": "BYTES"}[kind]
    public = name or f"input-{place}"
    return Field(Tensor(public, datatype, (-1,)), name, kind, column=True, required=required)


OUTPUT = (Field(Tensor("output-0", "FP64", (-1,)), None, "float64", column=False),)


class Recorder:
    """Keeps what the model was given."""

    def __call__(self, given: object) -> np.ndarray:
        self.given = given
        return np.zeros(2)


def given_to(*fields: Field, **inputs: np.ndarray) -> object:
    recorder = Recorder()
    model = LoadedModel(Description(fields, OUTPUT), recorder)
    model.predict({name.replace("_", "-"): array for name, array in inputs.items()})
    return recorder.given


def test_a_model_with_one_nameless_tensor_is_given_the_array() -> None:
    rows = np.ones((2, 3))
    assert given_to(array_field(None, "float64", -1, 3), input_0=rows) is rows


def test_a_model_with_named_tensors_is_given_them_by_name() -> None:
    x, y = np.ones(2), np.zeros((2, 1))
    fields = array_field("x", "float64", -1), array_field("y", "float64", -1, 1)
    given = given_to(*fields, y=y, x=x)
    assert isinstance(given, dict)
    assert given["x"] is x
    assert given["y"] is y


def test_a_model_with_columns_is_given_a_frame_in_the_order_of_its_signature() -> None:
    given = given_to(
        column("b", "double"),
        column("a", "string"),
        a=np.array([b"x", "y"], dtype=object),
        b=np.array([1.0, 2.0]),
    )
    pd.testing.assert_frame_equal(given, pd.DataFrame({"b": [1.0, 2.0], "a": ["x", "y"]}))


def test_nameless_columns_are_numbered() -> None:
    fields = column(None, "double", place=0), column(None, "double", place=1)
    given = given_to(*fields, input_0=np.ones(2), input_1=np.zeros(2))
    assert list(given.columns) == [0, 1]


def test_an_optional_column_may_be_left_out() -> None:
    fields = column("a", "double"), column("b", "double", required=False)
    assert list(given_to(*fields, a=np.ones(2)).columns) == ["a"]


def test_times_come_as_text_and_arrive_as_times() -> None:
    given = given_to(
        column("at", "datetime"), at=np.array(["2026-01-01T12:00:00", "2026-01-02T00:00:00"])
    )
    assert given["at"].dt.day.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("kind", "sent", "arrives"),
    [
        ("string", b"x", "x"),
        ("string", "x", "x"),
        ("binary", "x", b"x"),
        ("binary", b"\xff", b"\xff"),
    ],
)
def test_bytes_arrive_as_the_column_holds_them(kind: str, sent: object, arrives: object) -> None:
    given = given_to(column("c", kind), c=np.array([sent, sent], dtype=object))
    assert given["c"].tolist() == [arrives, arrives]


@pytest.mark.parametrize(("kind", "arrives"), [("str", "U"), ("bytes", "S")])
def test_bytes_arrive_as_the_tensor_holds_them(kind: str, arrives: str) -> None:
    sent = np.array(["x", b"y"], dtype=object)
    given = given_to(array_field(None, kind, -1), input_0=sent)
    assert isinstance(given, np.ndarray)
    assert given.dtype.kind == arrives


def test_objects_arrive_as_they_were_sent() -> None:
    given = given_to(
        array_field(None, "object", -1), input_0=np.array(["x", b"\xff"], dtype=object)
    )
    assert isinstance(given, np.ndarray)
    assert given.tolist() == ["x", b"\xff"]


@pytest.mark.parametrize(
    ("field", "sent"),
    [
        (column("c", "string"), [b"\xff"]),
        (array_field("c", "str", -1), [b"\xff"]),
        (column("c", "datetime"), ["yesterday"]),
        (array_field("c", "str", -1), ["x" * (PADDED_BYTES // 400), *["y"] * 100]),
    ],
    ids=["no text in a column", "no text in a tensor", "no time", "too much memory"],
)
def test_what_cannot_be_put_in_the_models_form_is_the_clients_fault(
    field: Field, sent: list[object]
) -> None:
    with pytest.raises(InvalidInput):
        given_to(field, c=np.array(sent, dtype=object))


def test_a_column_may_come_as_one() -> None:
    given = given_to(column("a", "double"), column("b", "double"), a=np.ones((2, 1)), b=np.ones(2))
    assert given["a"].tolist() == [1, 1]
    with pytest.raises(InvalidInput, match=r"shape \[2, 2\]"):
        given_to(column("a", "double"), a=np.ones((2, 2)))


TWO = (array_field("x", "float64", -1, 2), array_field("y", "float64", -1))


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({}, "input 'x' is missing"),
        ({"x": np.ones((1, 2))}, "input 'y' is missing"),
        ({"x": np.ones((1, 2)), "z": np.ones(1)}, "no input is called 'z'"),
        ({"x": np.ones((1, 2), dtype="f4"), "y": np.ones(1)}, "is FP32, but the model takes FP64"),
        ({"x": np.ones((1, 2), dtype="c16"), "y": np.ones(1)}, "is complex128, but"),
        ({"x": np.ones(2), "y": np.ones(1)}, r"has the shape \[2\], but the model takes \[-1, 2\]"),
        ({"x": np.ones((1, 3)), "y": np.ones(1)}, r"shape \[1, 3\]"),
        ({"x": np.ones((1, 2)), "y": np.ones(2)}, "'y' is a batch of 2, others of 1"),
    ],
)
def test_an_input_that_is_wrong_is_named(inputs: dict[str, np.ndarray], says: str) -> None:
    model = LoadedModel(Description(TWO, OUTPUT), Recorder())
    with pytest.raises(InvalidInput, match=says):
        model.predict(inputs)


def test_the_byte_order_of_an_input_does_not_matter() -> None:
    model = LoadedModel(Description(TWO, OUTPUT), Recorder())
    model.predict({"x": np.ones((1, 2), dtype=">f8"), "y": np.ones(1)})


def test_a_model_without_a_signature_is_given_whatever_comes() -> None:
    recorder = Recorder()
    model = LoadedModel(Description(None, None), recorder)
    rows = np.ones(2, dtype="f4")
    assert list(model.predict({"anything": rows})) == ["output-0"]
    assert recorder.given is rows
    model.predict({"a": rows, "b": rows})
    assert recorder.given == {"a": rows, "b": rows}


def test_what_a_model_raises_is_its_own() -> None:
    def fails(_: object) -> None:
        raise ZeroDivisionError("the model's own")

    with pytest.raises(ZeroDivisionError, match="own"):
        LoadedModel(Description(None, None), fails).predict({"x": np.ones(1)})


@pytest.mark.parametrize(
    ("result", "names", "expected"),
    [
        (np.array([1, 2]), [], {"output-0": [1, 2]}),
        (np.array([1, 2]), ["label"], {"label": [1, 2]}),
        ([1, 2], ["label"], {"label": [1, 2]}),
        (pd.Series([1, 2]), ["label"], {"label": [1, 2]}),
        (pd.DataFrame({"a": [1], "b": ["x"]}), ["a", "b"], {"a": [1], "b": ["x"]}),
        (pd.DataFrame([[1, 2]]), ["a", "b"], {"a": [1], "b": [2]}),
        (pd.DataFrame([[1, 2]]), ["whole"], {"whole": [[1, 2]]}),
        (pd.DataFrame({"a": [1]}), [], {"a": [1]}),
        ({"a": [1], "b": np.array([2])}, ["a", "b"], {"a": [1], "b": [2]}),
        ([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], [], {"a": [1, 2], "b": ["x", "y"]}),
        ((np.array([1]), np.array([2])), ["a"], {"a": [1], "output-1": [2]}),
        (csr_matrix([[0, 1]]), [], {"output-0": [[0, 1]]}),
        (pd.Series(pd.to_datetime(["2026-01-01"])).astype("datetime64[s]"), [],
         {"output-0": ["2026-01-01T00:00:00"]}),
    ],
)  # fmt: skip
def test_whatever_a_model_gives_becomes_named_arrays(
    result: object, names: list[str], expected: dict[str, list[object]]
) -> None:
    assert {name: array.tolist() for name, array in named(result, names).items()} == expected


@pytest.mark.parametrize(
    ("fields", "saved", "expected"),
    [
        ([array_field(None, "float64", -1, 2)], np.ones((1, 2)), {"input-0": [[1.0, 1.0]]}),
        ([array_field(None, "float64", -1, 2)], [[1, 1]], {"input-0": [[1.0, 1.0]]}),
        ([array_field("x", "float64", -1)], {"x": np.ones(1)}, {"x": [1.0]}),
        ([column("a", "double"), column("b", "string")], pd.DataFrame({"a": [1.0], "b": ["x"]}),
         {"a": [1.0], "b": ["x"]}),
        ([column(None, "double"), column(None, "double", place=1)], pd.DataFrame([[1.0, 2.0]]),
         {"input-0": [1.0], "input-1": [2.0]}),
        ([column("a", "double")], {"a": 1}, {"a": [1.0]}),
        ([column("a", "double")], {"b": 1}, None),
        ([column("a", "double")], {"a": "one"}, None),
    ],
)  # fmt: skip
def test_a_saved_example_becomes_tensors_or_none(
    fields: list[Field], saved: object, expected: dict[str, list[object]] | None
) -> None:
    example = LoadedModel(Description(tuple(fields), OUTPUT), Recorder(), saved).example
    if expected is None:
        assert example is None
    else:
        assert example is not None
        assert {name: array.tolist() for name, array in example.items()} == expected


# ---- parameters and streams


class Spec:
    """mlflow's ParamSpec, as far as it is used."""

    name = "times"

    @staticmethod
    def validate_param_spec(value: object, _spec: object) -> float:
        if not isinstance(value, int):
            raise TypeError(value)
        return float(value)


class Schema:
    """mlflow's ParamSchema of one parameter."""

    params = (Spec,)


def test_a_model_is_given_those_parameters_that_it_declares() -> None:
    model = LoadedModel(Description(None, None), Recorder(), parameters=Parameters(Schema()))
    assert model.parameters({"times": 3, "priority": 1}) == {"times": 3.0}
    assert model.parameters({"times": None}) == {}
    with pytest.raises(InvalidInput, match="'times' is 'three'"):
        model.parameters({"times": "three"})
    assert LoadedModel(Description(None, None), Recorder()).parameters({"times": 3}) == {}


def test_parameters_go_beside_the_input() -> None:
    def scaled(given: np.ndarray, params: dict[str, float]) -> np.ndarray:
        return given * params["times"]

    model = LoadedModel(Description(None, None), scaled)
    assert model.predict({"x": np.ones(1)}, {"times": 3.0})["output-0"].tolist() == [3]


def stream_of(*pieces: object, fields: tuple[Field, ...] = TWO) -> LoadedModel:
    def stream(given: object, **params: object) -> Iterator[object]:
        yield from pieces

    return LoadedModel(Description(fields, OUTPUT), Recorder(), stream=stream)


ROW = {"x": np.ones((1, 2)), "y": np.ones(1)}


def test_each_piece_of_a_stream_is_tensors_of_at_least_one_dimension() -> None:
    model = stream_of("text", {"delta": "x", "at": 3}, np.array([1.0]))
    assert model.streams
    pieces = [{n: a.tolist() for n, a in piece.items()} for piece in model.predict_stream(ROW)]
    assert pieces == [{"output-0": ["text"]}, {"delta": ["x"], "at": [3]}, {"output-0": [1.0]}]


def test_a_stream_is_of_one_row_that_the_signature_allows() -> None:
    rows = {"x": np.ones((2, 2)), "y": np.ones(2)}
    with pytest.raises(InvalidInput, match="a stream answers one row"):
        next(stream_of("piece").predict_stream(rows))
    with pytest.raises(InvalidInput, match="input 'y' is missing"):
        next(stream_of("piece").predict_stream({"x": np.ones((1, 2))}))


def test_a_model_without_a_stream_has_none() -> None:
    model = LoadedModel(Description(TWO, OUTPUT), Recorder())
    assert not model.streams
    with pytest.raises(InvalidInput, match="predict_stream"):
        next(model.predict_stream(ROW))
