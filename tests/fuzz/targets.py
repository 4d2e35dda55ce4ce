"""What is fuzzed: everything that takes bytes from somebody else. Each target takes arbitrary bytes and may raise nothing but `RluError`.

Targets named `instance <kind>` say more: an instance whose evidence is not the genuine one must never be accepted.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from fakes import amd, aws, intel
from fakes import boundary as reports
from fakes.deployment import Deployment
from fakes.ima import FakeIma
from fakes.tee import GPUS, ITEMS, NODE, PLATFORM, Tee
from fakes.tpm import FakeTpm
from rlu_attestation import bundle, canonical, cose, crl, jose, policy_file, statements, x509
from rlu_attestation.boundary import report
from rlu_attestation.boundary.check import check
from rlu_attestation.boundary.page import page
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.evidence import gcp_vtpm, nitro, sev_snp, tdx, tpm2
from rlu_attestation.evidence import nvidia as nvidia_kind
from rlu_attestation.explain import explain
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.log.tally import Tally
from rlu_attestation.policy import Policy
from rlu_attestation.tpm import eventlog, ima_log
from rlu_attestation.tpm.attest import parse_attest, parse_signature
from rlu_attestation.tpm.public import parse_public
from rlu_attestation.verdict import Result
from rlu_server.broker import protocol
from rlu_server.broker.sealing import Header
from rlu_server.models import signing, tensors
from rlu_server.models.manifest import File, Manifest
from rlu_server.models.signing import Signers

ROOT = b"\x07" * 32
ATTESTATION = Path(__file__).resolve().parents[2] / "attestation"
EXAMPLE = ATTESTATION / "policy.example.toml"
VECTORS = json.loads((ATTESTATION / "vectors" / "weights.json").read_text("ascii"))


@dataclasses.dataclass(frozen=True)
class Target:
    """`run` is fuzzed; `seeds` gives inputs to begin with; `nested` ones are JSON whose strings hold base64url bytes worth mutating."""

    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    nested: bool = False


def _text(parse: Callable[[str], object], data: bytes) -> None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return
    parse(text)


def _key_request(data: bytes) -> object:
    claims, _ = protocol.parse_request(data)
    return protocol.Claims.parse(claims)


def _key_requests() -> list[bytes]:
    claims = VECTORS["request"]["claims"].encode()
    return [protocol.encode_request(claims, {"sev-snp": _item("sev-snp")})]


def _policy(data: bytes) -> object:
    return policy_file.parse(data, lambda name: amd.ark("Milan").der)


def _instance(kind: str, meaning: Callable[[bytes], object] = bytes) -> Target:
    """A whole verification of an instance whose evidence item is what is fuzzed; `meaning` is what no two accepted ones may differ in."""
    genuine: set[bytes] = set()

    @functools.cache
    def parts() -> tuple[Tee, Policy]:
        tee = Tee("sev-snp", GPUS) if kind == "nvidia" else Tee(kind)
        return tee, tee.policy()

    def run(data: bytes) -> None:
        tee, policy = parts()

        def with_item(items: dict[str, bytes], root: bytes) -> dict[str, bytes]:
            genuine.add(items[kind])
            return items | {kind: data}

        verdict = tee.verdict(tee.bundle(with_item), policy)
        if verdict.result not in (Result.VERIFIED, Result.WAIVED) or data in genuine:
            return
        if meaning(data) not in map(meaning, genuine):
            raise AssertionError(f"accepted with evidence that is not the genuine one: {verdict.result}")

    def seeds() -> list[bytes]:
        found = {item.kind: item.data for item in parts()[0].bundle().evidence}
        genuine.add(found[kind])  # a node signs anew each time it is asked
        return [found[kind]]

    return Target(run, seeds, nested=True)


def _without_xml(item: bytes) -> object:
    """What a node's item says. RIMs are XML, which can say one thing in many ways; all that is read of it is beside `raw`."""
    found = nvidia_kind.parse(item)
    return dataclasses.replace(found, rims=tuple(dataclasses.replace(rim, raw=b"") for rim in found.rims))


def _item(name: str) -> bytes:
    return ITEMS[name](ROOT)


def _bundle() -> bytes:
    return Deployment().bundle().encode()


def _decoded(item: bytes, *path: str | int) -> bytes:
    value: Any = json.loads(item)
    for step in path:
        value = value[step]
    return base64.urlsafe_b64decode(value + "==")


def _tpm(name: str, *more: str) -> Callable[[], list[bytes]]:
    return lambda: [_decoded(Deployment().machine.evidence(bytes(32)), name, *more)]


def _gpu(what: str) -> Callable[[], list[bytes]]:
    return lambda: [
        _decoded(NODE.parts(ROOT).item(), *((what, 0) if what in ("rims", "ocsp") else (what, 0, "report")))
    ]


@functools.cache
def _signer() -> tuple[ec.EllipticCurvePrivateKey, dict[str, Any]]:
    key = ec.generate_private_key(ec.SECP256R1())
    manifest = Manifest((File("config.json", 2, bytes(32)), File("a/b.safetensors", 1, ROOT)))
    return key, json.loads(signing.sign(manifest, "m", key))


def _model_signature(data: bytes) -> object:
    key, _ = _signer()
    return signing.verify(data, Signers((key.public_key(),)))


def _model_statement(data: bytes) -> object:
    """What is in the envelope, signed as it stands, so that it is read at all."""
    key, made = _signer()
    to_sign = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(data), data)
    signature = base64.b64encode(key.sign(to_sign, ec.ECDSA(hashes.SHA256()))).decode()
    envelope = {**made["dsseEnvelope"], "payload": base64.b64encode(data).decode()}
    envelope["signatures"] = [{"sig": signature}]
    return _model_signature(json.dumps({**made, "dsseEnvelope": envelope}).encode())


def _boundary_report(data: bytes) -> object:
    """What is in a report, as if somebody trusted had signed it: looked at, and printed."""
    header = canonical.encode({"alg": "Ed25519", "kid": "", "typ": report.TYPE})
    found = report.Report.peek(".".join(map(b64u, (header, data, bytes(64)))))
    return page(check(found, (), reports.AT), bytes(32), bytes(32), reports.AT)


def _boundary_reports() -> list[bytes]:
    return [unb64u(reports.report(reports.day()).sign(reports.KEY).split(".")[1])]


TARGETS: dict[str, Target] = {
    "boundary-report": Target(_boundary_report, _boundary_reports, nested=True),
    "tally": Target(Tally.parse, lambda: [reports.day()[0].tallies[1][1]]),
    "bundle": Target(bundle.parse, lambda: [_bundle()]),
    "policy": Target(_policy, lambda: [EXAMPLE.read_bytes()]),
    "canonical": Target(canonical.decode, lambda: [b'{"a":[1,"\\u0001"]}']),
    "instance-claims": Target(InstanceClaims.parse, lambda: [Tee("sev-snp").instance_claims().encode()]),
    "session": Target(statements.SessionStatement.parse, lambda: [Deployment().session_statement().encode()]),
    "receipt": Target(
        statements.Receipt.parse, lambda: [Deployment().receipt_statement(bytes(32), 1).encode()]
    ),
    "close": Target(statements.Close.parse, lambda: [Deployment().close_statement(b"x", []).encode()]),
    "jws": Target(functools.partial(_text, jose.jws_parse), lambda: [Tee("tdx").bundle().statement.encode()]),
    "cose-head": Target(cose.parse_head, lambda: [Deployment().bundle().head or b""]),
    "cose-inclusion": Target(cose.parse_inclusion, lambda: [Deployment().bundle().session.receipt]),  # type: ignore[union-attr]
    "certificates": Target(x509.parse_many, lambda: [amd.ark("Milan").der]),
    "crl": Target(crl.parse, lambda: [amd.ark("Milan").revoke(0x666)]),
    "tpm2-item": Target(tpm2.parse, lambda: [Deployment().machine.evidence(bytes(32))], nested=True),
    "tpm-public": Target(parse_public, _tpm("ak_public")),
    "tpm-attest": Target(parse_attest, _tpm("quote", "attest")),
    "tpm-signature": Target(parse_signature, _tpm("quote", "signature")),
    "tpm-eventlog": Target(eventlog.parse, _tpm("event_log")),
    "ima": Target(ima_log.parse, lambda: [FakeIma(FakeTpm("ima")).binary(), FakeIma(FakeTpm("ima")).text()]),
    "gcp-vtpm-item": Target(gcp_vtpm.parse, lambda: [b'{"kind":"gcp-vtpm"}'], nested=True),
    "sev-snp-item": Target(sev_snp.parse, lambda: [_item("sev-snp")], nested=True),
    "sev-snp-report": Target(sev_snp.parse_report, lambda: [amd.Chip().report(bytes(64))]),
    "sev-snp-table": Target(sev_snp.parse_certificate_table, lambda: [bytes(48)]),
    "tdx-item": Target(tdx.parse, lambda: [_item("tdx")], nested=True),
    "tdx-quote": Target(tdx.parse_quote, lambda: [PLATFORM.quote().data]),
    "tdx-collateral": Target(tdx.collateral_from_json, lambda: [intel.parts(PLATFORM, bytes(64)).pccs()]),
    "nitro-item": Target(nitro.parse, lambda: [_item("nitro")], nested=True),
    "nitro-document": Target(
        nitro.parse_document, lambda: [aws.Module().document(aws.Module().fields(ROOT))]
    ),
    "nvidia-item": Target(nvidia_kind.parse, lambda: [NODE.parts(ROOT).item()], nested=True),
    "nvidia-report": Target(
        lambda data: nvidia_kind.parse_report(data, nvidia_kind.DeviceKind.GPU), _gpu("gpus")
    ),
    "nvidia-rim": Target(nvidia_kind.parse_rim, _gpu("rims")),
    "nvidia-ocsp": Target(nvidia_kind.parse_ocsp, _gpu("ocsp")),
    "inspect": Target(explain, lambda: [_bundle(), _item("tdx"), amd.ark("Milan").der]),
    "model-signature": Target(_model_signature, lambda: [json.dumps(_signer()[1]).encode()]),
    "model-statement": Target(
        _model_statement, lambda: [base64.b64decode(_signer()[1]["dsseEnvelope"]["payload"])]
    ),
    "safetensors-header": Target(
        lambda data: tensors.parse(Path("fuzzed"), data, 4),
        lambda: [b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'],
    ),
    "key-request": Target(_key_request, _key_requests, nested=True),
    "weights-header": Target(Header.parse, lambda: [VECTORS["header"].encode()]),
    "instance sev-snp": _instance("sev-snp"),
    "instance tdx": _instance("tdx"),
    "instance nitro": _instance("nitro"),
    "instance nvidia": _instance("nvidia", _without_xml),
}

__all__ = ["TARGETS", "RluError", "Target"]
