"""Making what serves take the current version, where that is not `rlu serve` on this machine: pods are rolled, one after the other.

A StatefulSet's pods are replaced when its template changes, so the version becomes an annotation of it: the same version again changes
nothing. Each pod drains, and the next goes when the last is ready; one that does not get ready stops the rollout.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from rlu_server.cluster.api import Api
from rlu_server.cluster.rights import PATCH_STATEFULSET
from rlu_server.outreach.cluster import Cluster

ANNOTATION = "rlu.internal/model-version"


def roller(rollout: str) -> Callable[[str], None]:
    """What is called with the version after a switch.

    Args:
        rollout: `namespace/name` of a StatefulSet of the cluster that this process is in; empty: nothing has to be done.
    """
    if not rollout:
        return lambda version: None
    namespace, _, name = rollout.partition("/")

    def roll(version: str) -> None:
        """Raises RluError: of the API server (`cluster.…`, `relay.…`)."""
        api = Api(Cluster.around(os.environ), namespace, ("update",))
        template = {"template": {"metadata": {"annotations": {ANNOTATION: version}}}}
        api.call(PATCH_STATEFULSET, name, {"spec": template})

    return roll
