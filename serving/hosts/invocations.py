"""MLflow's scoring payloads, answered as its own server does: `{"predictions": ...}`.

What a payload means and how predictions are written is MLflow's (`registry.scoring`). Unlike its
server, a host tells what was wrong with a payload from what went wrong in the model: the first is
the client's, the second is charged to the version.
"""

from http import HTTPStatus

from registry.errors import InvalidInput, TiltyardError
from registry.scoring import CSV, JSON, Scorer, has_gaps
from serving.errors import InvalidOutput, UnsupportedMediaType
from serving.hosts.answers import write_problem

_ERROR_CODES = {False: "BAD_REQUEST", True: "INTERNAL_ERROR"}
"""MLflow's names, by whether the model failed."""


def media_type(content_type: str) -> str:
    """Return in which form a payload is.

    Args:
        content_type: The request's header; empty if it has none, which is taken for JSON.

    Raises:
        UnsupportedMediaType: neither JSON nor CSV, or not in UTF-8.
    """
    kind, *parameters = (part.strip().lower() for part in content_type.split(";"))
    if kind not in ("", JSON, CSV):
        raise UnsupportedMediaType(f"payloads are {JSON} or {CSV}, not {kind}")
    for parameter in parameters:
        if parameter not in ("", "charset=utf-8", 'charset="utf-8"'):
            raise UnsupportedMediaType(f"payloads are in UTF-8, without `{parameter}`")
    return kind or JSON


def score(scorer: Scorer, body: bytes, kind: str) -> bytes:
    """Return the answer to a payload. Calls the model, so not for the event loop.

    Raises:
        InvalidInput: the payload is none that the model takes, or no JSON can hold what the model
            makes of the gaps in it.
        InvalidOutput: no JSON can hold the predictions.
        Exception: whatever the model itself raises.
    """
    payload = scorer.read(body, kind)
    predictions = scorer.predict(payload)
    try:
        return scorer.write(predictions)
    except (TypeError, ValueError) as error:
        said = f"no JSON can hold the predictions: {error}"
        if has_gaps(payload):
            raise InvalidInput(f"{said}; values are missing in the payload too") from None
        raise InvalidOutput(said) from None


def write_scoring_problem(error: TiltyardError, status: HTTPStatus) -> bytes:
    """Return a problem document that also has the members of MLflow's errors."""
    code = _ERROR_CODES[status >= HTTPStatus.INTERNAL_SERVER_ERROR]
    return write_problem(error, status, error_code=code, message=error.message)
