"""FORMATS sections 3, 6, 9 and 10: statements, manifests, and one bundle over all of it. Evidence has files of its own.

The statements are those of the tests' fake deployment, made with deterministic keys.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace
from typing import Any

from fakes.deployment import AT, KEY, NONCE, SPKI, Deployment, content, request, response
from fakes.machine import registrar, vendor_root
from rlu_attestation import canonical, jose
from rlu_attestation.bundle import Bundle
from rlu_attestation.commitment import Tag
from rlu_attestation.encoding import b64u
from rlu_attestation.instance import Predecessor, arguments_digest, binding, claims_bytes, profile_digest
from rlu_attestation.merkle import leaf_hash
from rlu_attestation.models import FurtherModel, ModelSignature, Software
from rlu_attestation.statements import running_next


@functools.cache
def _made() -> tuple[Deployment, Bundle]:
    deployment = Deployment()
    return deployment, deployment.bundle(3, order=(2, 1, 3))


def instances() -> list[dict[str, Any]]:
    deployment, bundle = _made()
    made = [_instance("with-evidence", jose.jws_parse(bundle.statement).payload, bundle.statement)]
    minimal = replace(
        deployment.instance_claims(),
        nonce=None,
        lock={},
        gateway=replace(deployment.instance_claims().gateway, digest=None),
    )
    made.append(_instance("minimal", minimal.encode(), deployment.jws(minimal.encode())))
    full = replace(
        deployment.instance_claims(),
        predecessor=Predecessor("urn:rlu:instance:before", b"head"),
        oemboot=False,
    )
    made.append(_instance("with-predecessor", full.encode(), deployment.jws(full.encode())))
    further = FurtherModel(
        "second", hashlib.sha256(b"second manifest").digest(), Software("vllm", "0.32.0", bytes(32))
    )
    several = replace(deployment.instance_claims(), further_models=(further, replace(further, name="third")))
    made.append(_instance("with-further-models", several.encode(), deployment.jws(several.encode())))
    signature = ModelSignature("verified", hashlib.sha256(b"signer").digest())
    unsigned = replace(further, signature=ModelSignature("unsigned"))
    signed = replace(deployment.instance_claims(), model_signature=signature, further_models=(unsigned,))
    made.append(_instance("with-signed-model", signed.encode(), deployment.jws(signed.encode())))
    return made


def _instance(name: str, payload: bytes, jws: str) -> dict[str, Any]:
    value = canonical.decode(payload)
    claims = claims_bytes(value)
    return {
        "name": name,
        "payload": payload.decode(),
        "claims_bytes": claims.decode(),
        "binding": binding(claims).hex(),
        "instance_profile_digest": profile_digest(value).hex(),
        "jws": jws,
    }


def engine_arguments() -> list[dict[str, Any]]:
    return [
        {"arguments": arguments, "arguments_sha256": b64u(arguments_digest(arguments))}
        for arguments in ([], ["--model", "/models/demo"], ["--max-model-len", "8192", "\u00e9"])
    ]


def sessions() -> dict[str, Any]:
    deployment, bundle = _made()
    assert bundle.session is not None
    assert bundle.close is not None
    implicit = deployment.session_statement(
        nonce=None, opening=content(Tag.OPENING, request(1), 0), client_key=bytes(32), policies=()
    ).encode()
    silent = deployment.receipt_statement(
        leaf_hash(bundle.session.statement),
        4,
        request=None,
        forwarded=None,
        response=None,
        usage=None,
        status="failed",
        reason="gateway_lost",
        http_status=0,
        route="unknown",
        model="unknown",
    ).encode()
    cut = deployment.receipt_statement(
        leaf_hash(bundle.session.statement),
        5,
        forwarded=content(Tag.FORWARDED, b"what the engine got", 5),
        rewritten=("cache_salt",),
        status="partial",
        reason="engine_lost",
    ).encode()
    in_log_order = [bundle.exchanges[seq - 1].logged.statement for seq in (2, 1, 3)]
    running = [leaf_hash(bundle.session.statement)]
    for receipt in in_log_order:
        running.append(running_next(running[-1], leaf_hash(receipt)))
    return {
        "sessions": [_leaf("explicit", bundle.session.statement), _leaf("implicit", implicit)],
        "receipts": [_leaf(f"receipt {n}", data) for n, data in enumerate(in_log_order)]
        + [_leaf("of a lost gateway", silent), _leaf("rewritten and cut", cut)],
        "closes": [_leaf("close", bundle.close.statement)],
        "running": [value.hex() for value in running],
    }


def _leaf(name: str, statement: bytes) -> dict[str, Any]:
    return {"name": name, "statement": statement.decode(), "leaf_hash": leaf_hash(statement).hex()}


def manifests() -> list[dict[str, Any]]:
    made = []
    for files in ({}, {"config.json": b"{}", "a/weights.safetensors": bytes(9), "\u00e9": b"", "Z": b"z"}):
        listed = [
            {"path": path, "sha256": b64u(hashlib.sha256(data).digest()), "size": len(data)}
            for path, data in sorted(files.items(), key=lambda item: item[0].encode())
        ]
        manifest = canonical.encode({"files": listed, "rlu_manifest": "1"})
        made.append(
            {
                "files": {path: data.hex() for path, data in files.items()},
                "manifest": manifest.decode(),
                "manifest_sha256": b64u(hashlib.sha256(manifest).digest()),
            }
        )
    return made


def bundles() -> dict[str, Any]:
    _, bundle = _made()
    return {
        "at": AT,
        "ek_roots": [b64u(vendor_root().der)],
        "registrars": [b64u(registrar().der)],
        "nonce": b64u(NONCE),
        "channel": b64u(SPKI),
        "commitment_key": b64u(KEY),
        "contents": [{"request": request(n).decode(), "response": response(n).decode()} for n in (1, 2, 3)],
        "bundle": bundle.encode().decode("ascii"),
    }
