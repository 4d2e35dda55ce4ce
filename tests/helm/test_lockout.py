"""Guesses are counted by address, so not where a load balancer, an ingress or a gateway lends its own address to all clients."""

from __future__ import annotations

from typing import Any

import pytest
import tomllib

from rlu_server.settings_auth import Auth


def lockout(rendered: Any) -> object:
    text = next(c["data"]["rlu.toml"] for c in rendered.of("ConfigMap") if "rlu.toml" in c["data"])
    return tomllib.loads(text).get("auth", {}).get("lockout_after")


@pytest.mark.parametrize("kind", ["ingress", "gateway"])
def test_one_client_behind_a_proxy_does_not_lock_the_others_out(rendered: Any, kind: str) -> None:
    exposure: dict[str, Any] = {"kind": kind, "host": "rlu.example"}
    if kind == "gateway":
        exposure["gateway"] = {"name": "edge"}
    assert lockout(rendered("h200x8", {"exposure": exposure})) == 0


def test_with_addresses_of_their_own_clients_that_guess_wait(rendered: Any) -> None:
    assert lockout(rendered("h200x8", {})) == Auth().lockout_after > 0
    assert lockout(rendered("h200x8", {"auth": {"lockoutAfter": 3}})) == 3
