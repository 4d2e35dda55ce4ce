"""Every way of going wrong has its own code, for both kinds, and only genuine documents pass all steps."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import cbor2
import pytest

from fakes import asn1, aws, nitro_perturbations
from fakes.amd import b64u
from fakes.aws import PROTECTED, Module
from fakes.nitro_perturbations import BINDING, ROOT, Perturbation, genuine
from fakes.nitro_steps import MAX_AGE, failures
from fakes.pki import AT
from rlu_attestation import merkle, x509
from rlu_attestation.errors import RluError, Untrusted
from rlu_attestation.evidence import nitro
from rlu_attestation.evidence.nitro import Root

MODULES = [Module("nitro"), Module("nitrotpm")]
kinds = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.kind)


def roots() -> list[Root]:
    return [Root.of(x509.parse(aws.root().der))]


@kinds
def test_genuine_evidence_passes(module: Module) -> None:
    data = genuine(module).item()
    assert failures(data, BINDING, roots()) == []
    claims = nitro.verify(nitro.parse(data), AT, roots())
    assert claims.kind.value == module.kind
    assert claims.module_id == module.module_id
    assert claims.region == aws.REGION
    assert claims.pcrs == module.pcrs()


@kinds
@pytest.mark.parametrize("found", nitro_perturbations.ALL, ids=lambda found: found.name)
def test_perturbation(found: Perturbation, module: Module) -> None:
    data = found.perturb(module).item()
    assert failures(data, BINDING, roots()) == found.expected(module.kind)
    if any(not code.startswith(("revocation", "binding", "timestamp")) for code in found.codes):
        with pytest.raises(RluError) as refused:
            nitro.verify(nitro.parse(data), AT, roots())
        assert refused.value.code == found.expected(module.kind)[0].removeprefix("parse: ")


def test_perturbations_have_names_of_their_own() -> None:
    names = [found.name for found in nitro_perturbations.ALL]
    assert len(set(names)) == len(names) >= 40


@kinds
def test_other_forms_of_a_genuine_document(module: Module) -> None:
    fields = module.fields(ROOT)
    sparse = {name: value for name, value in fields.items() if value is not None}
    everything = fields | {"public_key": bytes(1024), "nonce": bytes(1024)}
    for payload in (
        aws.indefinite(fields),
        aws.indefinite(sparse),
        cbor2.dumps(sparse),
        cbor2.dumps(everything),
    ):
        document = cbor2.dumps([PROTECTED, {}, payload, module.sign(payload)])
        for form in (document, b"\xd2" + document):
            parts = replace(genuine(module), document=form)
            assert failures(parts.item(), BINDING, roots()) == []


@kinds
def test_without_roots_of_ones_own_only_aws_counts(module: Module) -> None:
    assert failures(genuine(module).item(), BINDING, nitro.PINNED) == [f"{module.kind}.root.unknown"]
    assert failures(genuine(module).item(), BINDING, []) == [f"{module.kind}.root.unknown"]


@kinds
def test_a_root_of_ones_own_must_have_signed_itself(module: Module) -> None:
    crossed = aws.Authority("aws.nitro-enclaves", aws.zone())
    data = nitro_perturbations.bundle(lambda found: [crossed.der, *found[1:]])(module).item()
    found = failures(data, BINDING, [Root.of(x509.parse(crossed.der))])
    assert found == [f"{module.kind}.root.signature"]


@pytest.mark.parametrize(
    ("at", "codes"),
    [
        (AT - timedelta(hours=1), ["nitro.timestamp.future"]),
        (AT - timedelta(hours=1, seconds=1), ["nitro.chain.not_yet_valid", "nitro.timestamp.future"]),
        (AT + timedelta(hours=2), ["nitro.timestamp.stale"]),
        (AT + timedelta(hours=2, seconds=1), ["nitro.chain.expired", "nitro.timestamp.stale"]),
        (aws.CREATED - timedelta(seconds=59), []),
        (aws.CREATED + timedelta(minutes=5), []),
        (aws.CREATED + timedelta(minutes=5, seconds=1), ["nitro.timestamp.stale"]),
    ],
)
def test_the_time_is_the_callers(at: datetime, codes: list[str]) -> None:
    assert failures(genuine(Module()).item(), BINDING, roots(), at) == codes


def test_age_is_exact() -> None:
    evidence = nitro.parse(genuine(Module()).item())
    made, instant = evidence.document.created, timedelta(microseconds=1)
    for at in (made, made + MAX_AGE, made - nitro.MAX_SKEW):
        assert nitro.verify_timestamp(evidence, at, MAX_AGE) == made
    for at, code in ((made + MAX_AGE + instant, "stale"), (made - nitro.MAX_SKEW - instant, "future")):
        with pytest.raises(Untrusted) as refused:
            nitro.verify_timestamp(evidence, at, MAX_AGE)
        assert refused.value.code == f"nitro.timestamp.{code}"


def test_the_last_second_of_a_certificate_is_whole() -> None:
    module, end = Module(), AT - timedelta(seconds=20)
    certificate = module.certificate(not_after=end)
    for milliseconds, codes in ((999, []), (1000, ["outside_certificate"])):
        stamp = int(end.timestamp() * 1000) + milliseconds
        fields = module.fields(ROOT) | {"certificate": certificate, "timestamp": stamp}
        parts = replace(genuine(module), document=module.document(fields))
        expected = ["nitro.chain.expired", *(f"nitro.timestamp.{code}" for code in codes)]
        assert failures(parts.item(), BINDING, roots()) == expected


def test_a_time_without_a_zone_is_misuse() -> None:
    evidence = nitro.parse(genuine(Module()).item())
    for step in (nitro.verify_chain, nitro.verify_revocation):
        with pytest.raises(ValueError, match="time zone"):
            step(evidence, AT.replace(tzinfo=None))


@kinds
def test_a_shared_document_binds_each_statement(module: Module) -> None:
    tree = merkle.Tree()
    bindings = [bytes([n]) * 32 for n in range(3)]
    for binding in bindings:
        tree.append(merkle.leaf_hash(binding))
    parts = aws.parts(module, tree.root())
    for index, binding in enumerate(bindings):
        path = [b64u(node) for node in tree.inclusion_path(index)]
        parts.binding = {"leaf_index": index, "path": path, "tree_size": 3}
        assert failures(parts.item(), binding, roots()) == []
        assert failures(parts.item(), bindings[index - 1], roots()) == [f"{module.kind}.binding.mismatch"]


@kinds
def test_a_bare_document_has_no_binding_but_a_nonce(module: Module) -> None:
    evidence = nitro.from_parts(module.document(module.fields() | {"nonce": b"challenge"}))
    nitro.verify(evidence, AT, roots())
    with pytest.raises(Untrusted) as refused:
        nitro.verify_binding(evidence, BINDING)
    assert refused.value.code == f"{module.kind}.binding.missing"
    nitro.verify_nonce(evidence, b"challenge")
    with pytest.raises(Untrusted) as refused:
        nitro.verify_nonce(evidence, b"challeng")
    assert refused.value.code == f"{module.kind}.nonce.mismatch"
    with pytest.raises(Untrusted) as refused:
        nitro.verify_nonce(nitro.from_parts(module.document(module.fields())), b"")
    assert refused.value.code == f"{module.kind}.nonce.missing"


def test_a_list_for_the_certificates_own_point_counts() -> None:
    for point, accepted in ((aws.POINTS["region"], True), (aws.POINTS["zone"], False)):
        data = nitro_perturbations.root_list(items=[asn1.issuing_point(point)])(Module()).item()
        assert (failures(data, BINDING, roots()) == []) is accepted


def test_revocation_gives_the_lists_it_used() -> None:
    evidence = nitro.parse(genuine(Module()).item())
    assert nitro.verify_revocation(evidence, AT) == evidence.crls[::-1]  # from the signer to the root
