"""Runtime data: the JSON in which Azure's paravisor says which keys its virtual TPM has, and how the VM is configured.

    {"keys": [{"kid": "HCLAkPub", "key_ops": ["sign"], "kty": "RSA", "e": …, "n": …}, {"kid": "HCLEkPub", …}],
     "vm-configuration": {"secure-boot": true, "tpm-enabled": true, "vmUniqueId": …, …}, "user-data": 128 hexadecimal digits}

Microsoft adds members from time to time: what is not known here is kept in `vm_configuration`, or passed over. The bytes are measured
whole, so that nobody else can add anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from cryptography.hazmat.primitives.asymmetric import rsa

from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import Malformed, Unsupported
from rlu_attestation.strict_json import no_number, unique

AK, EK = "HCLAkPub", "HCLEkPub"
USER_DATA_SIZE = 64
_CODE = "azure-vtpm.runtime.encoding"
_MAX_KEYS, _MAX_SETTINGS, _MAX_TEXT = 8, 64, 256
_MAX_DIGITS = 20
_RSA_BITS = (2048, 3072, 4096)

Setting = bool | int | str | None


@dataclass(frozen=True, slots=True)
class RuntimeData:
    """The JSON, read; nothing is verified.

    Attributes:
        ak: the key of the virtual TPM's AK.
        key_ids: `kid` of every key, in their order.
        vm_configuration: settings by Microsoft's names; what is neither truth value, number nor string is None.
        user_data: 64 bytes that the guest had put there (NV index 0x01400002), zero unless it did.
    """

    ak: rsa.RSAPublicKey
    key_ids: tuple[str, ...]
    vm_configuration: Mapping[str, Setting]
    user_data: bytes | None

    def flag(self, name: str) -> bool | None:
        """A truth value of the configuration; None when it is absent or something else."""
        value = self.vm_configuration.get(name)
        return value if isinstance(value, bool) else None

    def text(self, name: str) -> str | None:
        """A string of the configuration; None when it is absent or something else."""
        value = self.vm_configuration.get(name)
        return value if isinstance(value, str) else None


def parse_runtime_data(data: bytes) -> RuntimeData:
    """Read runtime data.

    Raises:
        Malformed: `azure-vtpm.runtime.encoding`: not JSON, a key twice, no AK or two, a key that is none.
        Unsupported: `azure-vtpm.runtime.encoding` for an AK that is not RSA with 2048, 3072 or 4096 bits.
    """
    value = _load(data)
    keys = value.get("keys")
    if not isinstance(keys, list) or not 0 < len(keys) <= _MAX_KEYS:
        raise Malformed(_CODE, f"keys must be an array of 1 to {_MAX_KEYS}")
    named = [(_kid(key), key) for key in keys]
    aks = [key for kid, key in named if kid == AK]
    if len(aks) != 1:
        raise Malformed(_CODE, f"exactly one key must be {AK}")
    return RuntimeData(
        ak=_rsa(aks[0]),
        key_ids=tuple(kid for kid, _ in named),
        vm_configuration=_settings(value.get("vm-configuration", {})),
        user_data=_user_data(value["user-data"]) if "user-data" in value else None,
    )


def _load(data: bytes) -> Mapping[str, object]:
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=unique,
            parse_float=no_number,
            parse_constant=no_number,
            parse_int=_bounded,
        )
    except (ValueError, RecursionError) as error:
        raise Malformed(_CODE, "not JSON in UTF-8 with every key once") from error
    if not isinstance(value, dict):
        raise Malformed(_CODE, "not a JSON object")
    return value


def _bounded(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError("integer out of range")
    return int(text)


def _kid(key: object) -> str:
    if not isinstance(key, dict) or not isinstance(key.get("kid"), str):
        raise Malformed(_CODE, "a key is not an object with a kid")
    return _text(key["kid"])


def _text(text: str) -> str:
    if len(text) > _MAX_TEXT or not text.isprintable():
        raise Malformed(_CODE, f"a text has more than {_MAX_TEXT} characters, or some that cannot be shown")
    return text


def _rsa(key: Mapping[str, object]) -> rsa.RSAPublicKey:
    if key.get("kty") != "RSA":
        raise Unsupported(_CODE, f"{AK} is not an RSA key")
    if key.get("key_ops") != ["sign"]:
        raise Malformed(_CODE, f"{AK} is not for signing only")
    numbers = []
    for name in ("e", "n"):
        try:
            numbers.append(
                int.from_bytes(unb64u(cast(str, key.get(name))), "big")
            )  # refuses what is not a string
        except Malformed as error:
            raise Malformed(_CODE, f"{AK}: {name} is not a number in base64url") from error
    exponent, modulus = numbers
    if modulus.bit_length() not in _RSA_BITS:
        raise Unsupported(_CODE, f"{AK} has {modulus.bit_length()} bits")
    try:
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as error:
        raise Malformed(_CODE, f"{AK} is not a public key") from error


def _settings(value: object) -> dict[str, Setting]:
    if not isinstance(value, dict) or len(value) > _MAX_SETTINGS:
        raise Malformed(_CODE, f"vm-configuration must be an object of at most {_MAX_SETTINGS} members")
    found: dict[str, Setting] = {}
    for name, setting in value.items():
        if isinstance(setting, str):
            setting = _text(setting)
        found[_text(name)] = setting if isinstance(setting, (bool, int, str)) else None
    return found


def _user_data(value: object) -> bytes:
    if not isinstance(value, str) or len(value) != 2 * USER_DATA_SIZE:
        raise Malformed(_CODE, f"user-data must have {2 * USER_DATA_SIZE} hexadecimal digits")
    try:
        data = bytes.fromhex(value)
    except ValueError as error:
        raise Malformed(_CODE, "user-data is not hexadecimal") from error
    if data.hex() != value.lower():
        raise Malformed(_CODE, "user-data is not hexadecimal")
    return data
