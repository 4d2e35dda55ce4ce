"""The published vectors say what the code does, byte for byte, and the generator makes them again."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from fakes.deployment import Deployment, findings
from reference import merkle as naive
from rlu_attestation import bundle as bundles
from rlu_attestation import canonical, commitment, cose, instance, jose, merkle, x509
from rlu_attestation.commitment import Tag
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed, RluError
from rlu_attestation.instance import InstanceClaims
from rlu_attestation.statements import Close, Receipt, SessionStatement, running_next, running_start
from rlu_attestation.verdict import Result
from rlu_attestation.verifier import Context, verify

HERE = Path(__file__).resolve().parents[2] / "attestation" / "vectors"


def load(name: str) -> Any:
    return json.loads((HERE / f"{name}.json").read_text("ascii"))


def by_name(cases: list[dict[str, Any]]) -> Any:
    return pytest.mark.parametrize(
        "case", cases, ids=[str(case.get("name", n)) for n, case in enumerate(cases)]
    )


def test_the_generator_makes_them_again() -> None:
    ran = subprocess.run(
        [sys.executable, str(HERE / "generate.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "differ: none\n"), ran.stderr


# --- 1 canonical JSON, base64url ----------------------------------------------------------------------------------------


@by_name(load("canonical-json")["accepted"])
def test_canonical_json(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["bytes"])
    assert canonical.encode(case["value"]) == data
    assert canonical.decode(data) == case["value"]


@by_name(load("canonical-json")["refused"])
def test_json_that_is_not_canonical(case: dict[str, Any]) -> None:
    with pytest.raises(Malformed) as refusal:
        canonical.decode(bytes.fromhex(case["bytes"]))
    assert refusal.value.code == "statement.encoding"


def test_base64url() -> None:
    vectors = load("base64url")
    for case in vectors["accepted"]:
        assert b64u(bytes.fromhex(case["bytes"])) == case["text"]
        assert unb64u(case["text"]).hex() == case["bytes"]
    for case in vectors["refused"]:
        with pytest.raises(Malformed):
            unb64u(case["text"])


# --- 2 identifiers, 7 commitments ---------------------------------------------------------------------------------------


@by_name(load("identifiers"))
def test_identifiers(case: dict[str, Any]) -> None:
    jwk = case["jwk"]
    assert jose.public_jwk(jose.public_key(jwk)) == jwk
    thumbprint = jose.thumbprint(jwk)
    assert (thumbprint.hex(), b64u(thumbprint)) == (case["thumbprint"], case["kid"])
    # RFC 7638, written out.
    text = f'{{"crv":"P-256","kty":"EC","x":"{jwk["x"]}","y":"{jwk["y"]}"}}'
    assert hashlib.sha256(text.encode()).digest() == thumbprint
    assert (instance.ueid(thumbprint), instance.issuer(thumbprint)) == (case["ueid"], case["iss"])


def test_commitments() -> None:
    vectors = load("commitments")
    key = unb64u(vectors["key"])
    assert b64u(commitment.key_digest(key)) == vectors["rlu_commitment_key"]
    for case in vectors["commitments"]:
        content = bytes.fromhex(case["content"])
        made = commitment.commit(
            key,
            Tag[case["tag"].upper()],
            unb64u(case["session"]),
            case["seq"],
            len(content),
            hashlib.sha256(content).digest(),
        )
        assert b64u(made) == case["commitment"]


# --- 3 instance statement -----------------------------------------------------------------------------------------------


@by_name(load("instances"))
def test_instance_statements(case: dict[str, Any]) -> None:
    payload = case["payload"].encode()
    claims = InstanceClaims.parse(payload)
    assert claims.encode() == payload
    value = canonical.decode(payload)
    bound = instance.claims_bytes(value)
    assert bound.decode() == case["claims_bytes"]
    assert instance.binding(bound).hex() == case["binding"]
    assert instance.profile_digest(value).hex() == case["instance_profile_digest"]
    jws = jose.jws_parse(case["jws"])
    assert (jws.payload, jws.kid) == (payload, jose.thumbprint(claims.jwk))
    jose.verify_es256(jose.public_key(claims.jwk), jws.signing_input, jws.signature)
    assert jose.jws_assemble(jose.jws_signing_input(jws.kid, payload), jws.signature) == case["jws"]


@by_name(load("engine-arguments"))
def test_engine_arguments(case: dict[str, Any]) -> None:
    assert b64u(instance.arguments_digest(case["arguments"])) == case["arguments_sha256"]


# --- 5 log --------------------------------------------------------------------------------------------------------------

TREE = load("tree")


def test_hashes_and_roots() -> None:
    for case in TREE["hashes"]:
        assert merkle.leaf_hash(case["leaf"].encode()).hex() == case["leaf_hash"]
    for case in TREE["nodes"]:
        node = merkle.node_hash(bytes.fromhex(case["left"]), bytes.fromhex(case["right"]))
        assert node.hex() == case["node"]
    tree = merkle.Tree()
    roots = {case["size"]: case["root"] for case in TREE["roots"]}
    for size in range(max(roots) + 1):
        if size in roots:
            assert tree.root().hex() == roots[size]
        tree.append(merkle.leaf_hash(f"leaf {size}".encode()))


def hashes(case: dict[str, Any]) -> list[bytes]:
    return [bytes.fromhex(node) for node in case["path"]]


def proves(case: dict[str, Any]) -> bool:
    try:
        if "leaf" in case:
            leaf, root = bytes.fromhex(case["leaf"]), bytes.fromhex(case["root"])
            return merkle.root_from_inclusion(leaf, case["index"], case["size"], hashes(case)) == root
        old, new = bytes.fromhex(case["old_root"]), bytes.fromhex(case["new_root"])
        merkle.verify_consistency(case["old_size"], old, case["new_size"], new, hashes(case))
    except RluError:
        return False
    return True


@pytest.mark.parametrize("kind", ["inclusion", "consistency"])
def test_proofs_and_their_perturbations(kind: str) -> None:
    wrong = [case for case in TREE[kind] if proves(case) is not case["valid"]]
    assert wrong == []
    names = {case["name"] for case in TREE[kind]}
    assert {"happy-path", "trailing-garbage", "cut-at-the-end", "flipped-bit"} <= names
    assert sum(not case["valid"] for case in TREE[kind]) > 100


@pytest.mark.parametrize("kind", ["inclusion", "consistency"])
def test_the_code_makes_the_proofs_of_the_reference(kind: str) -> None:
    tree = merkle.Tree()
    for number in range(20):
        tree.append(merkle.leaf_hash(f"leaf {number}".encode()))
    for case in TREE[kind]:
        if case["name"] != "happy-path":
            continue
        made = (
            tree.inclusion_path(case["index"], case["size"])
            if kind == "inclusion"
            else tree.consistency_path(case["old_size"], case["new_size"])
        )
        assert made == hashes(case)


def test_heads_and_receipts() -> None:
    case = load("heads")
    key, kid = jose.public_key(case["jwk"]), bytes.fromhex(case["kid"])
    protected = cose.head_protected(kid, case["iss"], case["iat"], case["tree_size"])
    assert protected.hex() == case["protected"]
    root, signature = bytes.fromhex(case["root"]), bytes.fromhex(case["signature"])
    assert cose.signature_input(protected, root).hex() == case["sig_structure"]
    head = cose.parse_head(bytes.fromhex(case["head"]))
    head.verify(key)
    assert (head.kid, head.issuer, head.iat, head.tree_size, head.root) == (
        kid,
        case["iss"],
        case["iat"],
        case["tree_size"],
        root,
    )
    assert cose.assemble_head(protected, root, signature).hex() == case["head"]
    inclusion = cose.parse_inclusion(bytes.fromhex(case["inclusion"]["receipt"]))
    assert inclusion.verify(key, bytes.fromhex(case["inclusion"]["leaf"])) == root
    assert inclusion.head(root).hex() == case["head"]
    assert (inclusion.leaf_index, list(inclusion.path)) == (3, hashes(case["inclusion"]))
    proof = cose.parse_consistency(bytes.fromhex(case["consistency"]["receipt"]))
    old_root = bytes.fromhex(case["consistency"]["old_root"])
    merkle.verify_consistency(proof.old_size, old_root, proof.tree_size, root, proof.path)


@by_name(load("heads")["refused"])
def test_what_is_no_head(case: dict[str, Any]) -> None:
    for parse in (cose.parse_head, cose.parse_inclusion, cose.parse_consistency):
        with pytest.raises(Malformed) as refusal:
            parse(bytes.fromhex(case["bytes"]))
        assert refusal.value.code == "receipt.encoding"


# --- 6 session, receipt, close ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "kind"), [("sessions", SessionStatement), ("receipts", Receipt), ("closes", Close)]
)
def test_statements(group: str, kind: type[SessionStatement | Receipt | Close]) -> None:
    for case in load("sessions")[group]:
        data = case["statement"].encode()
        assert kind.parse(data).encode() == data
        assert merkle.leaf_hash(data).hex() == case["leaf_hash"]


def test_the_running_commitment() -> None:
    case = load("sessions")
    running = [running_start(case["sessions"][0]["statement"].encode())]
    for receipt in case["receipts"][:3]:
        running.append(running_next(running[-1], bytes.fromhex(receipt["leaf_hash"])))
    assert [value.hex() for value in running] == case["running"]
    assert Close.parse(case["closes"][0]["statement"].encode()).running == running[-1]


# --- 9 manifest, 10 bundle ----------------------------------------------------------------------------------------------


@by_name(load("manifests"))
def test_manifests(case: dict[str, Any], tmp_path: Path) -> None:
    from rlu_server.models.manifest import File, Manifest

    files = {path: bytes.fromhex(data) for path, data in case["files"].items()}
    listed = sorted(files.items(), key=lambda item: item[0].encode())
    manifest = Manifest(tuple(File(path, len(data), hashlib.sha256(data).digest()) for path, data in listed))
    assert manifest.encode().decode() == case["manifest"]
    assert b64u(manifest.sha256) == case["manifest_sha256"]


def test_the_bundle_verifies() -> None:
    case = load("bundle")
    bundle = bundles.parse(case["bundle"].encode())
    assert bundle.encode().decode() == case["bundle"]
    assert [e.request for e in bundle.exchanges] == [c["request"].encode() for c in case["contents"]]
    assert [e.response for e in bundle.exchanges] == [c["response"].encode() for c in case["contents"]]
    # Deployments of this process have keys of their own; what the policy names of claims is the same.
    policy = Deployment().policy(
        ek_roots=tuple(x509.parse(unb64u(der)) for der in case["ek_roots"]),
        registrars=tuple(x509.parse(unb64u(der)) for der in case["registrars"]),
    )
    context = Context(
        bundle=bundle,
        policy=policy,
        at=case["at"],
        nonce=unb64u(case["nonce"]),
        channel=unb64u(case["channel"]),
    )
    verdict = verify(context)
    assert (findings(verdict), verdict.result) == ([], Result.VERIFIED)
    assert datetime.fromtimestamp(case["at"], timezone.utc).year == 2026


def test_the_reference_is_not_the_code() -> None:
    source = Path(naive.__file__).read_text()
    assert "rlu_attestation" not in source
