"""What tpm2-tools say of a quote, for tests that hold the verifier against them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from absent_inputs import absent
from fakes import tpm_marshal as marshal
from fakes.machine import TpmParts
from rlu_attestation.tpm.public import parse_public


def checkquote(parts: TpmParts, extra_data: bytes, directory: Path) -> bool:
    """Verdict of `tpm2_checkquote` on the quote, its signature, PCR values and qualifying data."""
    key = parse_public(parts.ak_public).public_key()
    assert isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey)
    return checkquote_raw(key, *parts.quote, parts.pcrs, extra_data, directory)


def checkquote_raw(
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    quote: bytes,
    signature: bytes,
    pcrs: Mapping[str, Mapping[int, bytes]],
    extra_data: bytes,
    directory: Path,
) -> bool:
    """The same for parts that belong to no item; one bank of PCRs."""
    if shutil.which("tpm2_checkquote") is None:
        absent("tpm", "tpm2_checkquote (Debian: tpm2-tools) is missing")
    ((bank, found),) = pcrs.items()
    files = {
        "key.pem": key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "quote": quote,
        "signature": signature,
        "pcrs": pcr_file(bank, found),
    }
    for name, data in files.items():
        (directory / name).write_bytes(data)
    arguments = ["-u", "key.pem", "-m", "quote", "-s", "signature", "-q", extra_data.hex()]
    arguments += ["-f", "pcrs"]
    done = subprocess.run(
        ["tpm2_checkquote", *arguments], cwd=directory, capture_output=True, timeout=60, check=False
    )
    return done.returncode == 0


def pcr_file(bank: str, found: Mapping[int, bytes]) -> bytes:
    """The tools' own serialisation: TPML_PCR_SELECTION and TPML_DIGESTs as they lie in memory, little endian."""
    bits = bytearray(4)
    for number in found:
        bits[number // 8] |= 1 << number % 8
    selected = marshal.ALG[bank].to_bytes(2, "little") + b"\x03" + bytes(bits)
    out = (1).to_bytes(4, "little") + selected.ljust(8 * 16, b"\0")
    values = [found[number] for number in sorted(found)]
    blocks = [values[start : start + 8] for start in range(0, len(values), 8)]
    out += len(blocks).to_bytes(4, "little")
    for block in blocks:
        digests = b"".join(len(value).to_bytes(2, "little") + value.ljust(64, b"\0") for value in block)
        out += len(block).to_bytes(4, "little") + digests.ljust(8 * 66, b"\0")
    return out
