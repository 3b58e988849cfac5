"""What control tells of the system, from the same view as people are shown."""

from collections.abc import Iterator

from prometheus_client.core import Metric

from serving.metrics import control
from serving.metrics.exposition import Labels, number, numbers
from serving.views import SystemView


def standing(system: SystemView) -> Iterator[Metric]:
    """Yield edges, routes and hosts as they stand."""
    epochs: dict[Labels, float] = {}
    wanted: dict[Labels, float] = {}
    ready: dict[Labels, float] = {}
    for model in system.models:
        if model.epoch is not None:
            epochs[model.model,] = model.epoch
        for host in model.hosts:
            labels = (model.model, str(host.version))
            wanted[labels], ready[labels] = host.replicas, host.ready_replicas
    yield number(control.EDGES, len(system.edges))
    yield numbers(control.EPOCH, epochs)
    yield numbers(control.REPLICAS, wanted)
    yield numbers(control.READY_REPLICAS, ready)
