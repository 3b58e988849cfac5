"""Ray Serve through its REST API: what is deployed, and what is to be.

A `PUT` replaces the whole set of applications; each describes itself completely.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx2

from registry.refs import ModelName, Version, VersionRef
from serving.errors import HostsUnavailable
from serving.hosts import HOST_DEPLOYMENT, HostSpec
from serving.hosts.faults import Fault
from serving.routes import host_path

_APPLICATIONS = "/api/serve/applications/"


@dataclass(frozen=True, slots=True)
class HostOptions:
    """What all hosts have in common.

    Args:
        ingress_host, ingress_port: Where Serve's ingress listens. Serve takes them when its
            first application is deployed, and keeps them.
        workdir: Folder on each node for copies of the artifacts.
        batch_rows: Most rows in one call of a model.
        hangs_after: Seconds in one call of a model after which the replica is replaced.
    """

    ingress_host: str
    ingress_port: int
    workdir: Path
    max_body_bytes: int = 8 * 1024 * 1024
    batch_rows: int = 64
    hangs_after: float = 60.0


@dataclass(frozen=True, slots=True)
class Application:
    """One application as Serve reports it.

    Args:
        status: Serve's word: DEPLOYING, RUNNING, UNHEALTHY, DEPLOY_FAILED, DELETING.
        message: Serve's explanation, of the application or of its deployment.
        running: Replicas that are loaded and healthy.
        pending: Replicas that are being started.
        config: What was last put for it.
    """

    status: str
    message: str
    running: int
    pending: int
    config: Mapping[str, Any]


def application_name(ref: VersionRef) -> str:
    """Return the name of the version's application; no two versions share one.

    Examples:
        >>> application_name(VersionRef.parse("digits/2"))
        'digits-2'
    """
    return f"{ref.model}-{ref.version}"


def application_config(spec: HostSpec, options: HostOptions) -> dict[str, Any]:
    """Return what Serve is told of one version.

    What is in `args` cannot change without a restart of the replicas; the number of replicas
    can, so it is not there.
    """
    return {
        "name": application_name(spec.ref),
        "route_prefix": host_path(spec.ref),
        "import_path": "serving.hosts.application:build",
        "args": {
            "model": spec.ref.model,
            "version": spec.ref.version,
            "artifact": spec.artifact,
            "digest": spec.digest,
            "workdir": str(options.workdir),
            "batch_rows": options.batch_rows,
            "hangs_after": options.hangs_after,
            "max_body_bytes": options.max_body_bytes,
            # Left out where there is none, so that no host is changed for it.
            **({} if spec.fault is Fault.NONE else {"fault": spec.fault.value}),
        },
        "deployments": [
            {
                "name": HOST_DEPLOYMENT,
                "num_replicas": spec.replicas,
                "ray_actor_options": {"num_cpus": spec.cpus, "num_gpus": spec.gpus},
                # Should its arguments change, the new replica is loaded before the old one goes.
                "max_surge_percent": 100,
                "max_ongoing_requests": 256,
                # Beyond this a replica has more to do than it will get done in time. It says so,
                # and the edge passes it on instead of asking others, who have as much to do.
                "max_queued_requests": 256,
                "backpressure_config": {"status_code": 429, "retry_after_s": 1.0},
                "health_check_period_s": 2.0,
                "health_check_timeout_s": 10.0,
                "graceful_shutdown_timeout_s": 10.0,
                "graceful_shutdown_wait_loop_s": 0.5,
            }
        ],
    }


def declared_spec(config: Mapping[str, Any]) -> HostSpec | None:
    """Return the spec that `application_config` wrote; None if it is somebody else's."""
    try:
        args = config["args"]
        (deployment,) = config["deployments"]
        resources = deployment["ray_actor_options"]
        return HostSpec(
            ref=VersionRef(ModelName(args["model"]), Version(args["version"])),
            artifact=args["artifact"],
            digest=args["digest"],
            replicas=deployment["num_replicas"],
            cpus=resources["num_cpus"],
            gpus=resources["num_gpus"],
            fault=Fault(args.get("fault", Fault.NONE)),
        )
    except (KeyError, TypeError, ValueError):
        return None


class ServeClient:
    """Ray's dashboard, and Serve's ingress for probes."""

    def __init__(self, client: httpx2.AsyncClient, options: HostOptions) -> None:
        self._client = client
        self._options = options

    @classmethod
    @asynccontextmanager
    async def open(
        cls, dashboard_url: str, options: HostOptions, *, token: str | None = None
    ) -> AsyncIterator[Self]:
        """Speak to the Ray at `dashboard_url`; nothing is sent yet.

        Args:
            token: What Ray asks for if its token authentication is on.
        """
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with httpx2.AsyncClient(
            base_url=dashboard_url, headers=headers, timeout=30.0, trust_env=False
        ) as client:
            yield cls(client, options)

    def config(self, spec: HostSpec) -> dict[str, Any]:
        """Return what `deploy` tells Serve of one version."""
        return application_config(spec, self._options)

    def spec(self, config: Mapping[str, Any]) -> HostSpec | None:
        """Return what an application was declared as; None if it is none of ours."""
        return declared_spec(config)

    async def applications(self) -> Mapping[str, Application]:
        """Return every application by name.

        Raises:
            HostsUnavailable: Ray does not answer.
        """
        body = (await self._ask("GET")).json()
        return {name: _application(found) for name, found in body["applications"].items()}

    async def deploy(self, specs: Iterable[HostSpec]) -> None:
        """Make these, and no others, the applications that Serve runs; returns at once.

        Raises:
            HostsUnavailable: Ray does not answer, or refuses.
        """
        quiet = {"log_level": "WARNING", "enable_access_log": False}
        await self._ask(
            "PUT",
            json={
                "proxy_location": "HeadOnly",
                "http_options": {
                    "host": self._options.ingress_host,
                    "port": self._options.ingress_port,
                },
                "logging_config": quiet,
                "applications": [self.config(spec) for spec in specs],
            },
        )

    async def probe(self, ref: VersionRef) -> bool:
        """Tell whether the version answers through Serve's ingress."""
        host, port = self._options.ingress_host, self._options.ingress_port
        try:
            url = f"http://{host}:{port}{host_path(ref)}/ready"
            return (await self._client.get(url, timeout=2.0)).status_code == 200
        except httpx2.HTTPError:
            return False

    async def example(self, ref: VersionRef) -> bytes | None:
        """Return a request that the version takes, as it was saved with it; None if there is none.

        Raises:
            HostsUnavailable: the version does not answer through Serve's ingress.
        """
        host, port = self._options.ingress_host, self._options.ingress_port
        try:
            url = f"http://{host}:{port}{host_path(ref)}/example"
            answer = await self._client.get(url, timeout=5.0)
        except httpx2.HTTPError as error:
            raise HostsUnavailable(f"{ref} does not answer: {type(error).__name__}") from error
        return answer.content if answer.status_code == 200 else None

    async def _ask(self, method: str, **content: Any) -> httpx2.Response:  # noqa: ANN401
        try:
            response = await self._client.request(method, _APPLICATIONS, **content)
        except httpx2.HTTPError as error:
            raise HostsUnavailable(
                f"Ray's dashboard does not answer: {error or type(error).__name__}"
            ) from error
        if response.status_code != 200:
            # A traceback, mostly: what happened is in its last line.
            said = response.text.strip().rpartition("\n")[2][:500]
            raise HostsUnavailable(
                f"Ray's dashboard answered {response.status_code} to {method}: {said}"
            )
        return response


def _application(found: Mapping[str, Any]) -> Application:
    deployments = found["deployments"].values()
    states = [replica["state"] for each in deployments for replica in each["replicas"]]
    messages = [found["message"], *(each["message"] for each in deployments)]
    return Application(
        status=found["status"],
        message=max(messages, key=len, default=""),
        running=states.count("RUNNING"),
        pending=states.count("STARTING") + states.count("RECOVERING") + states.count("UPDATING"),
        config=found["deployed_app_config"] or {},
    )
