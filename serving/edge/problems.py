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
        retry_after: Seconds after which the same request may well be answered.
    """

    code: str
    status: HTTPStatus
    detail: str
    next_step: str
    allow: str | None = None
    retry_after: int | None = None

    def document(self) -> str:
        """Return the body, as HAProxy takes it between single quotes.

        Clients of the Open Inference Protocol print its member `error`.
        """
        said = {"error": self.detail}
        body = problem_document(self.status, self.code, self.detail, self.next_step, **said)
        return json.dumps(body).replace("'", "\\u0027")

    def answer(self) -> str:
        """Return what follows `http-request` or `http-response` in HAProxy's configuration."""
        allow = f" hdr Allow '{self.allow}'" if self.allow else ""
        retry_after = f" hdr Retry-After {self.retry_after}" if self.retry_after else ""
        return (
            f"return status {int(self.status)} content-type {MEDIA_TYPE}"
            f" string '{self.document()}'{allow}{retry_after}"
        )


def _answer_missing(status: HTTPStatus) -> Problem:
    return Problem(
        "no_host_answered",
        status,
        "No host answered: neither the version chosen nor the one behind it, which is not asked "
        "with a request too large for the edge's buffer.",
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
            "This is no path of the Open Inference Protocol v2, nor of MLflow's scoring protocol.",
            "Send inferences to /v2/models/MODEL/infer, or to /models/MODEL/invocations.",
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
            "Deploy a version of a model: its first becomes champion by itself.",
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
            "What names the unit in this request (a header, cookie, parameter or field) is empty.",
            "Send a value, or leave it out: the request is a unit of its own then.",
        ),
        "unit_too_long": Problem(
            "unit_too_long",
            HTTPStatus.BAD_REQUEST,
            "What names the unit in this request has more than 256 bytes.",
            "Send a shorter name of the unit, such as a hash of it.",
        ),
        "no_host": _answer_missing(HTTPStatus.SERVICE_UNAVAILABLE),
        **_too_much(),
    }


def _too_much() -> dict[str, Problem]:
    """Return how requests are turned away that another time would be answered."""
    again = "Send the same request again after the time in Retry-After"
    return {
        "overloaded": Problem(
            "overloaded",
            HTTPStatus.TOO_MANY_REQUESTS,
            "The model has as many requests under way as its hosts and this edge can take.",
            f"{again}; `tiltyard deploy` with more replicas makes room.",
            retry_after=1,
        ),
        "too_many_connections": Problem(
            "too_many_connections",
            HTTPStatus.TOO_MANY_REQUESTS,
            "Your address has as many connections as one address may have.",
            "Use fewer connections; for a load balancer, raise TILTYARD_SOURCE_CONNECTIONS.",
            retry_after=1,
        ),
        "too_many_uploads": Problem(
            "too_many_uploads",
            HTTPStatus.TOO_MANY_REQUESTS,
            "Your address is sending as many large bodies as one address may send at a time.",
            f"{again}; for a load balancer, raise TILTYARD_SOURCE_CONNECTIONS.",
            retry_after=1,
        ),
        "failover_budget_spent": Problem(
            "failover_budget_spent",
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The version on trial failed, and the champion has answered for it as often as it may.",
            f"{again}; `tiltyard rollback` takes the failing version away.",
            retry_after=1,
        ),
        "version_withdrawn": Problem(
            "version_withdrawn",
            HTTPStatus.SERVICE_UNAVAILABLE,
            "The version that was asked was withdrawn before it answered, and the request cannot "
            "be tried again: it is too large for that, or it had its second try.",
            f"{again}: another version will answer it.",
            retry_after=1,
        ),
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
            "This is not a correct HTTP request, or the rest of a large body did not come in time.",
            "Check the client: its request line, headers and lengths, and that it sends all of the "
            "body without a pause.",
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
