"""How MLflow behaves in a process of ours: what it reads from the environment."""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        # Whatever it logs, it also raises, and the adapter translates what it raises.
        "MLFLOW_LOGGING_LEVEL": "CRITICAL",
        # By default a server that is away is tried for minutes.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    }
)


def configure_process() -> None:
    """Make MLflow quiet, private and quick to give up in this process and its children.

    It takes effect if MLflow has not been imported yet. What is set in the environment already
    stays as it is.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@contextmanager
def quietly() -> Iterator[None]:
    """Keep MLflow's advice, and the deprecations it has not followed yet, to itself."""
    configure_process()
    # Recorded, because MLflow sets warning filters of its own, which would let them through.
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        yield
