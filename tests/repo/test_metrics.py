"""Names of metrics are explained where they are made."""

from serving.metrics import Metrics


def test_every_metric_is_explained_and_named_after_the_product() -> None:
    for family in Metrics().registry.collect():
        assert family.name.startswith("tiltyard_")
        assert family.documentation.endswith(".")
