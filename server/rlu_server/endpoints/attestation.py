"""The instance's own proof.

Attestation and configuration need no API key: a client checks whom it is talking to before it sends anything, its key included.
"""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Query, Request

from rlu_attestation.encoding import b64u
from rlu_server.core.errors import GatewayError
from rlu_server.endpoints.access import NONCE_MAX, NONCE_MIN, Gateway, read_nonce
from rlu_server.endpoints.models import (
    AttestationBundle,
    AttestationPart,
    Configuration,
    EvidenceItem,
    NonceLimits,
    Tls,
)

MAX_ATTESTING = 64
"""Fresh attestations in flight. They share quotes (FORMATS section 3), so more of them are not slower for anyone, but this route asks
for no key and must not become a way to keep the hardware busy or memory full."""

router = APIRouter()


class Gate:
    """Counts the fresh attestations in flight."""

    def __init__(self, limit: int = MAX_ATTESTING) -> None:
        self.limit = limit
        self.inside = 0

    def __enter__(self) -> None:
        if self.inside >= self.limit:
            raise GatewayError("overloaded")
        self.inside += 1

    def __exit__(self, *exception: object) -> None:
        self.inside -= 1


def gate_of(request: Request) -> Gate:
    return cast(Gate, request.app.state.attestation_gate)


@router.get("/v1/rlu/attestation", tags=["attestation"], response_model_exclude_none=True)
async def attestation(
    gateway: Gateway,
    gate: Annotated[Gate, Depends(gate_of)],
    nonce: Annotated[str | None, Query(description="8 to 64 random bytes, base64url without padding")] = None,
) -> AttestationBundle:
    """The instance statement with its evidence, as a bundle that `rlu verify` reads. Give a nonce for a fresh one."""
    challenge = None if nonce is None else read_nonce(nonce)
    with gate:
        made = await gateway.attest(challenge)
    evidence = [EvidenceItem(kind=item.kind, data=b64u(item.data)) for item in made.evidence]
    return AttestationBundle(
        attestation=AttestationPart(statement=made.statement, evidence=evidence), nonce=nonce
    )


@router.get("/.well-known/rlu-configuration", tags=["attestation"], response_model_exclude_none=True)
async def configuration(gateway: Gateway) -> Configuration:
    """Who this instance says it is, and where its routes are."""
    identity = gateway.identity()
    spki = identity.tls_spki_sha256
    return Configuration(
        issuer=identity.issuer,
        jwk=identity.jwk,
        instance_profile=b64u(identity.profile_digest),
        tls=Tls(origin=identity.tls_origin, spki_sha256=None if spki is None else b64u(spki)),
        version=identity.version,
        models=list(gateway.models()),
        nonce=NonceLimits(min_bytes=NONCE_MIN, max_bytes=NONCE_MAX),
        attestation_endpoint="/v1/rlu/attestation",
        sessions_endpoint="/v1/rlu/sessions",
        receipts_endpoint="/v1/rlu/receipts",
        log_endpoint="/v1/rlu/log",
        openapi="/openapi.json",
    )
