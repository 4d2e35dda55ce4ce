"""The instance key and the AK: how they are made, kept, loaded and checked.

Both are P-256 children of the owner hierarchy's default ECC storage key, which the TPM derives again whenever it is asked, so nothing
needs a persistent handle. They are kept as TSS2 PRIVATE KEY files: wrapped by that storage key, useless away from this TPM. The instance
key may live at a persistent handle instead; its successors then do, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from tpm2_pytss import (
    ESYS_TR,
    TPM2_ALG,
    TPM2_ECC,
    TPM2_RH,
    TPM2B_PRIVATE,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_OBJECT,
    TPMS_SENSITIVE_CREATE,
    TPMT_PUBLIC,
)
from tpm2_pytss.tsskey import TSSPrivKey

from rlu_attestation import jose
from rlu_attestation.instance import ueid
from rlu_server.attestor.errors import HardwareRefused, NotReady
from rlu_server.attestor.secret import write_private
from rlu_server.attestor.tpm import wire
from rlu_server.attestor.tpm.connection import Tpm, guard

STORAGE_KEY = "ecc256:aes128cfb"
STORAGE_ATTRIBUTES = "userwithauth|restricted|decrypt|noda|fixedtpm|fixedparent|sensitivedataorigin"
INSTANCE_ATTRIBUTES = (
    TPMA_OBJECT.FIXEDTPM
    | TPMA_OBJECT.FIXEDPARENT
    | TPMA_OBJECT.SENSITIVEDATAORIGIN
    | TPMA_OBJECT.NODA
    | TPMA_OBJECT.SIGN_ENCRYPT
)
AK_ATTRIBUTES = INSTANCE_ATTRIBUTES | TPMA_OBJECT.RESTRICTED | TPMA_OBJECT.USERWITHAUTH
TSS2_HEADER = b"-----BEGIN TSS2 PRIVATE KEY-----"
MAX_KEY_FILE = 16 * 1024
FIRST_PERSISTENT = 0x81000000
PCRS_PER_READ = 8


@dataclass(frozen=True, slots=True)
class LoadedKey:
    """A key in the TPM: the library's handle, the TPM's own, the TPM name, and its TPMT_PUBLIC."""

    reference: ESYS_TR
    handle: int
    name: bytes
    public: bytes
    auth: bytes = field(default=b"", repr=False)
    """Its authorisation value."""

    @property
    def stays(self) -> bool:
        """At a persistent handle, where it takes no place of the few for loaded objects."""
        return self.handle >= FIRST_PERSISTENT


def read_pcrs(tpm: Tpm, pcrs: tuple[int, ...]) -> dict[int, bytes]:
    """The SHA-256 bank's values, all from one moment.

    Raises:
        HardwareRefused: the TPM has no SHA-256 bank, or lacks one of the PCRs.
    """
    values: dict[int, bytes] = {}
    moment: int | None = None
    while missing := [pcr for pcr in sorted(set(pcrs)) if pcr not in values]:
        wanted = missing[:PCRS_PER_READ]
        with guard("pcr_read"):
            counter, _, digests = tpm.esapi.pcr_read("sha256:" + ",".join(map(str, wanted)))
        if len(digests) != len(wanted):
            raise HardwareRefused("tpm.pcr_bank", "the TPM has no active SHA-256 bank with these PCRs")
        if moment is not None and counter != moment:
            values.clear()  # extended between two reads: begin again
            moment = None
            continue
        moment = int(counter)
        values.update(zip(wanted, (bytes(d) for d in digests), strict=True))
    return values


def current_policy(tpm: Tpm, pcrs: tuple[int, ...]) -> bytes:
    """authPolicy of an instance key for the platform as it is now."""
    values = read_pcrs(tpm, pcrs)
    composite = hashlib.sha256(b"".join(values[pcr] for pcr in sorted(values))).digest()
    return wire.policy_digest(pcrs, composite)


@contextmanager
def put_aside(tpm: Tpm, key: LoadedKey) -> Iterator[list[LoadedKey]]:
    """While the block runs the key takes no place in the TPM; afterwards it is the one element of the list."""
    back = [key]
    if key.stays:
        yield back
        return
    with guard("context_save"):
        saved = tpm.esapi.context_save(key.reference)
    tpm.flush(key.reference)
    yield back
    with guard("context_load"):
        reference = tpm.esapi.context_load(saved)
    back[0] = loaded(tpm, reference, key.auth)


@contextmanager
def storage_key(tpm: Tpm) -> Iterator[ESYS_TR]:
    """The owner hierarchy's storage key, loaded while the block runs."""
    template = TPMT_PUBLIC.parse(STORAGE_KEY, objectAttributes=STORAGE_ATTRIBUTES)
    with guard("create_primary"):
        handle, *_ = tpm.esapi.create_primary(
            TPM2B_SENSITIVE_CREATE(), TPM2B_PUBLIC(publicArea=template), ESYS_TR.RH_OWNER
        )
    try:
        yield handle
    finally:
        tpm.flush(handle)


def create(tpm: Tpm, attributes: int, policy: bytes, auth: bytes) -> TSSPrivKey:
    """Make a P-256 ECDSA key below the storage key; its secret travels encrypted."""
    template = _template(attributes, policy)
    sensitive = TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(userAuth=auth))
    with storage_key(tpm) as parent, tpm.hmac_session(parent, encrypt=True) as session, guard("create"):
        private, public, *_ = tpm.esapi.create(
            parent, sensitive, TPM2B_PUBLIC(publicArea=template), session2=session
        )
    return TSSPrivKey(private, public, empty_auth=False, parent=int(TPM2_RH.OWNER))


def load(tpm: Tpm, key: TSSPrivKey, auth: bytes) -> LoadedKey:
    """Load a key of ours and tell the library its secret."""
    if int(key.parent) != int(TPM2_RH.OWNER):
        raise NotReady("key.parent", "the key's parent must be the owner hierarchy's default storage key")
    private, public = TPM2B_PRIVATE(bytes(key.private)), key.public
    with storage_key(tpm) as parent, guard("load"):
        reference = tpm.esapi.load(parent, private, public)
    return loaded(tpm, reference, auth)


def load_or_create_file(tpm: Tpm, path: Path, attributes: int, policy: bytes, auth: bytes) -> LoadedKey:
    """The key of a TSS2 PRIVATE KEY file; made when the file is absent."""
    return load(tpm, wrapped_in_file(tpm, path, attributes, policy, auth), auth)


def wrapped_in_file(tpm: Tpm, path: Path, attributes: int, policy: bytes, auth: bytes) -> TSSPrivKey:
    """The same, as the TPM has wrapped it: with it the key is loaded again without the file."""
    data = read_key_file(path)
    if data is None:
        key = create(tpm, attributes, policy, auth)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, bytes(key.to_pem()))
        return key
    try:
        return TSSPrivKey.from_pem(data)
    except Exception as error:  # the library raises many kinds for a damaged file
        raise NotReady("key.file", f"{path} is not a TSS2 PRIVATE KEY file") from error


def read_key_file(path: Path) -> bytes | None:
    """The bytes of a key file, `None` if absent.

    Raises:
        NotReady: unreadable, too long, or a software key.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise NotReady("key.file", f"{path}: {error.strerror}") from error
    if len(data) > MAX_KEY_FILE:
        raise NotReady("key.file", f"{path} is too long for a key")
    if not data.lstrip().startswith(TSS2_HEADER):
        raise NotReady(
            "key.software",
            f"{path} holds no TPM key; a software key is accepted only with attestation.insecure_software_key, "
            "on a laptop: remove the file and one is made inside the TPM",
        )
    return data


def check_public(key: LoadedKey, attributes: int, policy: bytes) -> None:
    """Refuse a key that is not exactly of the form in FORMATS section 4.

    Raises:
        HardwareRefused: other attributes, algorithm or policy.
    """
    found = TPMT_PUBLIC.unmarshal(key.public)[0]
    expected = _template(attributes, policy)
    if found.type == TPM2_ALG.ECC:
        expected.unique.ecc = found.unique.ecc
    if bytes(expected.marshal()) == key.public:
        return
    expected.authPolicy = found.authPolicy
    if bytes(expected.marshal()) == key.public:
        raise HardwareRefused(
            "key.platform_state",
            "the instance key was made under other PCR values; if the change of firmware or configuration was intended, "
            "move the key file away, or set attestation.key_path to another handle, and restart: a new instance then names this one as "
            "its predecessor",
        )
    raise HardwareRefused(
        "key.attributes", "the key does not have the attributes and algorithm that RLU requires"
    )


def public_key_of(public: bytes) -> ec.EllipticCurvePublicKey:
    """The P-256 key of a TPMT_PUBLIC."""
    point = TPMT_PUBLIC.unmarshal(public)[0].unique.ecc
    x, y = int.from_bytes(bytes(point.x), "big"), int.from_bytes(bytes(point.y), "big")
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


def ueid_of(public: bytes) -> str | None:
    """What statements call the key of a TPMT_PUBLIC; None for a key of another kind than ours."""
    found = TPMT_PUBLIC.unmarshal(public)[0]
    if found.type != TPM2_ALG.ECC or found.parameters.eccDetail.curveID != TPM2_ECC.NIST_P256:
        return None
    return ueid(jose.thumbprint(jose.public_jwk(public_key_of(public))))


def _template(attributes: int, policy: bytes) -> TPMT_PUBLIC:
    template = TPMT_PUBLIC(
        type=TPM2_ALG.ECC, nameAlg=TPM2_ALG.SHA256, objectAttributes=attributes, authPolicy=policy
    )
    detail = template.parameters.eccDetail
    detail.symmetric.algorithm = TPM2_ALG.NULL
    detail.scheme.scheme = TPM2_ALG.ECDSA
    detail.scheme.details.ecdsa.hashAlg = TPM2_ALG.SHA256
    detail.curveID = TPM2_ECC.NIST_P256
    detail.kdf.scheme = TPM2_ALG.NULL
    return template


def loaded(tpm: Tpm, reference: ESYS_TR, auth: bytes) -> LoadedKey:
    with guard("read_public"):
        tpm.esapi.tr_set_auth(reference, auth)
        public, name, _ = tpm.esapi.read_public(reference)
        handle = int(tpm.esapi.tr_get_tpm_handle(reference))
    return LoadedKey(reference, handle, bytes(name), bytes(public.publicArea.marshal()), auth)
