"""The edge's own answers to requests that no host gets to see, as RFC 9457 problem documents."""

import json
from dataclasses import dataclass
from http import HTTPStatus

from serving.problem import MEDIA_TYPE, problem_document


@dataclass(frozen=True, slots=True)
class Problem:
    """One way for a request to end at the edge.

    Args:
        code: Stable, for programs.
        allow: Value of the `Allow` header, which an answer of 405 must have.
    """

    code: str
    status: HTTPStatus
    detail: str
    next_step: str
    allow: str | None = None

    def document(self) -> str:
        """Return the body, as HAProxy takes it between single quotes."""
        body = problem_document(self.status, self.code, self.detail, self.next_step)
        return json.dumps(body).replace("'", "\\u0027")

    def answer(self) -> str:
        """Return what follows `http-request` or `http-response` in HAProxy's configuration."""
        allow = f" hdr Allow '{self.allow}'" if self.allow else ""
        return (
            f"return status {int(self.status)} content-type {MEDIA_TYPE}"
            f" string '{self.document()}'{allow}"
        )


def _answer_missing(status: HTTPStatus) -> Problem:
    return Problem(
        "no_host_answered",
        status,
        "No host answered: neither the version chosen nor the one behind it.",
        "Try again; `tiltyard status` shows the hosts.",
    )


_UNKNOWN_MODEL = Problem(
    "unknown_model",
    HTTPStatus.NOT_FOUND,
    "No model of this name is served here.",
    "`tiltyard status` lists the models that are known.",
)
_UNKNOWN_VERSION = Problem(
    "unknown_version",
    HTTPStatus.NOT_FOUND,
    "The model has no such version deployed.",
    "`tiltyard status` lists the versions that are known.",
)


def problems(*, max_body: int, retry_body: int) -> dict[str, Problem]:
    """Return every problem by its name in the configuration's template.

    Args:
        max_body: Largest body accepted, in bytes.
        retry_body: Largest body accepted of undeclared length, in bytes.
    """
    return {
        "unknown_model": _UNKNOWN_MODEL,
        "unknown_version": _UNKNOWN_VERSION,
        "unknown_path": Problem(
            "unknown_path",
            HTTPStatus.NOT_FOUND,
            "This is no path of the Open Inference Protocol v2.",
            "Send inferences to /v2/models/MODEL/infer.",
        ),
        "post_only": Problem(
            "method_not_allowed",
            HTTPStatus.METHOD_NOT_ALLOWED,
            "Inferences are sent with POST.",
            "Repeat the request with POST.",
            allow="POST",
        ),
        "get_only": Problem(
            "method_not_allowed",
            HTTPStatus.METHOD_NOT_ALLOWED,
            "Health and metadata are read with GET.",
            "Repeat the request with GET.",
            allow="GET, HEAD",
        ),
        "body_too_large": Problem(
            "body_too_large",
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The body has more than {max_body} bytes.",
            "Send fewer rows in a request, or raise TILTYARD_MAX_BODY_BYTES.",
        ),
        "chunked_body_too_large": Problem(
            "body_too_large",
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"A body sent without Content-Length may have {retry_body} bytes.",
            "Send the Content-Length of the body.",
        ),
        "not_ready": Problem(
            "not_ready",
            HTTPStatus.SERVICE_UNAVAILABLE,
            "No model has a route yet.",
            "Deploy and promote a version of a model.",
        ),
        "route_unreadable": Problem(
            "route_unreadable",
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The route of this model cannot be read.",
            "Start the edge agent of this release, which writes the routes again.",
        ),
        "unit_empty": Problem(
            "unit_empty",
            HTTPStatus.BAD_REQUEST,
            "The header that names the unit is empty.",
            "Send a value, or leave the header out: the request is a unit of its own then.",
        ),
        "unit_too_long": Problem(
            "unit_too_long",
            HTTPStatus.BAD_REQUEST,
            "The header that names the unit has more than 256 bytes.",
            "Send a shorter name of the unit, such as a hash of it.",
        ),
        "no_host": _answer_missing(HTTPStatus.SERVICE_UNAVAILABLE),
    }


def haproxy_errors() -> dict[int, Problem]:
    """Return the problems that stand in for HAProxy's own error pages, by the page's status."""
    silence = (HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
    pages = {
        # HAProxy decides on 502, 503 or 504, and the configuration makes 503 of all of them.
        **dict.fromkeys(map(int, silence), _answer_missing(HTTPStatus.SERVICE_UNAVAILABLE)),
        400: Problem(
            "malformed_request",
            HTTPStatus.BAD_REQUEST,
            "This is not a correct HTTP request.",
            "Check the client: its request line, headers and lengths.",
        ),
        408: Problem(
            "request_timeout",
            HTTPStatus.REQUEST_TIMEOUT,
            "The request did not arrive in time.",
            "Send the whole request at once.",
        ),
        500: Problem(
            "edge_error",
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "The edge could not handle this request.",
            "Report this, with the edge's messages on standard error.",
        ),
    }
    return dict(sorted(pages.items()))
