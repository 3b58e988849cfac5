"""The control API from its client's side: a method a command, plain dictionaries back."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import quote

import httpx2

from serving.errors import ControlUnavailable, Refused

PATIENCE = httpx2.Timeout(15.0, connect=2.0)
"""Longer than control itself waits for edges, so that it is control that says who is silent."""

Answer = dict[str, Any]


class ControlClient:
    """Control, as whoever commands it sees it.

    Every method may raise `Refused` (control said no, and why) or `ControlUnavailable` (it said
    nothing). A command that was not answered may still be carried out.
    """

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, *, transport: httpx2.AsyncBaseTransport | None = None
    ) -> AsyncIterator[Self]:
        """Speak to the control at `url`; nothing is sent yet.

        Args:
            transport: Another way to get there than the network.
        """
        # Control is on this machine or next to it: no proxy of the environment stands between.
        async with httpx2.AsyncClient(
            base_url=url, transport=transport, timeout=PATIENCE, trust_env=False
        ) as http:
            yield cls(http)

    async def status(self) -> Answer:
        """Return every model, version, edge and trouble."""
        return await self._ask("GET", "/v1/status")

    async def deploy(
        self, model: str, version: int, *, replicas: int = 2, cpus: float = 0.1, gpus: float = 0.0
    ) -> Answer:
        """Have a version loaded, and return how far it is."""
        body = {"replicas": replicas, "cpus": cpus, "gpus": gpus}
        return await self._ask("PUT", _host(model, version), json=body)

    async def host(self, model: str, version: int) -> Answer:
        """Return how far a deployed version is."""
        return await self._ask("GET", _host(model, version))

    async def undeploy(self, model: str, version: int) -> Answer:
        """Have a version unloaded that serves no traffic."""
        return await self._ask("DELETE", _host(model, version))

    async def promote(self, model: str, version: int, *, by: str, why: str = "") -> Answer:
        """Make a version the champion, and wait until every live edge obeys."""
        body = {"version": version, "by": by, "why": why}
        return await self._ask("POST", f"{_model(model)}/promote", json=body)

    async def hold_out(self, model: str, share: str, *, by: str, why: str = "") -> Answer:
        """Keep a share of the units, such as `5%`, from every challenger to come."""
        body = {"share": share, "by": by, "why": why}
        return await self._ask("PUT", f"{_model(model)}/holdout", json=body)

    async def rollback(
        self, model: str, *, by: str, why: str = "", to: int | None = None, force: bool = False
    ) -> Answer:
        """Withdraw what is on trial, or else the champion, and wait until every live edge obeys."""
        body = {"by": by, "why": why, "to": to, "force": force}
        return await self._ask("POST", f"{_model(model)}/rollback", json=body)

    async def route(self, model: str) -> Answer:
        """Return what the edges are told to obey."""
        return await self._ask("GET", f"{_model(model)}/route")

    async def history(self, model: str) -> Answer:
        """Return a model's champions, oldest first, and its receipts, newest first."""
        return await self._ask("GET", f"{_model(model)}/history")

    async def drill(self, model: str, times: int, *, by: str) -> Answer:
        """Begin to try rollbacks out on a lane of the model; `drills` tells how far it is."""
        return await self._ask("POST", f"{_model(model)}/drills", json={"times": times, "by": by})

    async def drills(self, model: str) -> list[Answer]:
        """Return the rollback drills of a model, the latest first."""
        found: list[Answer] = await self._send("GET", f"{_model(model)}/drills")
        return found

    async def last_drill(self, model: str) -> Answer:
        """Return the latest rollback drill of a model."""
        return await self._ask("GET", f"{_model(model)}/drills/last")

    async def start(self, file: bytes, *, by: str) -> Answer:
        """Begin the experiment that an experiment file declares."""
        return await self._ask(
            "POST",
            "/v1/experiments",
            params={"by": by},
            content=file,
            headers={"content-type": "application/yaml"},
        )

    async def experiments(self) -> list[Answer]:
        """Return every experiment, in the order in which they were started."""
        found: list[Answer] = await self._send("GET", "/v1/experiments")
        return found

    async def experiment(self, name: str) -> Answer:
        """Return an experiment, its evidence and what follows from it now."""
        return await self._ask("GET", f"/v1/experiments/{quote(name, safe='')}")

    async def trail(self, name: str) -> Answer:
        """Return how what an experiment shows has moved over time."""
        return await self._ask("GET", f"/v1/experiments/{quote(name, safe='')}/trail")

    async def pause(self, name: str, *, by: str, why: str = "") -> Answer:
        """Let the ramp rest; harm is still looked for."""
        return await self._tell(name, "pause", by, why)

    async def resume(self, name: str, *, by: str, why: str = "") -> Answer:
        """Let the ramp move again."""
        return await self._tell(name, "resume", by, why)

    async def stop(self, name: str, *, by: str, why: str = "") -> Answer:
        """End an experiment without a verdict; everybody meets the champion."""
        return await self._tell(name, "stop", by, why)

    async def receipt(self, receipt: str) -> bytes:
        """Return a receipt, byte for byte as its id is the digest of."""
        answer = await self._answer("GET", f"/v1/receipts/{quote(receipt, safe='')}")
        return answer.content

    async def replay(self, receipt: str) -> Answer:
        """Have the decision of a receipt made again, from the receipt alone."""
        return await self._ask("POST", f"/v1/receipts/{quote(receipt, safe='')}/replay")

    async def outcome(self, prediction_id: str, metric: str, value: object) -> Answer:
        """Report what became of one prediction."""
        body = {"prediction_id": prediction_id, "metric": metric, "value": value}
        return await self._ask("POST", "/v1/outcomes", json=body)

    async def outcomes(self, body: bytes | Sequence[Mapping[str, object]]) -> Answer:
        """Report what became of up to 1,000 predictions; a body in bytes is sent as it is."""
        if isinstance(body, bytes):
            headers = {"content-type": "application/json"}
            return await self._ask("POST", "/v1/outcomes", content=body, headers=headers)
        return await self._ask("POST", "/v1/outcomes", json=list(body))

    async def keep_lane(self, model: str, holder: str, *, by: str, faults: Sequence[str]) -> Answer:
        """Open the lane on which a model is certified, or keep it for another minute."""
        body = {"holder": holder, "by": by, "faults": list(faults)}
        return await self._ask("PUT", _lane(model), json=body)

    async def lane_example(self, model: str, holder: str) -> bytes:
        """Return a request that the model takes; empty if nothing is known of any."""
        answer = await self._answer("GET", f"{_lane(model)}/example", params={"holder": holder})
        return answer.content

    async def lane_trial(
        self, model: str, holder: str, fault: str, slow_ms: int, deadline_ms: int, *, by: str
    ) -> Answer:
        """Begin the experiment in which a planted fault is to be found."""
        body = {
            "holder": holder,
            "by": by,
            "fault": fault,
            "slow_ms": slow_ms,
            "deadline_ms": deadline_ms,
        }
        return await self._ask("POST", f"{_lane(model)}/trials", json=body)

    async def end_lane(self, model: str, holder: str) -> Answer:
        """Give a lane up."""
        return await self._ask("DELETE", _lane(model), params={"holder": holder})

    async def _tell(self, name: str, action: str, by: str, why: str) -> Answer:
        path = f"/v1/experiments/{quote(name, safe='')}/{action}"
        return await self._ask("POST", path, json={"by": by, "why": why})

    async def _ask(self, method: str, path: str, **sent: Any) -> Answer:  # noqa: ANN401
        found: Answer = await self._send(method, path, **sent)
        return found

    async def _send(self, method: str, path: str, **sent: Any) -> Any:  # noqa: ANN401
        answer = await self._answer(method, path, **sent)
        try:
            return answer.json()
        except ValueError as error:
            raise self._stranger() from error

    async def _answer(self, method: str, path: str, **sent: Any) -> httpx2.Response:  # noqa: ANN401
        try:
            answer = await self._http.request(method, path, **sent)
        except httpx2.HTTPError as error:
            why = str(error) or type(error).__name__
            raise ControlUnavailable(
                f"Control does not answer at {self._http.base_url}: {why}."
            ) from error
        if answer.is_success:
            return answer
        try:
            problem = answer.json()
        except ValueError as error:
            raise self._stranger() from error
        if not isinstance(problem, dict) or "code" not in problem:
            raise self._stranger()
        raise Refused.from_problem(problem)

    def _stranger(self) -> ControlUnavailable:
        return ControlUnavailable(
            f"What answers at {self._http.base_url} is not Tiltyard's control."
        )


def _model(model: str) -> str:
    return f"/v1/models/{quote(model, safe='')}"


def _lane(model: str) -> str:
    return f"/v1/certify/{quote(model, safe='')}"


def _host(model: str, version: int) -> str:
    return f"{_model(model)}/versions/{version}/host"
