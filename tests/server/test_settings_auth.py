"""What `[auth]` refuses, with words that say why."""

from __future__ import annotations

from typing import Any

import pytest

from rlu_server.core.auth.jwks import ALGORITHMS
from rlu_server.settings import SettingsError, load
from rlu_server.settings_auth import SIGNATURE_ALGORITHMS

ISSUER: dict[str, Any] = {"name": "a", "issuer": "x", "audience": ["rlu"], "jwks_file": "f", "tenant": "t"}
RULE = {"source": "dns", "pattern": "{principal}.x", "tenant": "t"}


def issuer(**change: Any) -> dict[str, Any]:
    return {"issuers": [{name: value for name, value in {**ISSUER, **change}.items() if value is not ...}]}


def certificates(**change: Any) -> dict[str, Any]:
    return {"certificates": {"mode": "optional", "ca_file": "f", "rules": [RULE], **change}}


@pytest.mark.parametrize(
    ("section", "says"),
    [
        (issuer(algorithms=["none"]), "cannot be allowed"),
        (issuer(algorithms=["HS256"]), "cannot be allowed"),
        (issuer(algorithms=[]), "algorithms"),
        (issuer(audience=[]), "audience"),
        (issuer(jwks_file=...), "jwks_file, or review"),
        (issuer(review=True), "needs relay"),
        (issuer(tenant=...), "either tenant or tenant_claim"),
        (issuer(tenant_claim=["org"], tenants=["t"]), "either tenant or tenant_claim"),
        (issuer(tenant=..., tenant_claim=["org"]), "takes tenants"),
        (issuer(tenants=["t"]), "takes tenants"),
        (issuer(name="Not A Name"), "name"),
        ({"issuers": [ISSUER, {**ISSUER, "name": "b"}]}, "occurs twice"),
        ({"issuers": [ISSUER, {**ISSUER, "issuer": "y"}]}, "occurs twice"),
        (certificates(ca_file=None), "need ca_file and rules"),
        (certificates(rules=[]), "need ca_file and rules"),
        (certificates(rules=[{**RULE, "pattern": "x"}]), "{principal} once"),
        (certificates(rules=[{**RULE, "tenant": ""}]), "the tenant is said once"),
        (certificates(rules=[{**RULE, "pattern": "{tenant}{principal}"}]), "the tenant is said once"),
        ({"relay": "https://relay.example:1"}, "relay"),
        ({"relay": "https://10.0.0.1:1"}, "relay_ca_file"),
        ({"relay": "http://10.0.0.1:1"}, "use https"),
        ({"relay": "unix:relative"}, "relay"),
        ({"administrators": ["alice"]}, "administrators"),
    ],
)
def test_refusals(section: dict[str, Any], says: str):
    with pytest.raises(SettingsError) as caught:
        load(None, {}, {"auth": section})
    assert says in str(caught.value)


def test_what_is_accepted():
    made = load(None, {}, {"auth": {**issuer(), **certificates(), "relay": "http://127.0.0.1:80"}}).auth
    assert made.issuers[0].algorithms == ("RS256", "ES256")


def test_every_algorithm_that_can_be_allowed_can_be_verified():
    assert set(ALGORITHMS) == SIGNATURE_ALGORITHMS
