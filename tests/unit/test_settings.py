"""Settings that depend on one another."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from serving.settings import Settings
from serving.switch import LEASE, PATIENCE


def test_an_edge_that_dies_is_not_waited_for_in_vain_whatever_its_lease():
    longest = timedelta(seconds=PATIENCE)
    assert Settings(edge_lease=longest).edge_lease == longest
    with pytest.raises(ValidationError, match="edge_lease"):
        Settings(edge_lease=longest + timedelta(milliseconds=1))
    assert Settings.model_fields["edge_lease"].default == LEASE
