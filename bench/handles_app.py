"""The usual way to try two versions on Ray Serve: an ingress deployment that chooses, and a handle.

Runs in Ray's processes. The versions are Tiltyard's very hosts, called through a handle with
the request's bytes instead of over HTTP: the ingress and the handle are all that differs.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response

from registry.refs import ModelName, Version, VersionRef

Answer = tuple[int, bytes]


class Model:
    """One replica of one version."""

    def __init__(self, version: int, artifact: str, digest: str, workdir: str) -> None:
        from registry.mlflow import load
        from serving.hosts.endpoint import HostEndpoint

        ref = VersionRef(ModelName("digits"), Version(version))
        model = load(artifact, digest, Path(workdir))
        self._endpoint = HostEndpoint(ref, model, batch_rows=64, max_body_bytes=8 << 20)

    async def infer(self, body: bytes) -> Answer:
        """Return status and body."""
        status, parts = 500, []

        said = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            # After its question a client says nothing more.
            return said.pop() if said else await asyncio.Future()

        async def send(message: Mapping[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            parts.append(message.get("body", b""))

        scope = {"type": "http", "method": "POST", "path": "/infer", "headers": []}
        await self._endpoint(scope, receive, send)
        return status, b"".join(parts)


class Ingress:
    """Chooses by a hash of the unit, half and half."""

    def __init__(self, first: DeploymentHandle, second: DeploymentHandle) -> None:
        self._versions = first, second

    async def __call__(self, request: Request) -> Response:
        unit = request.headers.get("x-unit-id", "").encode()
        version = self._versions[hashlib.blake2b(unit, digest_size=1).digest()[0] & 1]
        status, body = await version.infer.remote(await request.body())
        return Response(body, status, media_type="application/json")


def build(args: Mapping[str, Any]) -> serve.Application:
    """Return the application; Serve finds this function by its name."""
    options = {"ray_actor_options": {"num_cpus": 0.1}, "max_ongoing_requests": 256}
    versions = [
        serve.deployment(Model, name=f"version-{number}", **options).bind(
            number, artifact, digest, args["workdir"]
        )
        for number, (artifact, digest) in enumerate(args["versions"], start=1)
    ]
    return serve.deployment(Ingress, **options).bind(*versions)
