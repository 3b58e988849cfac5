"""Errors as RFC 9457 problem documents; the one table of HTTP statuses."""

import logging
from dataclasses import asdict
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from experiments.errors import InvalidFile
from registry.errors import TiltyardError
from serving.errors import Refused
from serving.problem import MEDIA_TYPE, problem_document

log = logging.getLogger(__name__)

STATUSES = {
    "already_deployed": 409,
    "already_running": 409,
    "body_too_large": 413,
    "catalog_unavailable": 503,
    "challenger_is_champion": 409,
    "control_unavailable": 503,
    "corrupt_artifact": 422,
    "duplicate_outcome": 409,
    "edge_stopped": 503,
    "edge_unavailable": 503,
    "edge_unresponsive": 503,
    "error": 500,
    "experiment_exists": 409,
    "hosts_unavailable": 503,
    "invalid_declaration": 422,
    "invalid_input": 400,
    "invalid_name": 422,
    "invalid_outcome": 422,
    "invalid_output": 500,
    "invalid_prediction_id": 422,
    "just_rolled_back": 409,
    "lane_taken": 409,
    "late_outcome": 410,
    "lease_lost": 409,
    "malformed_body": 400,
    "malformed_json": 400,
    "malformed_request": 400,
    "model_error": 500,
    "not_streaming": 501,
    "nothing_to_draw": 409,
    "nothing_to_roll_back": 409,
    "receipt_mismatch": 409,
    "refused": 502,
    "signature_mismatch": 409,
    "spool_full": 503,
    "stale_revision": 409,
    "store_unavailable": 503,
    "system_did_not_start": 503,
    "target_not_hot": 409,
    "too_many_outcomes": 413,
    "uncertifiable": 422,
    "unit_empty": 400,
    "unit_too_long": 400,
    "unknown_drill": 404,
    "unknown_experiment": 404,
    "unknown_lane": 404,
    "unknown_model": 404,
    "unknown_receipt": 404,
    "unknown_version": 404,
    "unreadable_log_line": 500,
    "unreadable_model": 422,
    "unreadable_running_file": 500,
    "unsupported_media_type": 415,
    "unusable_edge_folder": 500,
    "version_in_use": 409,
    "wrong_state": 409,
}
"""HTTP status of each error code; a test holds it complete."""


FRAMEWORK = {400: "malformed_json", 404: "unknown_path", 405: "wrong_method"}
"""Codes of what is refused before any command is asked."""


class Problem(BaseModel):
    """What went wrong."""

    type: str = Field(description="`urn:tiltyard:` and the code")
    title: str = Field(description="The status in words")
    status: int = Field(description="The HTTP status")
    code: str = Field(description="Stable, for programs")
    detail: str = Field(description="What happened, for people")
    next_step: str = Field(description="What to do about it")


RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    "default": {
        "description": "Whatever went wrong, as a problem document (RFC 9457)",
        "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
    }
}
"""What every path may answer, for the API's description of itself."""


def document(status: int, code: str, detail: str, next_step: str, **more: object) -> JSONResponse:
    """Return a problem document as an answer."""
    body = problem_document(status, code, detail, next_step, **more)
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE)


def of(error: TiltyardError) -> dict[str, str]:
    """Return the part of a problem document that stands in a list of results."""
    return {"code": error.code, "detail": error.message, "next_step": error.hint}


async def problem(_request: Request, error: Exception) -> JSONResponse:
    """Answer an error that was raised on purpose.

    What an edge refused is passed on as its own words. A wrong experiment file has its
    `problems` listed, each with its field, line and column.
    """
    assert isinstance(error, TiltyardError)
    code, more = error.code, {}
    if isinstance(error, Refused) and error.refusal in STATUSES:
        code = error.refusal
    if isinstance(error, InvalidFile):
        more["problems"] = [asdict(each) for each in error.problems]
    return document(STATUSES[code], code, error.message, error.hint, **more)


async def unexpected(request: Request, error: Exception) -> JSONResponse:
    """Answer an error that nobody foresaw; the log has the rest."""
    log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    said = f"{type(error).__name__}: {error}"
    return document(500, "defect", said, "Please report this defect.")


def malformed(api: FastAPI) -> None:
    """Answer what FastAPI and Starlette refuse with the same kind of document."""

    @api.exception_handler(RequestValidationError)
    async def _(_request: Request, error: RequestValidationError) -> JSONResponse:
        found = error.errors()
        not_json = any(each["type"] == "json_invalid" for each in found)
        code = "malformed_json" if not_json else "malformed_body"
        said = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found)
        step = "Correct the request; nothing was changed."
        return document(STATUSES[code], code, said, step)

    @api.exception_handler(HTTPException)
    async def _(_request: Request, error: HTTPException) -> JSONResponse:
        code = FRAMEWORK.get(error.status_code, "refused")
        step = "/docs lists every path of this API."
        return document(error.status_code, code, str(error.detail), step)
