"""What an `MLmodel` file says about its model, read without MLflow."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from registry import Signature, Tensor
from registry.errors import UnreadableModel
from registry.tensors import datatype_of

MLMODEL = "MLmodel"

_COLUMN_DATATYPES = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "binary": "BYTES",
    "datetime": "BYTES",
}


@dataclass(frozen=True, slots=True)
class Field:
    """An input or output as the model itself knows it.

    Args:
        tensor: The same in the words of the Open Inference Protocol; always with a name.
        name: The model's own name for it, None where it has none.
        kind: NumPy's name of a tensor's dtype, or MLflow's name of a column's type.
    """

    tensor: Tensor
    name: str | None
    kind: str
    column: bool
    required: bool = True


@dataclass(frozen=True, slots=True)
class Description:
    """What a model takes and gives; both None if it was logged without a signature."""

    inputs: tuple[Field, ...] | None
    outputs: tuple[Field, ...] | None

    @property
    def signature(self) -> Signature | None:
        if self.inputs is None:
            return None
        return Signature(
            tuple(field.tensor for field in self.inputs),
            tuple(field.tensor for field in self.outputs or ()),
        )


def describe(folder: Path) -> Description:
    """Return what the `MLmodel` file in `folder` says.

    A nameless input is called `input-N`, a nameless output `output-N`, counted from 0. A
    column is a tensor of shape [-1].

    Raises:
        UnreadableModel: no such file, no Python function in it, or a signature that cannot be
            put in tensors.
    """
    path = folder / MLMODEL
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnreadableModel(f"{folder} holds no MLflow model: it has no MLmodel file") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UnreadableModel(f"{path} cannot be read: {error}") from error
    if not isinstance(said, Mapping) or "python_function" not in (said.get("flavors") or {}):
        raise UnreadableModel(f"{path} describes no model with the python_function flavor")
    signature = said.get("signature") or {}
    try:
        inputs = _fields(signature.get("inputs"), "input")
        outputs = _fields(signature.get("outputs"), "output")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableModel(f"the signature in {path} cannot be read: {error!r}") from error
    return Description(inputs, None if inputs is None else outputs)


def _fields(written: str | None, kind: str) -> tuple[Field, ...] | None:
    if written is None:
        return None
    specs: Sequence[Mapping[str, Any]] = json.loads(written)
    fields = tuple(_field(spec, f"{kind}-{place}") for place, spec in enumerate(specs))
    names = [field.tensor.name for field in fields]
    if len(set(names)) != len(names):
        raise UnreadableModel(f"two {kind}s of the model have the same name")
    return fields


def _field(spec: Mapping[str, Any], default_name: str) -> Field:
    name = spec.get("name")
    public = default_name if name is None else str(name)
    if spec["type"] == "tensor":
        info = spec["tensor-spec"]
        datatype = datatype_of(np.dtype(info["dtype"]))
        if datatype is None:
            raise UnreadableModel(f"{public}: no tensor can hold {info['dtype']}")
        shape = tuple(int(extent) for extent in info["shape"])
        return Field(Tensor(public, datatype, shape), name, info["dtype"], column=False)
    required = bool(spec.get("required", not spec.get("optional", False)))
    kind, nested = spec["type"], 0
    while kind == "array":
        spec = spec["items"]
        kind, nested = spec["type"], nested + 1
    if kind not in _COLUMN_DATATYPES:
        raise UnreadableModel(f"{public}: a column of type {kind} is no tensor")
    tensor = Tensor(public, _COLUMN_DATATYPES[kind], (-1,) * (nested + 1))
    return Field(tensor, name, kind, column=True, required=required)
