"""What one replica answers, as an ASGI application.

    GET  /         metadata         GET  /live     the process runs
    POST /infer    a prediction     GET  /ready    loaded and warmed up
    GET  /example  a request that the model takes, if it was saved with one

The paths stand below the version's route prefix; an edge leads to all but the last, for an
example may be somebody's data. Plain ASGI: a framework's routing would cost more than the whole of
the rest.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any, Protocol, TypeAlias

from registry import Signature
from registry.errors import InvalidInput, TiltyardError
from registry.refs import VersionRef
from registry.tensors import Array
from serving.errors import InvalidOutput, MalformedRequest, ModelFailed
from serving.hosts.batching import Batcher
from serving.hosts.faults import Fault, afflicted
from serving.hosts.protocol import (
    read_request,
    require_outputs,
    write_example,
    write_metadata,
    write_problem,
    write_response,
)

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
_Answer: TypeAlias = tuple[HTTPStatus, bytes]

STATUSES: Mapping[type[TiltyardError], HTTPStatus] = {
    MalformedRequest: HTTPStatus.BAD_REQUEST,
    InvalidInput: HTTPStatus.BAD_REQUEST,
    ModelFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
    InvalidOutput: HTTPStatus.INTERNAL_SERVER_ERROR,
}
"""What is the client's fault is 4xx, and never charged to the model."""

_PATHS = ("", "/", "/example", "/infer", "/live", "/ready")

logger = logging.getLogger("ray.serve")


class Model(Protocol):
    """A loaded version, such as `registry.loaded.LoadedModel`."""

    signature: Signature | None

    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Answer `inputs`.

        Raises:
            InvalidInput: they are not what the signature says.
            Exception: anything else.
        """


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
        self._ref = ref
        self._signature = model.signature
        self._batcher = Batcher(model.predict, rows=batch_rows if _has_rows(model) else 1)
        self._predict = afflicted(self._batcher.submit, fault)
        self._max_body_bytes = max_body_bytes
        self._metadata = write_metadata(ref, model.signature)
        self._example = write_example(example)

    def busy_for(self) -> float:
        """Return for how many seconds the model has been at its present call."""
        return self._batcher.busy_for()

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        status, body = await self._answer(scope["method"], path, receive)
        kind = b"application/json" if status < 400 else b"application/problem+json"
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status.value, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, method: str, path: str, receive: _Receive) -> _Answer:
        match method, path:
            case "POST", "/infer":
                return await self._infer(receive)
            case "GET", "" | "/":
                return HTTPStatus.OK, self._metadata
            case "GET", "/example" if self._example is not None:
                return HTTPStatus.OK, self._example
            case "GET", "/example":
                error = MalformedRequest("the model was saved without an input example")
                return HTTPStatus.NOT_FOUND, write_problem(error, HTTPStatus.NOT_FOUND)
            case "GET", "/ready":
                return HTTPStatus.OK, b'{"ready":true}'
            case "GET", "/live":
                return HTTPStatus.OK, b'{"live":true}'
        status = HTTPStatus.METHOD_NOT_ALLOWED if path in _PATHS else HTTPStatus.NOT_FOUND
        error = MalformedRequest(f"a host has no {method} {path or '/'}")
        return status, write_problem(error, status)

    async def _infer(self, receive: _Receive) -> _Answer:
        try:
            request = read_request(await self._body(receive))
            require_outputs(request, self._signature)
            outputs = await self._predict(request.inputs)
            body = write_response(self._ref, request, outputs, self._signature)
        except TiltyardError as error:
            status = STATUSES.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR)
            if status >= 500:
                logger.warning("%s %s: %s", self._ref, error.code, error.message)
            return status, write_problem(error, status)
        return HTTPStatus.OK, body

    async def _body(self, receive: _Receive) -> bytes:
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise MalformedRequest("the client left before the end of the body")
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            if size > self._max_body_bytes:
                raise MalformedRequest(f"the body is over {self._max_body_bytes} bytes")
            if not message.get("more_body"):
                return b"".join(chunks)


def _has_rows(model: Model) -> bool:
    """Whether the signature says that requests may be put together: -1 first, everywhere."""
    if model.signature is None:
        return False
    tensors = (*model.signature.inputs, *model.signature.outputs)
    return all(tensor.shape[:1] == (-1,) for tensor in tensors)


async def _lifespan(receive: _Receive, send: _Send) -> None:
    while True:
        phase = (await receive())["type"]
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return
