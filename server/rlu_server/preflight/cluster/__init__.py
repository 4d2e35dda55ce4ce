"""Whether a cluster can take the chart: `api` asks, `reading` makes facts of the answers, `judge` makes findings of the facts.

Nothing is changed in the cluster, and no content of a Secret is looked at. Findings count nodes and do not name them.
"""

from __future__ import annotations

from rlu_server.preflight.cluster.api import Server
from rlu_server.preflight.cluster.judge import judge_cluster, unreachable
from rlu_server.preflight.cluster.reading import look_at
from rlu_server.preflight.cluster.state import Wish

__all__ = ["Server", "Wish", "judge_cluster", "look_at", "unreachable"]
