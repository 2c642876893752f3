"""Tests of one xdist_group run in one process of a parallel run, and share their fixtures."""

import os

import pytest


@pytest.mark.xdist_group("a group")
def test_a_group_is_scheduled_as_one(request: pytest.FixtureRequest) -> None:
    """Its id decides that. Without a parallel run there is nothing to decide."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        assert request.node.nodeid.endswith("@a group")
