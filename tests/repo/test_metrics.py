"""Names of metrics are explained where they are made, and in the documents."""

from pathlib import Path

from serving.edge.runtime import Incident
from serving.metrics import Kind
from serving.metrics.control import CONTROL, Metrics
from serving.metrics.document import as_document
from serving.metrics.edge import EDGE, INCIDENT_KINDS

ROOT = Path(__file__).parents[2]


def test_every_metric_is_explained_and_named_after_the_product() -> None:
    names = [family.name for family in (*EDGE, *CONTROL)]
    assert len(set(names)) == len(names)
    for family in (*EDGE, *CONTROL):
        assert family.name.startswith("tiltyard_")
        assert not family.name.endswith("_total"), "that is added to a counter's name"
        assert family.explained.endswith(".")


def test_what_has_a_unit_is_told_in_the_base_unit_and_ends_with_it() -> None:
    for family in (*EDGE, *CONTROL):
        words = family.name.split("_")
        assert not {"ms", "milliseconds", "minutes", "kilobytes", "mb", "percent"} & set(words)
        assert not {"bytes", "seconds"} & set(words[:-1])
        assert family.kind is not Kind.HISTOGRAM or words[-1] == "seconds"


def test_control_tells_no_name_that_is_not_explained() -> None:
    told = {family.name for family in Metrics().registry.collect()}
    assert told <= {family.name for family in CONTROL}


def test_every_kind_of_incident_is_explained() -> None:
    assert set(INCIDENT_KINDS) == set(Incident)


def test_the_document_says_the_same() -> None:
    """`python -m serving.metrics.document` writes it."""
    assert (ROOT / "docs" / "metrics.md").read_text() == as_document()
