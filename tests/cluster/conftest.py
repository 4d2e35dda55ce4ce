"""One control plane for the whole run; each test has a namespace, or nodes, of its own."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

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


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Names that no other test has."""
    tag = secrets.token_hex(4)
    return lambda name: f"{name}-{tag}"
