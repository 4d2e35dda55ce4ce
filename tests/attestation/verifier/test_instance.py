"""Steps 1 to 7, one thing wrong at a time: each gives exactly its own code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from fakes.deployment import AT, NONCE, SPKI, Deployment, findings, verdict_of
from fakes.machine import Machine
from rlu_attestation import canonical, jose
from rlu_attestation.bundle import Bundle, EvidenceItem
from rlu_attestation.channel import Channel
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.instance import binding, claims_bytes
from rlu_attestation.verdict import Outcome, Result, Source

OTHER = ec.derive_private_key(0x1234567, ec.SECP256R1())


@pytest.fixture(scope="module")
def deployment() -> Deployment:
    return Deployment()


def instance(deployment: Deployment, **changes: Any) -> Bundle:
    statement, evidence = deployment.attestation(**changes)
    return Bundle(statement=statement, evidence=evidence, channel=SPKI, nonce=NONCE)


def resigned(deployment: Deployment, change: Callable[[dict[str, Any]], None]) -> Bundle:
    """A statement whose payload was changed after the evidence was collected, and signed again by the instance key."""
    bundle = instance(deployment)
    payload = canonical.decode(jose.jws_parse(bundle.statement).payload)
    change(payload)
    return replace(bundle, statement=deployment.jws(canonical.encode(payload)))


# --- 1 statement --------------------------------------------------------------------------------------------------------


def _flip(text: str, part: int) -> str:
    parts = text.split(".")
    data = bytearray(unb64u(parts[part]))
    data[-1] ^= 1
    parts[part] = b64u(bytes(data))
    return ".".join(parts)


def test_a_flipped_signature_is_untrusted(deployment: Deployment) -> None:
    bundle = instance(deployment)
    flipped = replace(bundle, statement=_flip(bundle.statement, 2))
    verdict = verdict_of(deployment, flipped)
    assert "statement.signature.invalid" in findings(verdict)
    assert verdict.exit_code == 10
    assert verdict.claims == ()


def test_another_keys_signature_under_this_kid_is_untrusted(deployment: Deployment) -> None:
    bundle = instance(deployment)
    jws = jose.jws_parse(bundle.statement)
    r, s = utils.decode_dss_signature(OTHER.sign(jws.signing_input, ec.ECDSA(SHA256())))
    forged = jose.jws_assemble(jws.signing_input, r.to_bytes(32, "big") + s.to_bytes(32, "big"))
    assert findings(verdict_of(deployment, replace(bundle, statement=forged))) == [
        "statement.signature.invalid"
    ]


def test_a_header_that_names_another_key_is_untrusted(deployment: Deployment) -> None:
    bundle = instance(deployment)
    payload = jose.jws_parse(bundle.statement).payload
    other = jose.thumbprint(jose.public_jwk(OTHER.public_key()))
    bundle = replace(bundle, statement=deployment.jws(payload, kid=other))
    assert findings(verdict_of(deployment, bundle)) == ["statement.signature.kid"]


@pytest.mark.parametrize(
    ("name", "statement", "code"),
    [
        ("empty", "", "statement.encoding"),
        ("two-parts", "a.b", "statement.encoding"),
        ("padding", "{0}=.{1}.{2}", "statement.encoding.base64url"),
        ("trailing-garbage", "{0}.{1}.{2}.", "statement.encoding"),
        ("short-signature", "{0}.{1}.AAAA", "statement.encoding"),
    ],
)
def test_a_malformed_statement(deployment: Deployment, name: str, statement: str, code: str) -> None:
    bundle = instance(deployment)
    broken = statement.format(*bundle.statement.split("."))
    verdict = verdict_of(deployment, replace(bundle, statement=broken))
    assert findings(verdict) == [code], name
    assert verdict.exit_code == 30


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("alg-none", {"alg": "none", "typ": "eat+jwt"}),
        ("alg-hs256", {"alg": "HS256", "typ": "eat+jwt"}),
        ("another-type", {"alg": "ES256", "typ": "jwt"}),
        ("no-kid", None),
    ],
)
def test_any_other_header_is_malformed(
    deployment: Deployment, name: str, header: dict[str, str] | None
) -> None:
    bundle = instance(deployment)
    parts = bundle.statement.split(".")
    value = {"alg": "ES256", "typ": "eat+jwt"} if header is None else {**header, "kid": b64u(deployment.kid)}
    parts[0] = b64u(canonical.encode(value))
    verdict = verdict_of(deployment, replace(bundle, statement=".".join(parts)))
    assert findings(verdict) == ["statement.encoding.header"], name


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("unknown-claim", lambda payload: payload.update(rlu_extra="x")),
        ("missing-claim", lambda payload: payload.pop("rlu_region")),
        ("another-profile", lambda payload: payload.update(eat_profile="tag:rlu.internal,2026:session#1")),
        ("another-issuer", lambda payload: payload.update(iss="urn:rlu:instance:another")),
        ("another-ueid", lambda payload: payload.update(ueid="AQ")),
        ("text-for-time", lambda payload: payload.update(iat="now")),
        ("null-claim", lambda payload: payload.update(eat_nonce=None)),
        ("digest-algorithm", lambda payload: payload.update(submods={"tpm2": ["DIGEST", ["sha-1", "AA"]]})),
    ],
)
def test_a_payload_that_is_not_of_the_profile_is_malformed(
    deployment: Deployment, name: str, change: Callable[[dict[str, Any]], None]
) -> None:
    verdict = verdict_of(deployment, resigned(deployment, change))
    assert findings(verdict) == ["statement.encoding.claims"], name
    assert verdict.exit_code == 30


# --- 2 time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "at", "code"),
    [
        ("as-issued", AT - 10, None),
        ("clock-behind-within-skew", AT - 10 - 60, None),
        ("before-it-was-issued", AT - 10 - 61, "statement.time.future"),
        ("as-old-as-allowed", AT - 10 + 3600 + 60, None),
        ("too-old", AT - 10 + 3600 + 61, "statement.time.age"),
    ],
)
def test_time(deployment: Deployment, name: str, at: int, code: str | None) -> None:
    verdict = verdict_of(deployment, instance(deployment), at=at)
    assert findings(verdict) == ([] if code is None else [code]), name


@pytest.mark.parametrize(("late", "code"), [(60, None), (61, "statement.time.expired")])
def test_expiry(deployment: Deployment, late: int, code: str | None) -> None:
    bundle = instance(deployment, expires_at=AT + 100)
    verdict = verdict_of(deployment, bundle, at=AT + 100 + late)
    assert findings(verdict) == ([] if code is None else [code])


@pytest.mark.parametrize(("expires", "code"), [(AT - 9, None), (AT - 10, "window"), (AT - 11, "window")])
def test_a_statement_that_never_was_in_force(deployment: Deployment, expires: int, code: str | None) -> None:
    verdict = verdict_of(deployment, instance(deployment, expires_at=expires))
    assert findings(verdict) == ([] if code is None else [f"statement.time.{code}"])


def test_the_policys_age_and_skew_are_used(deployment: Deployment) -> None:
    policy = deployment.policy(max_statement_age_s=5, clock_skew_s=4)
    assert findings(verdict_of(deployment, instance(deployment), policy)) == ["statement.time.age"]
    policy = deployment.policy(max_statement_age_s=5, clock_skew_s=5)
    assert findings(verdict_of(deployment, instance(deployment), policy)) == []


# --- 3 nonce ------------------------------------------------------------------------------------------------------------


def test_a_replayed_statement_answers_another_nonce(deployment: Deployment) -> None:
    verdict = verdict_of(deployment, instance(deployment), nonce=bytes(32))
    assert findings(verdict) == ["statement.nonce.mismatch"]
    assert verdict.exit_code == 10


def test_a_statement_without_a_nonce_cannot_be_checked_for_one(deployment: Deployment) -> None:
    bundle = instance(deployment, nonce=None)
    verdict = verdict_of(deployment, bundle)
    assert findings(verdict) == ["statement.nonce.absent"]
    waived = verdict_of(
        deployment, bundle, deployment.policy(waivers={"statement.nonce": "renewed by itself"})
    )
    assert (waived.result, waived.exit_code) == (Result.WAIVED, 11)
    assert waived.step("statement.nonce").detail.endswith("waived by the policy: renewed by itself")


def test_a_wrong_nonce_is_never_waived(deployment: Deployment) -> None:
    policy = deployment.policy(waivers={"statement.nonce": "we do not care"})
    verdict = verdict_of(deployment, instance(deployment), policy, nonce=bytes(32))
    assert findings(verdict) == ["statement.nonce.mismatch"]


# --- 4 evidence ---------------------------------------------------------------------------------------------------------


def test_evidence_that_is_not_the_signed_one(deployment: Deployment) -> None:
    bundle = instance(deployment)
    other = instance(deployment)  # quoted again: genuine, and other bytes
    verdict = verdict_of(deployment, replace(bundle, evidence=other.evidence))
    assert findings(verdict) == ["evidence.digest.mismatch"]


def test_evidence_that_is_missing(deployment: Deployment) -> None:
    verdict = verdict_of(deployment, replace(instance(deployment), evidence=()))
    assert findings(verdict) == ["evidence.digest.missing"]


def test_one_of_two_items_that_is_missing(deployment: Deployment) -> None:
    bundle = _with_items(
        deployment, {"tpm2": instance(deployment).evidence[0].data, "none": b'{"kind":"none"}'}
    )
    verdict = verdict_of(deployment, replace(bundle, evidence=bundle.evidence[:1]))
    assert findings(verdict) == ["evidence.digest.missing"]
    assert "none" in verdict.step("evidence.digest").detail


def test_evidence_without_an_event_log(deployment: Deployment) -> None:
    bare = Deployment(machine=Machine(with_event_log=False))
    verdict = verdict_of(bare, instance(bare))
    assert verdict.result is Result.VERIFIED
    assert verdict.step("quote.eventlog").outcome is Outcome.NOT_APPLICABLE


def test_a_statement_that_names_no_evidence(deployment: Deployment) -> None:
    def strip(payload: dict[str, Any]) -> None:
        del payload["submods"]

    verdict = verdict_of(deployment, replace(resigned(deployment, strip), evidence=()))
    assert findings(verdict) == ["evidence.digest.missing"]


def test_evidence_of_a_kind_that_is_not_named(deployment: Deployment) -> None:
    bundle = instance(deployment)
    item = EvidenceItem("none", b'{"kind":"none"}')
    verdict = verdict_of(deployment, replace(bundle, evidence=(*bundle.evidence, item)))
    assert findings(verdict) == ["evidence.digest.unnamed"]


def test_evidence_of_one_kind_twice(deployment: Deployment) -> None:
    bundle = instance(deployment)
    verdict = verdict_of(deployment, replace(bundle, evidence=bundle.evidence * 2))
    assert findings(verdict) == ["evidence.digest.twice"]


def _with_items(deployment: Deployment, items: dict[str, bytes]) -> Bundle:
    def name(payload: dict[str, Any]) -> None:
        payload["submods"] = {
            kind: ["DIGEST", ["sha-256", b64u(hashlib.sha256(data).digest())]] for kind, data in items.items()
        }

    evidence = tuple(EvidenceItem(kind, data) for kind, data in items.items())
    return replace(resigned(deployment, name), evidence=evidence)


def test_an_item_that_is_of_another_kind_than_the_statement_says(deployment: Deployment) -> None:
    verdict = verdict_of(deployment, _with_items(deployment, {"tpm2": b'{"kind":"none"}'}))
    assert findings(verdict) == ["evidence.encoding.kind"]
    assert verdict.exit_code == 30


def test_a_kind_that_is_not_implemented_is_unsupported(deployment: Deployment) -> None:
    verdict = verdict_of(deployment, _with_items(deployment, {"abacus": b'{"kind":"abacus"}'}))
    assert findings(verdict) == ["key.hardware.kind"]
    assert verdict.exit_code == 20


def test_a_second_kind_beside_the_keys_own_is_not_ignored(deployment: Deployment) -> None:
    bundle = instance(deployment)
    items = {"tpm2": bundle.evidence[0].data, "none": b'{"kind":"none"}'}
    verdict = verdict_of(deployment, _with_items(deployment, items))
    assert findings(verdict) == ["key.hardware.evidence"]


def test_garbage_for_evidence_is_malformed(deployment: Deployment) -> None:
    verdict = verdict_of(deployment, _with_items(deployment, {"tpm2": b"garbage"}))
    assert findings(verdict) == ["evidence.encoding.statement"]
    assert verdict.exit_code == 30


def test_a_tpm_key_without_tpm_evidence(deployment: Deployment) -> None:
    verdict = verdict_of(deployment, _with_items(deployment, {"none": b'{"kind":"none"}'}))
    assert findings(verdict) == ["key.hardware.evidence"]
    verdict = verdict_of(
        deployment,
        _with_items(deployment, {"none": b'{"kind":"none"}'}),
        insecure_accept_software_key=True,
    )
    assert findings(verdict) == ["key.hardware.evidence"]


# --- software key -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def software() -> Deployment:
    return Deployment(software_key=True)


def lenient(software: Deployment) -> Any:
    return software.policy(pcrs={}, minimum_source={})


def test_a_software_key_is_refused(software: Deployment) -> None:
    verdict = verdict_of(software, instance(software), lenient(software))
    assert findings(verdict) == ["key.hardware.software"]
    assert verdict.exit_code == 10
    assert verdict.claims == ()


def test_a_software_key_that_is_accepted_is_a_waiver(software: Deployment) -> None:
    verdict = verdict_of(software, instance(software), lenient(software), insecure_accept_software_key=True)
    assert (verdict.result, verdict.exit_code) == (Result.WAIVED, 11)
    assert [step.id for step in verdict.waivers] == ["key.hardware"]
    assert "--insecure-accept-software-key" in verdict.waivers[0].detail
    skipped = {step.id for step in verdict.steps if step.outcome is Outcome.NOT_APPLICABLE}
    assert {"endorsement.match", "policy.tpm", "policy.tee", "policy.pcrs", "gpu.attestation"} <= skipped
    assert not any(step.id.startswith(("ek", "ak", "quote")) for step in verdict.steps)
    assert {claim.source for claim in verdict.claims} == {Source.ASSERTED}


def test_a_software_key_never_satisfies_a_policy_that_wants_hardware(software: Deployment) -> None:
    policy = software.policy(pcrs={}, minimum_source={"key": Source.HARDWARE})
    verdict = verdict_of(software, instance(software), policy, insecure_accept_software_key=True)
    assert findings(verdict) == ["policy.sources.weak"]
    policy = software.policy(pcrs={}, minimum_source={"tpm": Source.ASSERTED})
    verdict = verdict_of(software, instance(software), policy, insecure_accept_software_key=True)
    assert findings(verdict) == ["policy.sources.weak"]
    assert "found nothing" in verdict.step("policy.sources").detail


def test_an_item_of_kind_none_holds_nothing_else(software: Deployment) -> None:
    bundle = instance(software, item=b'{"kind":"none","x":1}')
    verdict = verdict_of(software, bundle, lenient(software), insecure_accept_software_key=True)
    assert findings(verdict) == ["evidence.encoding.none"]


# --- 6 endorsement ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim", ["region", "boundary", "site"])
def test_a_place_that_the_registrar_did_not_endorse(deployment: Deployment, claim: str) -> None:
    policy = deployment.policy(
        accept={**deployment.policy().accept, "regions": None, "boundaries": None, "sites": None}
    )
    verdict = verdict_of(deployment, instance(deployment, **{claim: "elsewhere"}), policy)
    expected = ["endorsement.match.differs"]
    # The claim is then no longer an endorsed one, which the policy demands of the region.
    assert findings(verdict) == expected + (["policy.sources.weak"] if claim == "region" else [])
    assert {c.name: c.source for c in verdict.claims}[claim] is Source.ASSERTED
    detail = verdict.step("endorsement.match").detail
    assert claim in detail
    assert "elsewhere" in detail


# --- 7 channel ----------------------------------------------------------------------------------------------------------


def test_another_tls_key_on_the_connection(deployment: Deployment) -> None:
    verdict = verdict_of(deployment, instance(deployment), channel=bytes(32))
    assert findings(verdict) == ["channel.mismatch"]


def test_a_pinned_terminator_is_a_waiver(deployment: Deployment) -> None:
    policy = deployment.policy(terminators=frozenset({bytes(32)}))
    verdict = verdict_of(deployment, instance(deployment), policy, channel=bytes(32))
    assert (verdict.result, verdict.exit_code) == (Result.WAIVED, 11)
    assert verdict.waivers[0].code == "channel.terminated"
    # The pin does not turn the attested key itself into a waiver.
    assert verdict_of(deployment, instance(deployment), policy).result is Result.VERIFIED
    assert findings(verdict_of(deployment, instance(deployment), policy, channel=b"\x01" * 32)) == [
        "channel.mismatch"
    ]


def test_a_channel_that_nobody_saw_cannot_be_checked(deployment: Deployment) -> None:
    bundle = replace(instance(deployment), channel=None)
    assert findings(verdict_of(deployment, bundle, channel=None)) == ["channel.unknown"]
    policy = deployment.policy(waivers={"channel": "verified from a file"})
    assert verdict_of(deployment, bundle, policy, channel=None).exit_code == 11


def test_plain_http(deployment: Deployment) -> None:
    bundle = instance(deployment, tls=Channel("plaintext", None))
    policy = deployment.policy(channel_origins=frozenset({"plaintext"}))
    assert findings(verdict_of(deployment, bundle, policy, channel=None)) == ["channel.plaintext"]
    # A caller without TLS takes no one's word for a channel.
    attested = instance(deployment)
    assert findings(verdict_of(deployment, attested, channel=None, plaintext=True)) == ["channel.unknown"]


# --- 5 the evidence is about this key and this statement ----------------------------------------------------------------


def test_evidence_of_another_machine(deployment: Deployment) -> None:
    other = Deployment(machine=Machine())
    other.machine.tpm.key = OTHER
    other.machine.tpm.create_key(other.machine.selected)
    other.machine.certify = other.machine.tpm.certify()
    claims = deployment.instance_claims()
    item = other.machine.evidence(binding(claims_bytes(canonical.decode(claims.encode()))))
    verdict = verdict_of(deployment, instance(deployment, item=item))
    assert findings(verdict) == ["key.match.differs"]


def test_evidence_collected_for_another_statement(deployment: Deployment) -> None:
    item = deployment.machine.evidence(hashlib.sha256(b"another statement").digest())
    verdict = verdict_of(deployment, instance(deployment, item=item))
    assert findings(verdict) == ["quote.binding.mismatch"]


def test_a_claim_changed_after_the_evidence_was_collected(deployment: Deployment) -> None:
    def move(payload: dict[str, Any]) -> None:
        payload["rlu_hardware"] = {"profile": "something better"}

    policy = deployment.policy(accept={**deployment.policy().accept, "hardware_profiles": None})
    assert findings(verdict_of(deployment, resigned(deployment, move), policy)) == ["quote.binding.mismatch"]
