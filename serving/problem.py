"""The one form in which every part of the system says over HTTP what went wrong (RFC 9457)."""

from http import HTTPStatus

MEDIA_TYPE = "application/problem+json"


def problem_document(
    status: int, code: str, detail: str, next_step: str, **more: object
) -> dict[str, object]:
    """Return a problem document: what happened, its stable code, and what to do next.

    Examples:
        >>> problem_document(404, "unknown_model", "There is no such model.", "")["type"]
        'urn:tiltyard:unknown_model'
    """
    return {
        "type": f"urn:tiltyard:{code}",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "code": code,
        "detail": detail,
        "next_step": next_step,
    } | more
