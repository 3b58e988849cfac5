"""Every setting in one class; environment variables with the prefix `TILTYARD_`."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from serving.edge.partition import PartitionPolicy
from serving.errors import UnreadableRunningFile

EDGE_PATIENCE: Final = timedelta(seconds=3)
"""How long a change of a route waits for edges, and therefore the longest `edge_lease`: with a
longer one every change would wait in vain for an edge that has just died."""


class Settings(BaseSettings):
    """How this process finds the others. Ports that are taken are replaced by free ones in
    `tiltyard up`; everywhere else they are taken as they stand."""

    model_config = SettingsConfigDict(env_prefix="TILTYARD_", frozen=True, extra="forbid")

    state_dir: Path = Field(
        Path.home() / ".tiltyard", description="Where a local system keeps its files."
    )
    edge_name: str = Field(
        "edge-0",
        pattern=r"^[a-z0-9][a-z0-9-]{0,31}$",
        description="Name of this edge; its files are in a folder of that name.",
    )
    edge_host: str = Field("127.0.0.1", description="Address that the edge listens on.")
    edge_port: int = Field(
        8080, ge=1, le=65535, description="Port that clients send their requests to."
    )
    edges: int = Field(
        1,
        ge=1,
        le=64,
        description="Edges of `tiltyard up`, on `edge_port` and the ports after it.",
    )
    edge_metrics_host: str = Field(
        "127.0.0.1", description="Address at which an edge's metrics can be had."
    )
    edge_metrics_port: int = Field(
        8100,
        ge=1,
        le=65535,
        description="Port of an edge's metrics: `/metrics` and `/agent/metrics`.",
    )
    control_host: str = Field("127.0.0.1", description="Address that the control API listens on.")
    control_port: int = Field(8090, ge=1, le=65535, description="Port of the control API.")
    redis_url: str = Field(
        "redis://127.0.0.1:6390/0", description="Redis; `tiltyard up` starts one there."
    )
    mlflow_uri: str | None = Field(
        None, description="MLflow tracking server; by default an SQLite file in the state folder."
    )
    serve_host: str = Field("127.0.0.1", description="Address of Ray Serve's HTTP ingress.")
    serve_port: int = Field(8000, ge=1, le=65535, description="Port of Ray Serve's HTTP ingress.")
    ray_dashboard_url: str = Field(
        "http://127.0.0.1:8265", description="Ray's dashboard, whose REST API deploys the hosts."
    )
    ray_cpus: int | None = Field(
        None, description="CPUs that a local Ray may give away; by default the machine's."
    )
    ray_gpus: int | None = Field(
        None, description="GPUs that a local Ray may give away; by default the machine's."
    )
    signing_key_file: Path | None = Field(
        None,
        description="Key that signs prediction ids; by default `signing.key` in the state folder.",
    )
    max_body_bytes: int = Field(
        8 * 1024 * 1024, ge=1024, description="Largest request body that the edge accepts."
    )
    retry_body_bytes: int = Field(
        64 * 1024,
        ge=1024,
        description="Largest body that can be sent twice; HAProxy's buffer has 16 KiB more.",
    )
    version_in_flight: int = Field(
        1000,
        ge=5,
        description="Requests of one version under way at an edge; it answers others with 429.",
    )
    source_connections: int = Field(
        1000,
        ge=0,
        description="Connections of one address to an edge; 0 for any number of them.",
    )
    client_timeout: timedelta = Field(
        timedelta(seconds=10),
        gt=timedelta(0),
        description="How long a client may take for its headers, and again for its body.",
    )
    champion_timeout: timedelta = Field(
        timedelta(seconds=30),
        gt=timedelta(0),
        description="How long a champion may take to answer.",
    )
    attribution_window: timedelta = Field(
        timedelta(days=1),
        gt=timedelta(0),
        description="How long after its prediction an outcome is accepted.",
    )
    edge_lease: timedelta = Field(
        EDGE_PATIENCE,
        gt=timedelta(0),
        le=EDGE_PATIENCE,
        description="An edge that was not heard of for so long is not waited for; at most 3 s,"
        " as long as a rollback waits.",
    )
    partition_policy: PartitionPolicy = Field(
        PartitionPolicy.KEEP,
        description="What an edge serves while Redis has not heard of it for longer than its lease:"
        " `keep` the routes that it knows, or `champion` no challenger.",
    )
    leader_lease: timedelta = Field(
        timedelta(seconds=5),
        gt=timedelta(0),
        description="After so long without a tick another control leads.",
    )
    tick: timedelta = Field(
        timedelta(seconds=1),
        gt=timedelta(0),
        description="Time between two looks of the controller.",
    )
    shadow_at_once: int = Field(
        8, ge=1, le=256, description="Requests that an edge repeats to challengers at once."
    )
    shadow_body_bytes: int = Field(
        1024 * 1024,
        ge=1024,
        description="Largest request, and largest answer, that is repeated and compared.",
    )
    shadow_memory_bytes: int = Field(
        32 * 1024 * 1024,
        ge=1024,
        description="What copies for the shadow may take at an edge; beyond it they are dropped.",
    )
    log_limit_bytes: int = Field(
        1024 * 1024 * 1024,
        ge=256 * 1024,
        description="Request log kept while Redis is away; beyond it evidence is lost and marked.",
    )

    @property
    def signing_key(self) -> Path:
        return self.signing_key_file or self.state_dir / "signing.key"

    @property
    def running_file(self) -> Path:
        """What `tiltyard up` writes: the settings of the system that runs on this machine."""
        return self.state_dir / "running.json"

    @property
    def ray_dir(self) -> Path:
        """State of the local Ray cluster."""
        return self.state_dir / "ray"

    @property
    def ray_token(self) -> Path:
        """Token that Ray's REST API asks for; absent where Ray asks for none."""
        return self.ray_dir / "ray.token"

    @property
    def edge_dir(self) -> Path:
        """Map, configuration, sockets and request log of this edge."""
        return self.state_dir / self.edge_name

    @property
    def agent_socket(self) -> Path:
        """Where this edge's agent takes orders from whoever is on the machine."""
        return self.edge_dir / "agent.sock"

    @property
    def local_edges(self) -> tuple["Settings", ...]:
        """What each edge of this machine goes by; the first has the name and the port given here.

        Examples:
            >>> [(each.edge_name, each.edge_port) for each in Settings(edges=3).local_edges]
            [('edge-0', 8080), ('edge-1', 8081), ('edge-2', 8082)]
        """
        return tuple(self._edge(number) for number in range(self.edges))

    def _edge(self, number: int) -> "Settings":
        name = f"{self.edge_name.removesuffix('-0')}-{number}" if number else self.edge_name
        own = {"edges": 1, "edge_name": name, "edge_port": self.edge_port + number}
        own["edge_metrics_port"] = self.edge_metrics_port + number
        return self.model_copy(update=own)

    @property
    def catalog_uri(self) -> str:
        """Where MLflow's tracking API is."""
        return self.mlflow_uri or f"sqlite:///{self.state_dir}/mlflow.db"

    @property
    def artifact_dir(self) -> Path:
        """Where an embedded MLflow keeps artifacts."""
        return self.state_dir / "artifacts"

    @property
    def edge_url(self) -> str:
        return f"http://{self.edge_host}:{self.edge_port}"

    @property
    def control_url(self) -> str:
        return f"http://{self.control_host}:{self.control_port}"

    @property
    def serve_url(self) -> str:
        return f"http://{self.serve_host}:{self.serve_port}"


def running_settings() -> Settings:
    """Return the settings of the system that runs on this machine.

    The environment wins over what `tiltyard up` wrote into the state folder, and that over the
    defaults.

    Raises:
        pydantic.ValidationError: the environment holds a setting that cannot be.
        UnreadableRunningFile: what `tiltyard up` wrote cannot be read.
    """
    stated = Settings()
    try:
        written = json.loads(stated.running_file.read_bytes())["settings"]
        unset = {name: written[name] for name in written if name not in stated.model_fields_set}
        return Settings(**unset)
    except FileNotFoundError:
        return stated
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise UnreadableRunningFile(f"{stated.running_file} cannot be read: {error}") from error
