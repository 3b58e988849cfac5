"""Errors as RFC 9457 problem documents; the one table of HTTP statuses."""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from registry.errors import TiltyardError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

STATUSES = {
    "already_deployed": 409,
    "body_too_large": 413,
    "catalog_unavailable": 503,
    "control_unavailable": 503,
    "corrupt_artifact": 422,
    "duplicate_outcome": 409,
    "edge_unavailable": 503,
    "error": 500,
    "experiment_exists": 409,
    "hosts_unavailable": 503,
    "invalid_declaration": 422,
    "invalid_input": 400,
    "invalid_name": 422,
    "invalid_outcome": 422,
    "invalid_output": 500,
    "invalid_prediction_id": 422,
    "late_outcome": 410,
    "lease_lost": 409,
    "malformed_body": 400,
    "malformed_json": 400,
    "malformed_request": 400,
    "model_error": 500,
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
    "unit_empty": 400,
    "unit_too_long": 400,
    "unknown_experiment": 404,
    "unknown_model": 404,
    "unknown_receipt": 404,
    "unknown_version": 404,
    "unreadable_model": 422,
    "unusable_edge_folder": 500,
    "version_in_use": 409,
    "wrong_state": 409,
}
"""HTTP status of each error code; a test holds it complete."""


def document(status: int, title: str, code: str, detail: str, next_step: str) -> JSONResponse:
    """Return a problem document: what happened, its stable code, and what to do next."""
    body = {
        "type": f"urn:tiltyard:{code}",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
        "next_step": next_step,
    }
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE)


def of(error: TiltyardError) -> dict[str, str]:
    """Return the part of a problem document that stands in a list of results."""
    return {"code": error.code, "detail": error.message, "next_step": error.hint}


async def problem(_request: Request, error: Exception) -> JSONResponse:
    """Answer an error that was raised on purpose."""
    assert isinstance(error, TiltyardError)
    title = type(error).__name__
    return document(STATUSES[error.code], title, error.code, error.message, error.hint)


async def unexpected(request: Request, error: Exception) -> JSONResponse:
    """Answer an error that nobody foresaw; the log has the rest."""
    log.exception("%s %s failed", request.method, request.url.path, exc_info=error)
    return document(
        500, "Defect", "defect", f"{type(error).__name__}: {error}", "Please report this defect."
    )


def malformed(api: FastAPI) -> None:
    """Answer what FastAPI and Starlette refuse with the same kind of document."""

    @api.exception_handler(RequestValidationError)
    async def _(_request: Request, error: RequestValidationError) -> JSONResponse:
        found = "; ".join(
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()
        )
        step = "Correct the request; nothing was changed."
        return document(422, "MalformedRequest", "malformed_body", found, step)

    @api.exception_handler(HTTPException)
    async def _(_request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "unknown_path", 405: "wrong_method"}.get(error.status_code, "refused")
        step = "/docs lists every path of this API."
        return document(error.status_code, "Refused", code, str(error.detail), step)
