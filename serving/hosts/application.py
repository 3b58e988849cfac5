"""The Ray Serve application of one version; runs in Ray's processes, not in ours.

Serve calls `build`, then makes a `Host` for each replica. A host that cannot load its version
raises from its constructor, and Serve reports the traceback.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import serve

from registry.refs import ModelName, Version, VersionRef
from serving.hosts import HOST_DEPLOYMENT


@serve.ingress()
class Host:
    """One replica of one version, loaded and warmed up once it is constructed.

    Args:
        workdir: Folder for copies of artifacts, on this node.
        hangs_after: Seconds in one call of the model after which the replica reports itself
            unhealthy, and Serve replaces it.
        fault: A `serving.hosts.faults.Fault` to plant.
    """

    def __init__(
        self,
        ref: VersionRef,
        artifact: str,
        digest: str,
        *,
        workdir: str,
        batch_rows: int,
        hangs_after: float,
        max_body_bytes: int,
        fault: str = "none",
    ) -> None:
        # Imported here: `build` runs in a process of its own, which needs none of this.
        from registry.mlflow import load
        from serving.hosts.endpoint import HostEndpoint
        from serving.hosts.faults import Fault

        model = load(artifact, digest, Path(workdir))
        if model.example is not None:
            model.predict(model.example)
        self._hangs_after = hangs_after
        self._endpoint = HostEndpoint(
            ref,
            model,
            batch_rows=batch_rows,
            max_body_bytes=max_body_bytes,
            example=model.example,
            fault=Fault(fault),
        )

    def __serve_build_asgi_app__(self) -> Any:  # noqa: ANN401  Serve's name for it
        return self._endpoint

    def check_health(self) -> None:
        """Raise if the model does not come back; Serve asks every few seconds."""
        if self._endpoint.busy_for() > self._hangs_after:
            raise TimeoutError(f"the model has been at one call for {self._hangs_after:.0f} s")


def build(args: Mapping[str, Any]) -> serve.Application:
    """Return the application of one version; Serve finds this function by its name.

    Args:
        args: What `serving.hosts.serve.application_config` puts there.
    """
    options = dict(args)
    ref = VersionRef(ModelName(options.pop("model")), Version(options.pop("version")))
    deployment = serve.deployment(
        Host,
        name=HOST_DEPLOYMENT,
        # A version that fails to load has failed: trying again is for whoever deploys it.
        max_constructor_retry_count=1,
    )
    return deployment.bind(ref, options.pop("artifact"), options.pop("digest"), **options)
