"""What a tenant's administrators may see of their own tenant: whose pseudonyms they meet, and which keys there are and are used.

Nobody sees anything of another tenant: a pseudonym of one is answered as one that does not exist.
"""

from __future__ import annotations

import re

from fastapi import APIRouter

from rlu_server.core.errors import GatewayError
from rlu_server.endpoints.access import Caller, Gateway
from rlu_server.endpoints.models import KeyList, KeySummary, ResolvedPseudonym

router = APIRouter(prefix="/v1/rlu/tenant", tags=["tenant"])
_PSEUDONYM = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)


@router.get("/pseudonyms/{pseudonym}")
async def resolve(pseudonym: str, caller: Caller, gateway: Gateway) -> ResolvedPseudonym:
    """Whose pseudonym (`rlu_principal`) it is. For administrators of the tenant."""
    gateway.check_administrator(caller)
    found = gateway.resolve(caller, pseudonym) if _PSEUDONYM.fullmatch(pseudonym) else None
    if found is None:
        raise GatewayError("pseudonym_not_found")
    return ResolvedPseudonym(pseudonym=pseudonym, principal=found)


@router.get("/keys")
async def keys(caller: Caller, gateway: Gateway) -> KeyList:
    """The tenant's API keys, when each was last used since this gateway started, and nothing about what for. For its administrators."""
    gateway.check_administrator(caller)
    return KeyList(
        keys=[
            KeySummary(
                id=record.id,
                principal=record.principal,
                created=record.created,
                expires=record.expires,
                revoked=record.revoked,
                last_used=used,
            )
            for record, used in gateway.keys(caller)
        ]
    )
