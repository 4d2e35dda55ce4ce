"""What a statement says of the model's signature, and the policy rule that asks for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fakes.deployment import Deployment, verdict_of
from fakes.deployment import findings as failed
from rlu_attestation import canonical, policy_file
from rlu_attestation.encoding import b64u
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.instance import InstanceClaims, profile_digest
from rlu_attestation.models import FurtherModel, ModelSignature, Software

VENDOR, OTHER = b"v" * 32, b"o" * 32
GOOD = ModelSignature("verified", VENDOR)
PLAIN = Deployment().instance_claims()


@pytest.mark.parametrize("signature", [GOOD, ModelSignature("unsigned"), ModelSignature("failed")])
def test_is_stated_of_every_model(signature: ModelSignature) -> None:
    further = FurtherModel("second", bytes(32), Software("vllm", "1", bytes(32)), signature)
    made = replace(PLAIN, model_signature=signature, further_models=(further,))
    assert InstanceClaims.parse(made.encode()) == made
    assert [one.signature for one in made.models] == [signature, signature]


def test_without_it_a_statement_is_as_ever() -> None:
    payload = PLAIN.to_json()
    assert payload["rlu_model"] == {"manifest_sha256": b64u(PLAIN.model_manifest), "name": PLAIN.model_name}
    signed = replace(PLAIN, model_signature=GOOD).to_json()
    assert signed.pop("rlu_model") == {
        **payload.pop("rlu_model"),
        "signature": {"result": "verified", "signer": b64u(VENDOR)},
    }
    assert canonical.encode(signed) == canonical.encode(payload)


def test_another_signer_is_another_instance() -> None:
    digests = {
        profile_digest(replace(PLAIN, model_signature=one).to_json())
        for one in (None, GOOD, ModelSignature("verified", OTHER), ModelSignature("unsigned"))
    }
    assert len(digests) == 4


@pytest.mark.parametrize(
    "value",
    [
        {"result": "verified"},
        {"result": "unsigned", "signer": b64u(VENDOR)},
        {"result": "failed", "signer": b64u(VENDOR)},
        {"result": "good"},
        {"result": "verified", "signer": b64u(VENDOR[1:])},
        {"result": "verified", "signer": b64u(VENDOR), "name": "vendor"},
        {},
        "verified",
        None,
    ],
)
def test_another_form_refuses(value: Any) -> None:
    payload = PLAIN.to_json()
    payload["rlu_model"]["signature"] = value
    with pytest.raises(Malformed) as caught:
        InstanceClaims.parse(canonical.encode(payload))
    assert caught.value.code == "statement.claims"


@pytest.mark.parametrize(
    ("stated", "accepted", "code"),
    [
        (None, None, None),
        (ModelSignature("failed"), None, None),
        (GOOD, {VENDOR}, None),
        (GOOD, {OTHER, VENDOR}, None),
        (GOOD, {OTHER}, "policy.model_signer.mismatch"),
        (GOOD, set[bytes](), "policy.model_signer.mismatch"),
        (None, {VENDOR}, "policy.model_signer.absent"),
        (ModelSignature("unsigned"), {VENDOR}, "policy.model_signer.absent"),
        (ModelSignature("failed"), {VENDOR}, "policy.model_signer.absent"),
    ],
)
@pytest.mark.parametrize("further", [False, True])
def test_a_policy_names_signers(
    stated: ModelSignature | None, accepted: set[bytes] | None, code: str | None, further: bool
) -> None:
    deployment = Deployment()
    claims: dict[str, Any] = {"model_signature": stated}
    if further:
        one = FurtherModel("second", PLAIN.model_manifest, PLAIN.engine, stated)
        claims = {"model_signature": GOOD if stated else None, "further_models": (one,)}
    statement, evidence = deployment.attestation(**claims)
    bundle = replace(
        deployment.bundle(),
        statement=statement,
        evidence=evidence,
        session=None,
        exchanges=(),
        close=None,
        commitment_key=None,
    )
    signers = None if accepted is None else frozenset(map(b64u, accepted))
    policy = deployment.policy(model_signers=signers, require=frozenset({"instance"}))
    verdict = verdict_of(deployment, bundle, policy)
    assert failed(verdict) == ([] if code is None else [code])
    assert any(step.id == "policy.model_signer" for step in verdict.steps) == (accepted is not None)
    (told,) = (one.value for one in verdict.claims if one.name == "model")
    assert {"verified": "signed by", "unsigned": "NOT signed", "failed": "NOT what was signed"}.get(
        stated.result if stated else "", ""
    ) in told
    assert ("NOT" in told) == (stated is not None and stated.result != "verified")
    assert ("sign" in told) == (stated is not None)


def test_the_rule_in_a_file() -> None:
    def rule(text: str) -> frozenset[str] | None:
        return policy_file.parse(f"version = 1\n{text}".encode(), lambda name: b"").model_signers

    assert rule("") is None
    assert rule("[model]") == frozenset()
    assert rule(f'[model]\nsigners = ["{b64u(VENDOR)}"]') == {b64u(VENDOR)}
    for text, code in (
        ('[model]\nsigners = ["vendor"]', "policy.value"),
        ('[model]\nsigners = "any"', "policy.value"),
        ("[model]\nsigner = []", "policy.unknown_key"),
    ):
        with pytest.raises(RluError) as caught:
            rule(text)
        assert caught.value.code == code
