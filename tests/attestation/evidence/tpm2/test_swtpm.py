"""A real TPM 2.0 implementation (swtpm) makes what this package verifies, and opens what it encrypts."""

from __future__ import annotations

import hashlib
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tpm2_pytss import ESAPI, ESYS_TR, TCTILdr, TSS2_Exception
from tpm2_pytss.constants import TPM2_ALG, TPM2_RH, TPM2_SE, TPM2_ST
from tpm2_pytss.types import (
    TPM2B_DATA,
    TPM2B_DIGEST,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_ID_OBJECT,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPML_DIGEST_VALUES,
    TPML_PCR_SELECTION,
    TPMT_HA,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF,
    TPMT_TK_HASHCHECK,
)
from tpm2_pytss.utils import NVReadEK, create_ek_template

from fakes.machine import ENDORSED
from fakes.pki import FakeRegistrar
from fakes.tpm2_steps import failures
from rlu_attestation import merkle, x509
from rlu_attestation.endorsement import Endorsement
from rlu_attestation.evidence import tpm2
from rlu_server import swtpm

pytestmark = pytest.mark.tpm
BINDING = hashlib.sha256(b"a statement").digest()
PCRS = (0, 1, 2, 3, 4, 5, 6, 7)
AK_ATTRIBUTES = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|sign"
KEY_ATTRIBUTES = "fixedtpm|fixedparent|sensitivedataorigin|noda|sign"
SECRET = b"a secret of the attestor's"


@dataclass
class Tpm:
    esys: ESAPI
    directory: Path

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        return x509.parse_many(swtpm.root_certificate(self.directory).read_bytes())

    @property
    def issuers(self) -> tuple[x509.Certificate, ...]:
        return x509.parse_many(swtpm.issuer_certificate(self.directory).read_bytes())

    @contextmanager
    def primary(
        self, hierarchy: ESYS_TR, public: TPM2B_PUBLIC, auth: bytes = b""
    ) -> Iterator[tuple[ESYS_TR, bytes]]:
        """A primary object and its TPMT_PUBLIC; flushed afterwards, because there are three slots."""
        sensitive = TPM2B_SENSITIVE_CREATE()
        sensitive.sensitive.userAuth = auth
        handle, made, *_ = self.esys.create_primary(sensitive, public, hierarchy)
        try:
            yield handle, bytes(made.publicArea.marshal())
        finally:
            self.esys.flush_context(handle)


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tpm]:
    directory = tmp_path_factory.mktemp("swtpm")
    with swtpm.SoftwareTpm(directory) as running:
        name, _, configuration = running.tcti.partition(":")
        with ESAPI(TCTILdr(name, configuration)) as esys:
            for pcr in (0, 4):
                digest = TPMT_HA(hashAlg=TPM2_ALG.SHA256)
                digest.digest.sha256 = hashlib.sha256(b"measured").digest()
                esys.pcr_extend(ESYS_TR(pcr), TPML_DIGEST_VALUES([digest]))
            yield Tpm(esys, directory)


def ek_of(tpm: Tpm, kind: str) -> tuple[x509.Certificate, TPM2B_PUBLIC]:
    raw, public = create_ek_template(kind, NVReadEK(tpm.esys))
    return x509.parse(tpm2.trim_nv(bytes(raw))), public


def activate(tpm: Tpm, ek_kind: str, ak: ESYS_TR, challenge: tpm2.Challenge) -> bytes:
    """TPM2_ActivateCredential, with the EK's policy where its template asks for it."""
    _, template = ek_of(tpm, ek_kind)
    with tpm.primary(ESYS_TR.ENDORSEMENT, template) as (ek, _):
        session = ESYS_TR.PASSWORD
        if ek_kind == "EK-RSA2048":
            session = tpm.esys.start_auth_session(
                ESYS_TR.NONE,
                ESYS_TR.NONE,
                TPM2_SE.POLICY,
                TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL),
                TPM2_ALG.SHA256,
            )
            tpm.esys.policy_secret(ESYS_TR.ENDORSEMENT, session, b"", b"", b"", 0)
        blob, _ = TPM2B_ID_OBJECT.unmarshal(challenge.credential_blob)
        secret, _ = TPM2B_ENCRYPTED_SECRET.unmarshal(challenge.secret)
        try:
            opened = tpm.esys.activate_credential(ak, ek, blob, secret, session2=session)
        finally:
            if session != ESYS_TR.PASSWORD:
                tpm.esys.flush_context(session)
        return bytes(opened)


AKS = {
    "ecc256:ecdsa-sha256": "sha256",
    "ecc384:ecdsa-sha384": "sha384",
    "rsa2048:rsassa-sha256": "sha256",
    "rsa2048:rsapss-sha256": "sha256",
    "rsa2048:rsapss-sha384": "sha384",
}


@pytest.mark.parametrize("ek_kind", ["EK-RSA2048", "EK-HIGH-ECC384"])
def test_the_tpm_opens_our_credential_and_only_for_the_named_object(tpm: Tpm, ek_kind: str) -> None:
    certificate, _ = ek_of(tpm, ek_kind)
    credential = secrets.token_bytes(32)
    template = TPM2B_PUBLIC.parse("ecc256:ecdsa-sha256:null", objectAttributes=AK_ATTRIBUTES)
    with tpm.primary(ESYS_TR.OWNER, template) as (ak, public):
        name = tpm2.name_of(tpm2.parse_public(public))
        challenge = tpm2.make_credential(certificate.public_key(), name, credential, secrets.token_bytes)
        assert activate(tpm, ek_kind, ak, challenge) == credential
        stranger = tpm2.make_credential(
            certificate.public_key(), name[:-1] + b"\x00", credential, secrets.token_bytes
        )
        with pytest.raises(TSS2_Exception, match="integrity"):
            activate(tpm, ek_kind, ak, stranger)


@pytest.mark.parametrize("kind", AKS)
def test_a_whole_item_from_a_real_tpm(tpm: Tpm, kind: str, tmp_path: Path) -> None:
    selection = tpm2.selection_bytes(tpm2.Alg.SHA256, PCRS)
    marshalled, _ = TPML_PCR_SELECTION.unmarshal(selection)
    _, _, digests = tpm.esys.pcr_read(marshalled)
    pcrs = {"sha256": {pcr: bytes(value) for pcr, value in zip(PCRS, digests, strict=True)}}
    policy = tpm2.key_policy(
        selection, tpm2.pcr_digest(tpm2.Alg.SHA256, tpm2.parse_pcr_selection(selection), pcrs)
    )
    ak_template = TPM2B_PUBLIC.parse(f"{kind}:null", objectAttributes=AK_ATTRIBUTES)
    key_template = TPM2B_PUBLIC.parse("ecc256:ecdsa-sha256:null", objectAttributes=KEY_ATTRIBUTES)
    key_template.publicArea.authPolicy = policy
    root = merkle.leaf_hash(BINDING)
    scheme = TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
    with (
        tpm.primary(ESYS_TR.OWNER, ak_template) as (ak, ak_public),
        tpm.primary(ESYS_TR.OWNER, key_template, SECRET) as (key, key_public),
    ):
        tpm.esys.tr_set_auth(key, SECRET)
        certify = tpm.esys.certify(key, ak, TPM2B_DATA(), scheme)
        signature = sign_under_policy(tpm, key, marshalled)
        quote = tpm.esys.quote(ak, marshalled, TPM2B_DATA(root), scheme)
    certify_bytes = (bytes(certify[0]), bytes(certify[1].marshal()))
    quote_bytes = (bytes(quote[0]), bytes(quote[1].marshal()))
    ek, _ = ek_of(tpm, "EK-RSA2048")
    now = datetime.now(timezone.utc).replace(microsecond=0)
    registrar = FakeRegistrar()
    parsed = tpm2.parse_public(ak_public)
    endorsed = Endorsement(tpm2.name_of(parsed), ek.spki_sha256, **ENDORSED)
    item = tpm2.encode(
        ek_certificate=ek.raw,
        ek_chain=[found.raw for found in tpm.issuers],
        ak_public=ak_public,
        ak_certificate=registrar.certify_ak(
            endorsed, parsed.public_key(), now - timedelta(days=1), now + timedelta(days=1)
        ),
        ak_chain=(),
        key_public=key_public,
        certify=certify_bytes,
        quote=quote_bytes,
        pcrs=pcrs,
        binding=tpm2.BindingPath(0, (), 1),
    )
    assert failures(item, BINDING, tpm.roots, (x509.parse(registrar.der),), now) == []
    evidence = tpm2.parse(item)
    assert tpm2.ek_vendor(evidence).emulator
    der = encode_dss_signature(signature.r, signature.s)
    tpm2.verify_key_attributes(evidence).verify(der, b"a statement", ec.ECDSA(SHA256()))
    second_opinion(tmp_path, kind, parsed, quote_bytes, root)


def sign_under_policy(tpm: Tpm, key: ESYS_TR, selection: TPML_PCR_SELECTION) -> tpm2.Signature:
    """Sign with the instance key as the attestor does: only the computed policy opens it, not the secret alone."""
    hashed = TPM2B_DIGEST(hashlib.sha256(b"a statement").digest())
    scheme = TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
    ticket = TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)
    with pytest.raises(TSS2_Exception):
        tpm.esys.sign(key, hashed, scheme, ticket)
    session = tpm.esys.start_auth_session(
        ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.POLICY, TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL), TPM2_ALG.SHA256
    )
    try:
        tpm.esys.policy_pcr(session, b"", selection)
        tpm.esys.policy_auth_value(session)
        made = tpm.esys.sign(key, hashed, scheme, ticket, session1=session)
    finally:
        tpm.esys.flush_context(session)
    return tpm2.parse_signature(bytes(made.marshal()))


def second_opinion(
    directory: Path, kind: str, ak: tpm2.Public, quote: tuple[bytes, bytes], nonce: bytes
) -> None:
    """tpm2_checkquote accepts the quote, and refuses it for another nonce; OpenSSL for RSAPSS, which that tool (5.4) cannot verify."""
    key, digest = ak.public_key(), AKS[kind]
    (directory / "ak.pem").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (directory / "msg").write_bytes(quote[0])
    (directory / "sig").write_bytes(quote[1])
    if "rsapss" in kind:
        (directory / "raw").write_bytes(tpm2.parse_signature(quote[1]).rsa)
        pss = ["-sigopt", "rsa_padding_mode:pss", "-signature", "raw"]
        assert succeeds(directory, ["openssl", "dgst", f"-{digest}", "-verify", "ak.pem", *pss, "msg"])
        return
    command = ["tpm2_checkquote", "-u", "ak.pem", "-m", "msg", "-s", "sig", "-g", digest, "-q"]
    assert succeeds(directory, [*command, nonce.hex()])
    assert not succeeds(directory, [*command, bytes(32).hex()])


def succeeds(directory: Path, command: list[str]) -> bool:
    return subprocess.run(command, cwd=directory, capture_output=True, check=False).returncode == 0
