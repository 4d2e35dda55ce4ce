"""What labellers cannot take away themselves: labels whose labeller died with its node agent, and everything, when the release goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rlu_server.cluster import certify
from rlu_server.cluster.api import Api, Denied
from rlu_server.cluster.certify import Names
from rlu_server.cluster.labeller import ATTEMPTS
from rlu_server.cluster.rights import LIST_NODES, PATCH_NODE

PAGE = "500"


def sweep(api: Api, names: Names, now: int, older: int, selector: str = "") -> list[str]:
    """Take the label from nodes whose labeller was not seen for `older` seconds; their names.

    Args:
        selector: labels of the nodes that have a labeller; others may be labelled by hand.
    """
    found = certify.stale(_nodes(api, selector), names, now, older)
    for node in found:
        api.call(PATCH_NODE, node["metadata"]["name"], certify.withdraw(node, names))
    return [node["metadata"]["name"] for node in found]


def forget(api: Api, names: Names, selector: str = "") -> list[str]:
    """Leave nothing of ours on these nodes; the names of those that had something."""
    changed: list[str] = []
    for left in reversed(range(ATTEMPTS)):
        missed = False
        for node in _nodes(api, selector):
            patch = certify.forget(node, names)
            if not patch:
                continue
            try:
                api.call(PATCH_NODE, node["metadata"]["name"], patch)
            except Denied as refusal:
                if refusal.code != "cluster.conflict" or not left:
                    raise
                missed = True
            else:
                changed.append(node["metadata"]["name"])
        if not missed:
            break
    return changed


def _nodes(api: Api, selector: str) -> Iterator[Mapping[str, Any]]:
    following = ""
    while True:
        query = {"limit": PAGE, "labelSelector": selector, "continue": following}
        page = api.call(LIST_NODES, query={key: value for key, value in query.items() if value})
        yield from page.get("items") or ()
        following = (page.get("metadata") or {}).get("continue") or ""
        if not following:
            return
