"""The keys in a software TPM: their attributes as read back, and every way of using them that must not work."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2B_PUBLIC,
    TPML_DIGEST_VALUES,
    TPMT_HA,
    TPMT_PUBLIC,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF_OBJECT,
    TPMT_TK_HASHCHECK,
    TPMU_HA,
    TSS2_Exception,
)
from tpm2_pytss.constants import TPM2_RH, TPM2_ST
from tpm2_pytss.tsskey import TSSPrivKey

from rlu_attestation.jose import verify_es256
from rlu_attestation.tpm.checks import KEY_ATTRIBUTES, check_ak
from rlu_attestation.tpm.constants import Alg, Attribute, Curve
from rlu_attestation.tpm.public import EccKey, parse_public
from rlu_server.attestor import secret
from rlu_server.attestor.errors import HardwareRefused, HardwareUnavailable, NotReady
from rlu_server.attestor.tpm import counter, keys, wire
from rlu_server.attestor.tpm.attestation_key import Endorsement, EnrolledKey
from rlu_server.attestor.tpm.connection import Tpm
from rlu_server.attestor.tpm.platform import TpmConfiguration, TpmPlatform
from rlu_server.attestor.tpm.shared import Loaded
from rlu_server.swtpm import SoftwareTpm

pytestmark = pytest.mark.tpm
PCRS = (0, 1, 2, 3, 4, 5, 6, 7)
SECRET = b"s" * 32
NO_ENDORSEMENT = Endorsement(b"", (), b"", ())


def unenrolled(configuration: TpmConfiguration, own: bytes = SECRET) -> TpmPlatform:
    """A platform whose AK lies beside its TPM."""
    ak = Path(configuration.tcti.partition("path=")[2]).with_name("ak.pem")
    return TpmPlatform(configuration, own, EnrolledKey(ak, own, NO_ENDORSEMENT))


@pytest.fixture
def configuration(software_tpm: SoftwareTpm, tmp_path: Path) -> TpmConfiguration:
    return TpmConfiguration(software_tpm.tcti, tmp_path / "key.pem", PCRS)


@pytest.fixture
def opened(configuration: TpmConfiguration) -> Iterator[TpmPlatform]:
    made = unenrolled(configuration)
    yield made
    made.close()


def extend(tpm: Tpm, pcr: int) -> None:
    value = TPMT_HA(hashAlg=TPM2_ALG.SHA256, digest=TPMU_HA(sha256=bytes(32)))
    tpm.esapi.pcr_extend(ESYS_TR(pcr), TPML_DIGEST_VALUES([value]))


def loaded(made: TpmPlatform) -> Loaded:
    assert made._shared._loaded is not None
    return made._shared._loaded


def instance_key(made: TpmPlatform) -> keys.LoadedKey:
    return loaded(made).held[made.slot].key


def test_the_instance_key_has_exactly_the_required_attributes(opened: TpmPlatform) -> None:
    public = parse_public(instance_key(opened).public)
    assert public.attributes == KEY_ATTRIBUTES
    assert not public.attributes & Attribute.USER_WITH_AUTH
    assert isinstance(public.key, EccKey)
    assert public.key.curve is Curve.NIST_P256
    assert public.name_alg is Alg.SHA256
    assert public.auth_policy == keys.current_policy(loaded(opened).tpm, PCRS)


def test_the_ak_is_restricted_and_wants_its_secret(opened: TpmPlatform) -> None:
    check_ak(parse_public(loaded(opened).ak.public))
    tpm, ak = loaded(opened).tpm, loaded(opened).ak
    tpm.esapi.tr_set_auth(ak.reference, b"another secret")
    with pytest.raises(TSS2_Exception):
        tpm.esapi.quote(ak.reference, "sha256:0", bytes(32))
    tpm.esapi.tr_set_auth(ak.reference, secret.authorisation(SECRET, "ak"))
    with pytest.raises(TSS2_Exception):  # a restricted key signs nothing that the TPM did not make
        tpm.esapi.sign(ak.reference, bytes(32), TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL), ticket())


def ticket() -> TPMT_TK_HASHCHECK:
    return TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)


def test_it_signs_and_the_signature_verifies(opened: TpmPlatform) -> None:
    for message in (b"", b"one", b"two" * 1000):
        verify_es256(opened.public_key, message, opened.sign(hashlib.sha256(message).digest()))


def test_the_secret_alone_does_not_sign(opened: TpmPlatform) -> None:
    """No userWithAuth: the authorisation value without the policy is no use."""
    tpm, key = loaded(opened).tpm, instance_key(opened)
    with pytest.raises(TSS2_Exception):
        tpm.esapi.sign(key.reference, bytes(32), TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL), ticket())


@pytest.mark.parametrize("pcr", [0, 7])
def test_another_platform_state_does_not_sign(opened: TpmPlatform, pcr: int) -> None:
    opened.sign(bytes(32))
    extend(loaded(opened).tpm, pcr)
    with pytest.raises(HardwareRefused, match=r"tpm\.platform_state"):
        opened.sign(bytes(32))


def test_a_pcr_outside_the_selection_does_not_matter(opened: TpmPlatform) -> None:
    extend(loaded(opened).tpm, 16)
    opened.sign(bytes(32))


def test_a_changed_platform_refuses_to_start_until_it_is_booted_as_before(
    configuration: TpmConfiguration, software_tpm: SoftwareTpm
) -> None:
    first = unenrolled(configuration)
    public = first.public_key
    extend(loaded(first).tpm, 4)
    first.close()
    with pytest.raises(HardwareRefused, match=r"key\.platform_state"):
        unenrolled(configuration)
    software_tpm.stop()
    software_tpm.start()
    again = unenrolled(configuration)
    assert again.public_key == public
    again.sign(bytes(32))
    again.close()


def test_another_secret_does_not_sign(configuration: TpmConfiguration) -> None:
    unenrolled(configuration).close()
    with pytest.raises(HardwareRefused, match=r"tpm\.secret"):
        unenrolled(configuration, b"t" * 32).sign(bytes(32))


def test_the_key_cannot_be_exported(opened: TpmPlatform) -> None:
    tpm, key = loaded(opened).tpm, instance_key(opened)
    nothing = TPMT_SYM_DEF_OBJECT(algorithm=TPM2_ALG.NULL)
    with pytest.raises(TSS2_Exception):
        tpm.esapi.duplicate(key.reference, ESYS_TR.NONE, b"", nothing)


def test_the_key_file_is_of_no_use_in_another_tpm(
    configuration: TpmConfiguration, manufactured_tpm: Path, tmp_path: Path
) -> None:
    unenrolled(configuration).close()
    assert configuration.key.stat().st_mode & 0o077 == 0  # type: ignore[union-attr]
    with SoftwareTpm(tmp_path / "tpm2") as other:  # manufactured anew: other seeds
        moved = TpmConfiguration(other.tcti, configuration.key, PCRS)
        with pytest.raises(HardwareRefused, match=r"tpm\.cleared"):
            unenrolled(moved)


def test_a_key_with_weaker_attributes_is_refused(configuration: TpmConfiguration) -> None:
    tpm = Tpm(configuration.tcti)
    policy = keys.current_policy(tpm, PCRS)
    auth = secret.authorisation(SECRET, "instance-key")
    weaker = keys.create(tpm, keys.AK_ATTRIBUTES & ~int(Attribute.RESTRICTED), policy, auth)
    tpm.close()
    assert isinstance(configuration.key, Path)
    configuration.key.write_bytes(bytes(weaker.to_pem()))
    with pytest.raises(HardwareRefused, match=r"key\.attributes"):
        unenrolled(configuration)


def test_a_software_key_is_refused_with_a_way_out(configuration: TpmConfiguration) -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    assert isinstance(configuration.key, Path)
    configuration.key.write_bytes(pem)
    with pytest.raises(NotReady, match="insecure_software_key") as caught:
        unenrolled(configuration)
    assert caught.value.code == "key.software"
    assert configuration.key.read_bytes() == pem


@pytest.mark.parametrize("damage", ["cut", "junk"])
def test_a_damaged_key_file_is_refused(configuration: TpmConfiguration, damage: str) -> None:
    unenrolled(configuration).close()
    assert isinstance(configuration.key, Path)
    pem = configuration.key.read_bytes()
    configuration.key.write_bytes(pem[: len(pem) // 2] if damage == "cut" else keys.TSS2_HEADER + b"\nAAAA\n")
    with pytest.raises(NotReady, match=r"key\.file"):
        unenrolled(configuration)


def test_the_key_may_live_at_a_persistent_handle(configuration: TpmConfiguration) -> None:
    at_handle = TpmConfiguration(configuration.tcti, 0x81000010, PCRS)
    first = unenrolled(at_handle)
    first.sign(bytes(32))
    public = first.public_key
    first.close()
    again = unenrolled(at_handle)
    assert again.public_key == public
    again.sign(bytes(32))
    again.close()
    with pytest.raises(NotReady, match=r"key\.handle"):
        unenrolled(TpmConfiguration(configuration.tcti, 0x81800010, PCRS))


def test_a_foreign_key_at_the_handle_is_refused(configuration: TpmConfiguration) -> None:
    tpm = Tpm(configuration.tcti)
    with keys.storage_key(tpm) as storage:
        tpm.esapi.evict_control(ESYS_TR.RH_OWNER, storage, 0x81000011)
    tpm.close()
    at_handle = TpmConfiguration(configuration.tcti, 0x81000011, PCRS)
    with pytest.raises(HardwareRefused, match=r"key\.attributes"):
        unenrolled(at_handle)


def test_what_a_killed_process_left_loaded_is_flushed(configuration: TpmConfiguration) -> None:
    for _ in range(3):
        left = unenrolled(configuration)
        left.sign(bytes(32))
        loaded(left).tpm.close()  # as if killed: nothing is flushed
    last = unenrolled(configuration)
    last.sign(bytes(32))
    last.close()


def test_a_session_that_was_lost_is_made_again(opened: TpmPlatform) -> None:
    opened.sign(bytes(32))
    session = loaded(opened).session
    assert session is not None
    session.nonce_tpm = bytes(32)
    with pytest.raises(HardwareRefused):
        opened.sign(bytes(32))
    opened.sign(bytes(32))


def test_the_start_counter_only_rises_even_when_it_is_made_again(
    configuration: TpmConfiguration,
) -> None:
    made = unenrolled(configuration)
    values = [made.raise_start_counter() for _ in range(3)]
    assert values == [values[0], values[0] + 1, values[0] + 2]
    tpm = loaded(made).tpm
    index = tpm.esapi.tr_from_tpmpublic(counter.INDEX)
    tpm.esapi.nv_undefine_space(index, ESYS_TR.RH_OWNER)
    assert made.raise_start_counter() > values[-1]
    made.close()


def test_a_tpm_that_is_not_there_says_so(tmp_path: Path) -> None:
    for tcti in (f"swtpm:path={tmp_path}/none.sock", "device:/dev/none", "nonsense:x"):
        with pytest.raises(HardwareUnavailable, match=r"tpm\.unreachable"):
            Tpm(tcti)


def test_the_secret_is_made_once_and_must_stay_private(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "secret"
    made = secret.load_or_create(path)
    assert len(made) == 32
    assert secret.load_or_create(path) == made
    path.chmod(0o640)
    with pytest.raises(NotReady, match=r"secret\.permissions"):
        secret.load_or_create(path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(NotReady, match=r"secret\.size"):
        secret.load_or_create(path)
    shutil.rmtree(tmp_path / "deep")
    assert secret.load_or_create(path) != made


def test_two_purposes_have_two_values_and_none_ends_in_zero() -> None:
    seen = {
        secret.authorisation(bytes([i]) * 32, purpose)
        for i in range(200)
        for purpose in ("ak", "instance-key")
    }
    assert len(seen) == 400
    assert not any(value.endswith(b"\0") for value in seen)


def test_pem_is_the_tss2_form_that_other_tools_read(configuration: TpmConfiguration) -> None:
    unenrolled(configuration).close()
    assert isinstance(configuration.key, Path)
    key = TSSPrivKey.from_pem(configuration.key.read_bytes())
    assert not key.empty_auth
    assert isinstance(key.public, TPM2B_PUBLIC)
    assert isinstance(key.public.publicArea, TPMT_PUBLIC)


def test_an_owner_password_is_named(configuration: TpmConfiguration) -> None:
    tpm = Tpm(configuration.tcti)
    tpm.esapi.hierarchy_change_auth(ESYS_TR.RH_OWNER, b"password")
    tpm.close()
    with pytest.raises(HardwareRefused, match=r"tpm\.owner_password"):
        unenrolled(configuration)


def test_two_keys_in_three_places(opened: TpmPlatform, tmp_path: Path) -> None:
    """One TPM without a resource manager holds both keys and the AK; each signs, and has evidence of its own."""
    second = opened.beside(tmp_path / "next.pem")
    assert second.public_key.public_numbers() != opened.public_key.public_numbers()
    for key in (opened, second, opened):
        digest = hashlib.sha256(b"message").digest()
        signature = key.sign(digest)
        verify_es256(key.public_key, b"message", signature)
    held = loaded(opened).held
    assert loaded(opened) is loaded(second)
    assert held[opened.slot].certify != held[second.slot].certify
    loaded(opened).tpm.close()  # as if the TPM had been away: both are loaded again
    for key in (second, opened):
        verify_es256(key.public_key, b"message", key.sign(digest))
    second.close()
    verify_es256(opened.public_key, b"message", opened.sign(digest))
    again = opened.beside(tmp_path / "next.pem")
    assert again.public_key.public_numbers() == second.public_key.public_numbers()
    again.close()


def test_a_closed_connection_is_known_to_be_closed(configuration: TpmConfiguration) -> None:
    """The library would read memory that it has freed, which now and then ends the process."""
    tpm = Tpm(configuration.tcti)
    tpm.close()
    tpm.close()
    for _ in range(100):
        with pytest.raises(HardwareUnavailable, match=r"tpm\.unreachable.*closed"):
            tpm.transact(wire.flush_context(0x80000000))


def test_keys_whose_files_changed_places_are_found_again(opened: TpmPlatform, tmp_path: Path) -> None:
    """After a rotation, when the TPM had been away: each is the key that it was, and none is made."""
    file, following = opened.slot.place, tmp_path / "next.pem"
    assert isinstance(file, Path)
    second = opened.beside(following)
    file.rename(tmp_path / "previous.pem")
    following.rename(file)
    loaded(opened).tpm.close()
    for key in (opened, second):
        verify_es256(key.public_key, b"message", key.sign(hashlib.sha256(b"message").digest()))
    assert not following.exists()
    second.close()


def test_a_second_key_of_another_platform_state_leaves_the_first(opened: TpmPlatform, tmp_path: Path) -> None:
    (tmp_path / "next.pem").write_text("garbage")
    with pytest.raises(NotReady, match=r"key\.software"):
        opened.beside(tmp_path / "next.pem")
    verify_es256(opened.public_key, b"message", opened.sign(hashlib.sha256(b"message").digest()))
