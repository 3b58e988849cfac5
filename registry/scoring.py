"""MLflow's scoring protocol: its payloads to what a model takes, what a model gives to its answer.

What MLflow itself says about payloads is used as it is: its functions come in as arguments, and
nothing of MLflow is imported here.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Any, Final

import numpy as np

from registry.errors import InvalidInput
from registry.padding import require_compact, require_compact_csv
from registry.pyfunc import Parameters

JSON: Final = "application/json"
CSV: Final = "text/csv"

FORMATS: Final = ("dataframe_split", "dataframe_records", "instances", "inputs")
"""The four forms of a payload in JSON, each by its key."""


@dataclass(frozen=True, slots=True)
class Payload:
    """What a model is asked.

    Args:
        data: A data frame, an array, or arrays by name.
        params: What goes beside it.
    """

    data: Any
    params: Mapping[str, Any]


class Scorer:
    """One model, asked and answering as MLflow's scoring server has it.

    Args:
        model: mlflow's PyFuncModel.
        server: mlflow's module of the scoring server, for its readers and writer of payloads.
        validate: mlflow.models.validate_schema.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401
        server: Any,  # noqa: ANN401
        validate: Callable[[Any, Any], None],
        parameters: Parameters,
    ) -> None:
        self._predict = model.predict
        self._schema = model.metadata.get_input_schema()
        self._typed = bool(model.metadata.to_dict().get("is_signature_from_type_hint"))
        self._server = server
        self._validate = validate
        self._parameters = parameters

    def read(self, body: bytes, media_type: str) -> Payload:
        """Read a payload.

        Args:
            media_type: `JSON` or `CSV`.

        Raises:
            InvalidInput: it is no such payload, or not one for this model.
        """
        try:
            payload = self._csv(body) if media_type == CSV else self._json(body)
        except InvalidInput:
            raise
        except Exception as error:
            # Any: no code of the model has run yet, so it is what was sent that cannot be read.
            raise InvalidInput(f"the payload cannot be read: {_said(error)}") from None
        if _is_empty(payload.data):
            raise InvalidInput("the payload has no rows")
        return payload

    def predict(self, payload: Payload) -> Any:  # noqa: ANN401  whatever the model gives
        """Return the model's answer.

        Raises:
            InvalidInput: the payload is not what the signature says.
            Exception: whatever the model itself raises.
        """
        try:
            return self._predict(payload.data, params=dict(payload.params))
        except Exception:
            # Only now: a payload that is answered need not be looked at twice.
            self._require_schema(payload)
            raise

    def write(self, predictions: Any) -> bytes:  # noqa: ANN401
        """Return the body of the answer.

        Raises:
            ValueError, TypeError: no JSON can hold it; NaN, for instance.
        """
        written = StringIO()
        self._server.predictions_to_json(predictions, written)
        text = written.getvalue()
        json.loads(text, parse_constant=_refuse)
        return text.encode()

    def _csv(self, body: bytes) -> Payload:
        require_compact_csv(body)
        text = StringIO(body.decode("utf-8-sig"))
        return Payload(self._server.parse_csv_input(text, self._schema), {})

    def _json(self, body: bytes) -> Payload:
        # As MLflow does, with NaN and infinity, which data frames have where nothing is known.
        document = json.loads(body)
        if not isinstance(document, dict):
            raise InvalidInput("the payload is no JSON object")
        found = [name for name in FORMATS if name in document]
        if len(found) != 1:
            raise InvalidInput(f"the payload must have exactly one of {', '.join(FORMATS)}")
        params = document.get("params") or {}
        if not isinstance(params, dict):
            raise InvalidInput("`params` is no JSON object")
        data = {found[0]: document[found[0]]}
        tensors = self._schema is None or self._schema.is_tensor_spec()
        require_compact(found[0], data[found[0]], len(body), tensors=tensors)
        # A model with type hints reads its own input.
        read = data["inputs"] if self._typed and found == ["inputs"] else self._parsed(data)
        return Payload(read, self._parameters.among(params))

    def _parsed(self, data: Mapping[str, Any]) -> Any:  # noqa: ANN401
        return self._server.infer_and_parse_data(data, self._schema)

    def _require_schema(self, payload: Payload) -> None:
        if self._schema is None:
            return
        try:
            self._validate(payload.data, self._schema)
        except Exception as error:
            # Any: as above, this is about the payload alone.
            raise InvalidInput(f"the model does not take this: {_said(error)}") from None


def has_gaps(payload: Payload) -> bool:
    """Whether some value of a payload is missing, NaN or infinite."""
    import pandas

    data = payload.data
    by_name = isinstance(data, (Mapping, pandas.DataFrame))
    parts = [np.asarray(data[name]) for name in data] if by_name else [np.asarray(data)]
    return any(
        not np.isfinite(part).all() if part.dtype.kind == "f" else bool(pandas.isna(part).any())
        for part in parts
    )


def _said(error: Exception) -> str:
    """Return the first line of an error: MLflow's own go on with advice for its own server."""
    return (str(error) or type(error).__name__).splitlines()[0][:500]


def _is_empty(data: Any) -> bool:  # noqa: ANN401
    parts = list(data.values()) if isinstance(data, Mapping) else [data]
    return not parts or any(
        part is None or getattr(part, "size", None) == 0 or (isinstance(part, list) and not part)
        for part in parts
    )


def _refuse(constant: str) -> None:
    raise ValueError(f"a prediction is {constant}")
