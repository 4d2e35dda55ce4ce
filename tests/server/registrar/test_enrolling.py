"""Enrolment with a software TPM, step by step and wrong at every step."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlu_attestation import endorsement, x509
from rlu_attestation.chain import verify_chain
from rlu_attestation.encoding import b64u, unb64u
from rlu_attestation.errors import Malformed, Refused, RluError, Untrusted
from rlu_attestation.tpm.public import name_of, parse_public
from rlu_server import swtpm
from rlu_server.attestor import enrolment
from rlu_server.attestor.enrolment import StateFiles
from rlu_server.attestor.errors import HardwareRefused, NotReady
from rlu_server.attestor.tpm import documents
from rlu_server.attestor.tpm.documents import (
    Enrolment,
    EnrolmentChallenge,
    EnrolmentRequest,
    EnrolmentResponse,
)
from rlu_server.registrar import authority, enrolling
from rlu_server.registrar.authority import Registrar
from rlu_server.registrar.enrolling import Place

pytestmark = pytest.mark.tpm
NOW = datetime.now(timezone.utc) + timedelta(hours=1)
"""After the software TPM was made, which happens when the first test asks for it."""
PLACE = Place("eu-central-1", "on-premises", "rack-12")


@dataclass
class Site:
    """A registrar and a machine, apart."""

    registrar: Registrar
    tpm: swtpm.SoftwareTpm
    files: StateFiles

    @property
    def roots(self) -> list[x509.Certificate]:
        return list(x509.parse_many(swtpm.root_certificate(self.tpm.directory).read_bytes()))

    def request(self) -> EnrolmentRequest:
        chain = x509.parse_many(swtpm.issuer_certificate(self.tpm.directory).read_bytes())
        return enrolment.request(self.tpm.tcti, self.files, tuple(c.raw for c in chain))

    def challenge(self, request: EnrolmentRequest) -> EnrolmentChallenge:
        return enrolling.challenge(self.registrar, request, self.roots, NOW, secrets.token_bytes)

    def response(self) -> EnrolmentResponse:
        return enrolment.activate(self.tpm.tcti, self.files, self.challenge(self.request()))

    def issue(self, response: EnrolmentResponse) -> Enrolment:
        return enrolling.issue(self.registrar, response, PLACE, NOW, secrets.token_bytes)


@pytest.fixture
def site(software_tpm: swtpm.SoftwareTpm, tmp_path: Path) -> Site:
    registrar = authority.create(tmp_path / "registrar", "test registrar", NOW, 12345)
    return Site(registrar, software_tpm, StateFiles(tmp_path / "state"))


def test_the_whole_enrolment_over_files(site: Site) -> None:
    def carried(document: object, form: type) -> object:
        return documents.parse(documents.encode(document), form)  # type: ignore[arg-type]

    request = carried(site.request(), EnrolmentRequest)
    challenge = carried(site.challenge(request), EnrolmentChallenge)  # type: ignore[arg-type]
    response = carried(enrolment.activate(site.tpm.tcti, site.files, challenge), EnrolmentResponse)  # type: ignore[arg-type]
    issued = carried(site.issue(response), Enrolment)  # type: ignore[arg-type]
    enrolment.accept(site.tpm.tcti, site.files, issued)  # type: ignore[arg-type]

    kept = enrolment.load(site.files.enrolment)
    certificate = x509.parse(kept.ak_certificate)
    registrar = x509.parse(site.registrar.certificate)
    handled = frozenset({x509.EXTENDED_KEY_USAGE})
    verify_chain(certificate, [], [registrar], NOW + timedelta(seconds=1), "ak", handled)
    endorsed = endorsement.of_certificate(certificate)
    assert (endorsed.region, endorsed.boundary, endorsed.site) == ("eu-central-1", "on-premises", "rack-12")
    assert endorsed.ek_spki_sha256 == x509.parse(kept.ek_certificate).spki_sha256
    (line,) = (site.registrar.directory / "issued.jsonl").read_text().splitlines()
    assert json.loads(line)["ak_name"] == b64u(endorsed.ak_name)
    assert site.files.enrolment.stat().st_mode & 0o077 == 0


def test_a_second_enrolment_keeps_the_ak(site: Site) -> None:
    assert site.request().ak_public == site.request().ak_public


def test_a_tpm_of_another_vendor_is_refused(site: Site, tmp_path: Path) -> None:
    swtpm.manufacture(tmp_path / "other")
    strangers = x509.parse_many(swtpm.root_certificate(tmp_path / "other").read_bytes())
    with pytest.raises(RluError, match=r"ek\.chain"):
        enrolling.challenge(site.registrar, site.request(), strangers, NOW, secrets.token_bytes)
    with pytest.raises(Refused, match=r"registrar\.no_roots"):
        enrolling.challenge(site.registrar, site.request(), [], NOW, secrets.token_bytes)
    assert not list(site.registrar.challenges.iterdir())


def test_an_unrestricted_key_is_no_ak(site: Site) -> None:
    request = site.request()
    public = bytearray(unb64u(request.ak_public))
    public[5] &= ~0x01  # TPMA_OBJECT.restricted is bit 16
    with pytest.raises(Untrusted, match=r"ak\.attributes"):
        site.challenge(msgspec.structs.replace(request, ak_public=b64u(bytes(public))))


def test_a_challenge_serves_once(site: Site) -> None:
    response = site.response()
    site.issue(response)
    with pytest.raises(Refused, match=r"enrolment\.challenge_unknown"):
        site.issue(response)


def test_an_expired_challenge_is_refused(site: Site) -> None:
    response = site.response()
    later = NOW + timedelta(seconds=enrolling.DEFAULT_CHALLENGE_S)
    with pytest.raises(Refused, match=r"enrolment\.challenge_expired"):
        enrolling.issue(site.registrar, response, PLACE, later, secrets.token_bytes)


PERTURBATIONS: dict[str, Callable[[EnrolmentResponse], EnrolmentResponse]] = {
    "proof": lambda r: msgspec.structs.replace(r, proof=b64u(bytes(32))),
    "short-proof": lambda r: msgspec.structs.replace(r, proof=b64u(unb64u(r.proof)[:-1])),
    "other-ak": lambda r: msgspec.structs.replace(r, ak_name=b64u(b"\x00\x0b" + bytes(32))),
}


@pytest.mark.parametrize("perturbation", PERTURBATIONS.values(), ids=PERTURBATIONS.keys())
def test_a_wrong_answer_is_refused_and_uses_the_challenge_up(
    site: Site, perturbation: Callable[[EnrolmentResponse], EnrolmentResponse]
) -> None:
    response = site.response()
    with pytest.raises(Untrusted, match=r"enrolment\.proof"):
        site.issue(perturbation(response))
    with pytest.raises(Refused, match=r"enrolment\.challenge_unknown"):
        site.issue(response)
    assert not (site.registrar.directory / "issued.jsonl").exists()


def test_another_tpm_cannot_open_the_challenge(site: Site, tmp_path: Path) -> None:
    challenge = site.challenge(site.request())
    site.tpm.stop()
    with swtpm.SoftwareTpm(tmp_path / "tpm2") as other:
        files = StateFiles(tmp_path / "state2")
        enrolment.request(other.tcti, files)
        with pytest.raises(HardwareRefused, match=r"enrolment\.challenge"):
            enrolment.activate(other.tcti, files, challenge)
        # Not even when the challenge is relabelled for the other AK.
        ak_name = site_ak_name(other, files)
        with pytest.raises(HardwareRefused, match=r"enrolment\.challenge"):
            enrolment.activate(other.tcti, files, msgspec.structs.replace(challenge, ak_name=ak_name))


def site_ak_name(tpm: swtpm.SoftwareTpm, files: StateFiles) -> str:
    return b64u(name_of(parse_public(unb64u(enrolment.request(tpm.tcti, files).ak_public))))


def test_another_ak_of_the_same_tpm_cannot_open_the_challenge(site: Site, tmp_path: Path) -> None:
    challenge = site.challenge(site.request())
    others = StateFiles(tmp_path / "others")
    ak_name = site_ak_name(site.tpm, others)
    with pytest.raises(HardwareRefused, match=r"enrolment\.challenge"):
        enrolment.activate(site.tpm.tcti, others, msgspec.structs.replace(challenge, ak_name=ak_name))


def test_a_certificate_for_another_ak_is_not_imported(site: Site, tmp_path: Path) -> None:
    issued = site.issue(site.response())
    with pytest.raises(HardwareRefused, match=r"enrolment\.other_ak"):
        enrolment.accept(site.tpm.tcti, StateFiles(tmp_path / "others"), issued)
    other_ek = msgspec.structs.replace(issued, ek_certificate=b64u(site.registrar.certificate))
    with pytest.raises(HardwareRefused, match=r"enrolment\.other_ek"):
        enrolment.accept(site.tpm.tcti, site.files, other_ek)
    assert not site.files.enrolment.exists()


def test_without_enrolment_the_attestor_says_what_to_do(site: Site) -> None:
    with pytest.raises(NotReady, match="enrol this TPM") as caught:
        enrolment.load(site.files.enrolment)
    assert caught.value.code == "enrolment.missing"


def test_a_registrar_is_made_once_and_never_replaced(site: Site) -> None:
    with pytest.raises(Refused, match=r"registrar\.exists"):
        authority.create(site.registrar.directory, "again", NOW, 1)
    again = authority.load(site.registrar.directory)
    assert again.certificate == site.registrar.certificate
    assert (site.registrar.directory / "registrar.key.pem").stat().st_mode & 0o077 == 0


def test_a_registrar_that_is_missing_or_mixed_up_is_refused(site: Site, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"registrar\.missing"):
        authority.load(tmp_path / "nowhere")
    other = authority.create(tmp_path / "other", "other", NOW, 2)
    shutil.copy(other.directory / "registrar.crt.pem", site.registrar.directory)
    with pytest.raises(Refused, match=r"registrar\.damaged"):
        authority.load(site.registrar.directory)


FORMS = (EnrolmentRequest, EnrolmentChallenge, EnrolmentResponse, Enrolment)


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__)
@given(data=st.binary(max_size=100) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_a_document_or_malformed(form: type, data: bytes) -> None:
    with pytest.raises(Malformed) as caught:
        documents.parse(data, form)
    assert caught.value.code == "enrolment.document"


RESPONSE = EnrolmentResponse(id="A" * 22, ak_name="AAAA", proof="AAAA")


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"rlu_enrolment_response": "2"},
        {"rlu_enrolment_response": None},
        {"id": "A" * 21},
        {"id": "../../../etc/passwd..."},
        {"proof": "!!"},
        {"proof": "A" * 12_001},
        {"ak_name": 5},
    ],
    ids=repr,
)
def test_documents_are_strict(change: dict[str, object]) -> None:
    members = {**json.loads(documents.encode(RESPONSE)), **change}
    members = {k: v for k, v in members.items() if v is not None}
    with pytest.raises(Malformed, match=r"enrolment\.document"):
        documents.parse(json.dumps(members).encode(), EnrolmentResponse)


def test_one_document_is_not_taken_for_another() -> None:
    with pytest.raises(Malformed, match="not an EnrolmentChallenge"):
        documents.parse(documents.encode(RESPONSE), EnrolmentChallenge)
