"""One real control plane for the whole run, made when the first test asks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from control_plane import Cluster, control_plane, controllers


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with control_plane(tmp_path_factory.mktemp("control-plane")) as running:
        yield running


@pytest.fixture(scope="session")
def whole_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """With controllers and scheduler."""
    with controllers(cluster):
        yield cluster
