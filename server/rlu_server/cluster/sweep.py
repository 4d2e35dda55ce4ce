"""What labellers cannot take away themselves: labels whose labeller died with its node agent, and everything, when the release goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rlu_server.cluster import certify
from rlu_server.cluster.api import Api
from rlu_server.cluster.certify import Names
from rlu_server.cluster.rights import LIST_NODES, PATCH_NODE

PAGE = "500"


def sweep(api: Api, names: Names, now: int, older: int) -> list[str]:
    """Take the label from nodes whose labeller was not seen for `older` seconds; their names."""
    found = certify.stale(_nodes(api), names, now, older)
    for node in found:
        api.call(PATCH_NODE, node["metadata"]["name"], certify.withdraw(node, names))
    return [node["metadata"]["name"] for node in found]


def forget(api: Api, names: Names) -> list[str]:
    """Leave nothing of ours on any node; the names of those that had something."""
    changed = []
    for node in _nodes(api):
        patch = certify.forget(node, names)
        if patch:
            api.call(PATCH_NODE, node["metadata"]["name"], patch)
            changed.append(node["metadata"]["name"])
    return changed


def _nodes(api: Api) -> Iterator[Mapping[str, Any]]:
    following = ""
    while True:
        page = api.call(LIST_NODES, query={"limit": PAGE} | ({"continue": following} if following else {}))
        yield from page.get("items") or ()
        following = (page.get("metadata") or {}).get("continue") or ""
        if not following:
            return
