"""What one replica answers, as an ASGI application.

    GET  /         metadata         GET  /live     the process runs
    POST /infer    a prediction     GET  /ready    loaded and warmed up
    POST /infer_stream   the same piece by piece, as server-sent events
    POST /invocations    a prediction, as MLflow's scoring server is asked for it
    GET  /example  a request that the model takes, if it was saved with one

HEAD is answered as GET is; the server leaves the body out. The paths stand below the version's
route prefix; an edge leads to all but the last, for an example may be somebody's data. Plain ASGI:
a framework's routing would cost more than the whole of the rest.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, suppress
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol, TypeAlias

from registry import Signature
from registry.errors import InvalidInput, TiltyardError
from registry.refs import VersionRef
from registry.scoring import Scorer
from registry.tensors import Array
from serving.errors import (
    InvalidOutput,
    MalformedRequest,
    ModelFailed,
    NotStreaming,
    UnsupportedMediaType,
)
from serving.hosts import streaming
from serving.hosts.answers import write_example, write_metadata, write_problem, write_response
from serving.hosts.batching import Batcher
from serving.hosts.bodies import Message, Receive
from serving.hosts.calls import Calls
from serving.hosts.exchange import BINARY, JSON, Answer, ClientGone, Request, Send, start
from serving.hosts.faults import Fault, afflicted
from serving.hosts.invocations import media_type, score, write_scoring_problem
from serving.hosts.protocol import InferRequest, read_request, require_json, require_outputs
from serving.hosts.streaming import Streams
from serving.problem import MEDIA_TYPE as PROBLEM

_Write: TypeAlias = Callable[[TiltyardError, HTTPStatus], bytes]

STATUSES: Mapping[type[TiltyardError], HTTPStatus] = {
    MalformedRequest: HTTPStatus.BAD_REQUEST,
    InvalidInput: HTTPStatus.BAD_REQUEST,
    UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    # The client could know, but a version that lacks what the champion has is worse than it.
    NotStreaming: HTTPStatus.NOT_IMPLEMENTED,
    ModelFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
    InvalidOutput: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""What is the client's fault is 4xx, and never charged to the model."""

_ALLOWED: Mapping[str, str] = {
    **dict.fromkeys(("", "/", "/example", "/live", "/ready"), "GET, HEAD"),
    **dict.fromkeys(("/infer", "/infer_stream", "/invocations"), "POST"),
}

logger = logging.getLogger("ray.serve")


class Model(Protocol):
    """A loaded version, such as `registry.loaded.LoadedModel`."""

    signature: Signature | None
    scorer: Scorer | None

    @property
    def streams(self) -> bool:
        """Whether `predict_stream` answers anything."""

    def parameters(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return which of a request's parameters are the model's.

        Raises:
            InvalidInput: one is not of the type that the model declares.
        """

    def predict(
        self, inputs: Mapping[str, Array], parameters: Mapping[str, Any]
    ) -> dict[str, Array]:
        """Answer `inputs`.

        Raises:
            InvalidInput: they are not what the signature says.
            Exception: anything else.
        """

    def predict_stream(
        self, inputs: Mapping[str, Array], parameters: Mapping[str, Any]
    ) -> Iterator[dict[str, Array]]:
        """Answer the same piece by piece."""


class HostEndpoint:
    """The Open Inference Protocol v2 for one loaded version.

    Args:
        batch_rows: Most rows in one call of the model.
        example: Inputs that the model was saved with.
        fault: Planted on purpose, to see whether it is found.
    """

    def __init__(
        self,
        ref: VersionRef,
        model: Model,
        *,
        batch_rows: int,
        max_body_bytes: int,
        example: Mapping[str, Array] | None = None,
        fault: Fault = Fault.NONE,
    ) -> None:
        calls = Calls()
        self._ref = ref
        self._model = model
        self._signature = model.signature
        self._calls = calls
        self._batcher = Batcher(
            model.predict, rows=batch_rows if _has_rows(model) else 1, calls=calls
        )
        self._streams = Streams(model.predict_stream, calls)
        self._predict = afflicted(self._batcher.submit, fault)
        self._max_body_bytes = max_body_bytes
        self._metadata = write_metadata(ref, model.signature)
        self._example = write_example(example)

    def busy_for(self) -> float:
        """Return for how many seconds the model has been at one call, or one piece of a stream."""
        return self._calls.longest()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        request = Request.of(scope, receive)
        if (request.method, request.path) == ("POST", "/infer_stream"):
            await self._stream(request, send)
            return
        with suppress(ClientGone):
            await (await self._answer(request)).send(send)

    async def _answer(self, request: Request) -> Answer:
        method, path = request.method, request.path
        match "GET" if method == "HEAD" else method, path:
            case "POST", "/infer":
                return await self._infer(request)
            case "POST", "/invocations":
                return await self._score(request)
            case "GET", "" | "/":
                return Answer(HTTPStatus.OK, self._metadata)
            case "GET", "/example" if self._example is not None:
                return Answer(HTTPStatus.OK, self._example)
            case "GET", "/example":
                error = MalformedRequest("the model was saved without an input example")
                return _refusal(error, HTTPStatus.NOT_FOUND)
            case "GET", "/ready":
                return Answer(HTTPStatus.OK, b'{"ready":true}')
            case "GET", "/live":
                return Answer(HTTPStatus.OK, b'{"live":true}')
        allow = _ALLOWED.get(path)
        status = HTTPStatus.NOT_FOUND if allow is None else HTTPStatus.METHOD_NOT_ALLOWED
        return _refusal(MalformedRequest(f"a host has no {method} {path or '/'}"), status, allow)

    async def _infer(self, request: Request) -> Answer:
        try:
            asked, parameters = await self._asked(request)
            predicted = self._predict(asked.inputs, parameters)
            # An edge tells Serve not to watch whether a client is still there, which costs a tenth
            # of a quick answer. It matters where one has to wait for the model.
            waits = not self._batcher.is_quick
            outputs = await (request.unless_gone(predicted) if waits else predicted)
            body = write_response(self._ref, asked, outputs, self._signature)
        except TiltyardError as error:
            return self._failure(error)
        kind = JSON if body.header_length is None else BINARY
        return Answer(HTTPStatus.OK, body.content, kind, body.header_length)

    async def _score(self, request: Request) -> Answer:
        try:
            if self._model.scorer is None:
                raise MalformedRequest("the model is asked in tensors only")
            kind = media_type(request.header("content-type"))
            call = partial(
                score, self._model.scorer, await request.body(self._max_body_bytes), kind
            )
            return Answer(HTTPStatus.OK, await self._batcher.alone(call))
        except TiltyardError as error:
            return self._failure(error, write_scoring_problem)

    async def _stream(self, request: Request, send: Send) -> None:
        try:
            asked, parameters = await self._asked(request)
            require_json(asked)
            if not self._model.streams:
                raise NotStreaming(f"{self._ref} has no `predict_stream`")
        except TiltyardError as error:
            await self._failure(error).send(send)
            return
        async with aclosing(self._streams.pieces(asked.inputs, parameters)) as pieces:
            await self._send_events(self._events(asked, pieces), send)

    async def _events(
        self, asked: InferRequest, pieces: AsyncIterator[Mapping[str, Array]]
    ) -> AsyncIterator[bytes]:
        async for outputs in pieces:
            answer = write_response(self._ref, asked, outputs, self._signature, piece=True)
            yield streaming.event(answer.content)

    async def _send_events(self, events: AsyncIterator[bytes], send: Send) -> None:
        """Send what comes as it comes; as long as nothing has come, a failure is like any other."""
        try:
            first = await anext(events, None)
            if first is None:
                raise InvalidOutput("the model's stream ended before its first piece")
        except TiltyardError as error:
            await self._failure(error).send(send)
            return
        headers = {"content-type": streaming.MEDIA_TYPE, "cache-control": "no-store"}
        await send(start(HTTPStatus.OK, headers))
        await send({"type": "http.response.body", "body": first, "more_body": True})
        try:
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
        except TiltyardError as error:
            problem = streaming.event(self._failure(error).body, kind="error")
            await send({"type": "http.response.body", "body": problem, "more_body": True})
            # No end: the server closes the connection, and so everybody on the way, the edge and
            # its log first of all, knows that the answer broke off.
            return
        await send({"type": "http.response.body", "body": b""})

    async def _asked(self, request: Request) -> tuple[InferRequest, Mapping[str, Any]]:
        """Return what is asked, and the parameters that the model is given."""
        asked = read_request(await request.body(self._max_body_bytes), request.json_length)
        require_outputs(asked, self._signature)
        return asked, self._model.parameters(asked.parameters)

    def _failure(self, error: TiltyardError, write: _Write = write_problem) -> Answer:
        status = STATUSES.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR)
        if status >= 500:
            logger.warning("%s %s: %s", self._ref, error.code, error.message)
        return Answer(status, write(error, status), PROBLEM)


def _refusal(error: TiltyardError, status: HTTPStatus, allow: str | None = None) -> Answer:
    return Answer(status, write_problem(error, status), PROBLEM, allow=allow)


def _has_rows(model: Model) -> bool:
    """Whether the signature says that requests may be put together: -1 first, everywhere."""
    if model.signature is None:
        return False
    tensors = (*model.signature.inputs, *model.signature.outputs)
    return all(tensor.shape[:1] == (-1,) for tensor in tensors)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        phase = (await receive())["type"]
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return
