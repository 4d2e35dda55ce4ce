"""Where `rlu verify` takes its policy and roots from: pinned, signed, bundled, a directory of roots."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from fakes.deployment import AT, Deployment
from fakes.machine import registrar, vendor_root
from fakes.terminal import Ran, rlu
from rlu_attestation import bundle as bundles
from rlu_attestation import policy_signature
from rlu_attestation.bundle import BundledPolicy
from rlu_attestation.files import load_policy
from rlu_attestation.policy_file import digest_of

KEY = ec.derive_private_key(11, ec.SECP256R1())
OTHER = ec.derive_private_key(12, ec.SECP256R1())
POLICY = """
version = 1
pcrs = "any"
[trust]
{trust}
[accept]
hardware_profiles = "any"
regions = "any"
boundaries = "any"
sites = "any"
models = "any"
engines = "any"
engine_arguments = "any"
gateways = "any"
gateway_images = "any"
debug_states = ["disabled"]
[channel]
origins = ["gateway-memory"]
[lock]
attestor = "any"
engine = "any"
gateway = "any"
[minimum_source]
default = "asserted"
"""
TRUST = 'ek_roots = ["vendor.der"]\nregistrars = ["registrar.der"]'
FILES = {"vendor.der": vendor_root().der, "registrar.der": registrar().der}
Capture = pytest.CaptureFixture[str]


class Room:
    """A directory with a bundle, a policy and its files."""

    def __init__(self, directory: Path, capsys: Capture) -> None:
        self.directory, self.capsys = directory, capsys
        self.bundle, self.policy = directory / "bundle.rlu", directory / "policy.toml"
        self.bundle.write_bytes(BUNDLE)
        self.policy.write_text(POLICY.format(trust=TRUST))
        for name, data in FILES.items():
            (directory / name).write_bytes(data)

    @property
    def digest(self) -> str:
        return load_policy(self.policy).digest.hex()

    def verify(self, *options: object) -> Ran:
        return rlu(self.capsys, "verify", self.bundle, "--as-of", AT, *options)

    def roots(self) -> Path:
        """A directory of roots, and a policy that names none."""
        self.policy.write_text(POLICY.format(trust=""))
        for name in FILES:
            (self.directory / name).unlink()
        directory = self.directory / "roots"
        (directory / "tpm").mkdir(parents=True)
        (directory / "tpm" / "vendor.der").write_bytes(FILES["vendor.der"])
        (directory / "registrar.der").write_bytes(FILES["registrar.der"])
        return directory


BUNDLE = Deployment().bundle().encode()


@pytest.fixture
def room(tmp_path: Path, capsys: Capture) -> Room:
    return Room(tmp_path, capsys)


def public_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


# --- pinned -------------------------------------------------------------------------------------------------------------


def test_a_pinned_policy(room: Room) -> None:
    assert room.verify("--policy", room.policy, "--policy-sha256", room.digest).code == 0
    assert room.verify("--policy", room.policy, "--policy-sha256", room.digest.upper()).code == 0


@pytest.mark.parametrize("file", ["policy.toml", "vendor.der"])
def test_another_policy_or_another_file_that_it_names(room: Room, file: str) -> None:
    digest = room.digest
    if file == "policy.toml":
        room.policy.write_text(room.policy.read_text() + "# changed\n")
    else:
        shutil.copy(room.directory / "registrar.der", room.directory / file)
    ran = room.verify("--policy", room.policy, "--policy-sha256", digest)
    assert (ran.code, ran.out) == (10, "")
    assert "[policy.digest]" in ran.err


@pytest.mark.parametrize("pin", ["", "00", "zz" * 32, "00" * 33])
def test_what_is_no_digest(room: Room, pin: str) -> None:
    assert room.verify("--policy", room.policy, "--policy-sha256", pin).code == 2
    assert room.verify("--bundled-policy", pin).code == 2


def test_a_pin_without_its_policy_is_a_mistake(room: Room) -> None:
    assert room.verify("--policy-sha256", "00" * 32).code == 2
    assert room.verify("--policy-key", "key.pem").code == 2
    assert room.verify("--policy", room.policy, "--bundled-policy", "00" * 32).code == 2


# --- signed -------------------------------------------------------------------------------------------------------------


def signed(room: Room, by: ec.EllipticCurvePrivateKey = KEY) -> Path:
    signature = policy_signature.sign(bytes.fromhex(room.digest), by)
    (room.directory / "policy.toml.sig").write_bytes(signature)
    key = room.directory / "maintainer.pem"
    key.write_bytes(public_pem(KEY))
    return key


def test_a_signed_policy(room: Room) -> None:
    assert room.verify("--policy", room.policy, "--policy-key", signed(room)).code == 0


def test_one_signed_by_another(room: Room) -> None:
    ran = room.verify("--policy", room.policy, "--policy-key", signed(room, OTHER))
    assert ran.code == 10
    assert "[policy.signature.kid]" in ran.err


def test_one_changed_after_it_was_signed(room: Room) -> None:
    key = signed(room)
    shutil.copy(room.directory / "registrar.der", room.directory / "vendor.der")
    ran = room.verify("--policy", room.policy, "--policy-key", key)
    assert ran.code == 10
    assert "[policy.signature.digest]" in ran.err


def test_one_without_its_signature(room: Room) -> None:
    key = signed(room)
    (room.directory / "policy.toml.sig").unlink()
    ran = room.verify("--policy", room.policy, "--policy-key", key)
    assert ran.code == 2
    assert "[file.unreadable]" in ran.err


# --- bundled ------------------------------------------------------------------------------------------------------------


def bundled(room: Room, files: dict[str, bytes] | None = None) -> str:
    """Put the policy into the bundle; gives its digest."""
    toml, own = room.policy.read_bytes(), FILES if files is None else files
    policy = BundledPolicy(toml, tuple(sorted(own.items())))
    room.bundle.write_bytes(replace(bundles.parse(BUNDLE), policy=policy).encode())
    return digest_of(toml, own).hex()


def test_a_bundled_policy_counts_for_who_knows_its_digest(room: Room) -> None:
    digest = bundled(room)
    assert digest == room.digest
    ran = room.verify("--bundled-policy", digest)
    assert ran.code == 0
    assert "The policy is the bundle's own" in ran.out
    assert room.verify("--bundled-policy", digest, "--json").json["policy_sha256"] == digest


def test_without_its_digest_it_counts_for_nothing_and_the_notes_say_how(room: Room) -> None:
    digest = bundled(room)
    ran = room.verify()
    assert ran.code == 10
    assert f"--bundled-policy {digest}" in ran.out
    assert "ek.chain.unknown_issuer" in ran.out


def test_another_bundled_policy(room: Room) -> None:
    bundled(room)
    ran = room.verify("--bundled-policy", "00" * 32)
    assert (ran.code, ran.out) == (10, "")
    assert "[policy.digest]" in ran.err


def test_nothing_of_a_bundled_policy_is_read_before_its_digest_fits(room: Room) -> None:
    room.policy.write_text("this is no TOML")
    digest = bundled(room)
    assert "[policy.digest]" in room.verify("--bundled-policy", "00" * 32).err
    assert "[policy.encoding]" in room.verify("--bundled-policy", digest).err


@pytest.mark.parametrize(
    ("files", "code", "named"),
    [
        ({**FILES, "more.der": b"x"}, 10, "policy.digest"),
        ({"vendor.der": FILES["vendor.der"]}, 2, "policy.certificate"),
    ],
)
def test_files_that_do_not_fit(room: Room, files: dict[str, bytes], code: int, named: str) -> None:
    ran = room.verify("--bundled-policy", bundled(room, files))
    assert ran.code == code
    assert f"[{named}]" in ran.err


def test_a_bundle_without_a_policy(room: Room) -> None:
    ran = room.verify("--bundled-policy", "00" * 32)
    assert ran.code == 2
    assert "[policy.bundled]" in ran.err


# --- roots --------------------------------------------------------------------------------------------------------------


def test_roots_of_the_operator_count_and_are_shown(room: Room) -> None:
    directory = room.roots()
    assert room.verify("--policy", room.policy).code == 10
    ran = room.verify("--policy", room.policy, "--roots", directory)
    assert ran.code == 0
    assert (
        f"Root supplied by the operator, trusted because of --roots: tpm {hashlib.sha256(vendor_root().der).hexdigest()}"
        in ran.out
    )
    shown = room.verify("--policy", room.policy, "--roots", directory, "--json").json["operator_roots"]
    assert [root["kind"] for root in shown] == ["registrar", "tpm"]
    ear = room.verify("--policy", room.policy, "--roots", directory, "--format", "ear").json
    ids = ear["submods"]["instance"]["ear_appraisal_policy_ids"]
    assert [name.rpartition(":")[0] for name in ids] == ["urn:rlu:policy:sha256", "urn:rlu:roots:sha256"]


def test_roots_of_one_kind_do_not_count_for_another(room: Room) -> None:
    directory = room.roots()
    (directory / "registrar.der").rename(directory / "sev-snp.der")
    ran = room.verify("--policy", room.policy, "--roots", directory)
    assert ran.code == 10
    assert "ak.certificate.unknown_issuer" in ran.out


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("amd.pem", b"", "roots.kind"),
        ("tpm.txt", b"", "roots.kind"),
        ("tpm/readme.md", b"", "roots.kind"),
        ("nitro.pem", b"nothing", "roots.certificate"),
    ],
)
def test_a_directory_of_roots_that_is_none(room: Room, name: str, content: bytes, named: str) -> None:
    directory = room.roots()
    (directory / name).write_bytes(content)
    ran = room.verify("--roots", directory)
    assert ran.code == 2
    assert f"[{named}]" in ran.err


def test_an_empty_directory_and_none_at_all(room: Room, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / ".hidden").write_bytes(b"")
    assert "[roots.empty]" in room.verify("--roots", tmp_path / "none").err
    assert "[file.unreadable]" in room.verify("--roots", tmp_path / "absent").err


# --- EAR ----------------------------------------------------------------------------------------------------------------


def test_an_ear_is_signed_by_a_key_of_its_own(room: Room) -> None:
    from rlu_attestation import canonical, jose

    key = room.directory / "ear.pem"
    key.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    ran = room.verify("--policy", room.policy, "--format", "ear", "--ear-key", key)
    assert ran.code == 0
    jws = jose.jws_parse(ran.out.strip())
    jose.verify_es256(KEY.public_key(), jws.signing_input, jws.signature)
    claims = canonical.decode(jws.payload)
    assert claims["submods"]["instance"]["ear_status"] == "affirming"
    assert claims["submods"]["instance"]["ear_trustworthiness_vector"] == {
        "instance-identity": 2,
        "hardware": 2,
        "executables": 0,
        "configuration": 0,
    }


def test_what_an_ear_cannot_be(room: Room) -> None:
    assert room.verify("--ear-key", "key.pem").code == 2
    ran = room.verify("--format", "ear", "--ear-key", room.directory / "absent.pem")
    assert (ran.code, ran.json["code"]) == (2, "file.unreadable")
    assert room.verify("--format", "cbor").code == 2
