"""Reads a policy from TOML. Unknown keys, wrong types and unreadable certificates refuse, with the key named.

The only input besides the bytes is `read_file`, through which certificate files are reached, so that the caller decides where those may be.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from rlu_attestation import x509
from rlu_attestation.catalogue import CLAIMS, COVERAGE, WAIVABLE
from rlu_attestation.encoding import unb64u
from rlu_attestation.errors import RluError
from rlu_attestation.instance import DEBUG_STATES, POSTURE_ROLES
from rlu_attestation.policy import ACCEPT, Accepted, Bound, Policy, PolicyError
from rlu_attestation.statements import TLS_ORIGINS
from rlu_attestation.verdict import Source

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.10 only
    import tomli as tomllib

VERSION = 1
MAX_POLICY = 1024 * 1024
ANY = "any"
_PCR_BANKS = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
_PCR_NUMBERS = {str(number): number for number in range(24)}


def parse(data: bytes, read_file: Callable[[str], bytes]) -> Policy:
    """Read a policy.

    Args:
        data: the TOML file's bytes.
        read_file: gives the content of a certificate file that the policy names; may raise `OSError`.

    Raises:
        PolicyError: `policy.encoding`, `policy.unknown_key`, `policy.value`, `policy.certificate`; the message names the key.
    """
    if len(data) > MAX_POLICY:
        raise PolicyError("policy.encoding", f"a policy has at most {MAX_POLICY} bytes")
    try:
        value = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise PolicyError("policy.encoding", f"not TOML in UTF-8: {error}") from error
    top = _Table(value, "")
    if top.take("version", None) != VERSION:
        raise PolicyError("policy.value", f"version must be {VERSION}")
    trust, times, channel = top.table("trust"), top.table("time"), top.table("channel")
    accept, sources = top.table("accept"), top.table("minimum_source")
    policy = Policy(
        ek_roots=_certificates(trust, "ek_roots", read_file),
        registrars=_certificates(trust, "registrars", read_file),
        unsafe_accept_emulated_tpm=trust.flag("unsafe_accept_emulated_tpm"),
        unsafe_accept_unverified_boot=trust.flag("unsafe_accept_unverified_boot"),
        max_statement_age_s=times.seconds("max_statement_age_s", 3600),
        clock_skew_s=times.seconds("clock_skew_s", 60),
        accept={rule: _accepted(accept, rule) for rule in ACCEPT},
        pcrs=_pcrs(top),
        channel_origins=frozenset(channel.choices("origins", TLS_ORIGINS)),
        terminators=frozenset(_digest(channel, text) for text in channel.strings("terminator_spki_sha256")),
        lock=_lock(top),
        default_source=sources.source("default", Source.ENDORSED),
        minimum_source={name: sources.source(name, Source.ASSERTED) for name in CLAIMS if name in sources},
        waivers=_waivers(top),
        require=frozenset(top.choices("require", COVERAGE)) | {"instance"},
        digest=hashlib.sha256(data).digest(),
    )
    for table in (top, trust, times, channel, accept, sources):
        table.end()
    return policy


class _Table:
    """One TOML table; every key is read once, and what is left over refuses."""

    def __init__(self, value: object, name: str) -> None:
        self.name = name
        if not isinstance(value, dict):
            raise PolicyError("policy.value", f"{name} must be a table")
        self._rest: dict[str, Any] = dict(value)

    def __contains__(self, key: str) -> bool:
        return key in self._rest

    def wrong(self, key: str, what: str) -> PolicyError:
        return PolicyError("policy.value", f"{self._path(key)} {what}")

    def _path(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def end(self) -> None:
        if self._rest:
            names = ", ".join(sorted(self._path(key) for key in self._rest))
            raise PolicyError("policy.unknown_key", f"unknown keys: {names}")

    def take(self, key: str, default: Any) -> Any:
        return self._rest.pop(key, default)

    def table(self, key: str) -> _Table:
        return _Table(self.take(key, {}), self._path(key))

    def names(self) -> tuple[str, ...]:
        return tuple(self._rest)

    def is_any(self, key: str) -> bool:
        """Whether the rule says "any", which reads it."""
        return self._rest.get(key) == ANY and self._rest.pop(key) == ANY

    def limit(self, key: str) -> int | None:
        value = self.take(key, None)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            raise self.wrong(key, "must be an integer")
        return value

    def flag(self, key: str) -> bool:
        value = self.take(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, "must be true or false")
        return value

    def seconds(self, key: str, default: int) -> int:
        value = self.take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 10 * 366 * 86400:
            raise self.wrong(key, "must be a number of seconds from 0 to ten years")
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        value = self.take(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            raise self.wrong(key, "must be an array of strings")
        return tuple(value)

    def choices(self, key: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
        values = self.strings(key)
        if not set(values) <= set(allowed):
            raise self.wrong(key, f"may hold {', '.join(allowed)}")
        return values

    def source(self, key: str, default: Source) -> Source:
        value = self.take(key, default.value)
        if value not in [source.value for source in Source]:
            raise self.wrong(key, f"must be one of {', '.join(source.value for source in Source)}")
        return Source(value)


def _certificates(trust: _Table, key: str, read_file: Callable[[str], bytes]) -> tuple[x509.Certificate, ...]:
    found: list[x509.Certificate] = []
    for text in trust.strings(key):
        try:
            inline = text.lstrip().startswith("-----BEGIN ")
            found += x509.parse_many(text.encode("utf-8") if inline else read_file(text))
        except RluError as error:
            raise PolicyError("policy.certificate", f"{trust.name}.{key}: {error.message}") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a path"
            raise PolicyError("policy.certificate", f"{trust.name}.{key}: {text}: {reason}") from error
    return tuple(found)


def _accepted(accept: _Table, rule: str) -> Accepted:
    if accept.is_any(rule):
        return None
    values = frozenset(accept.strings(rule))
    if rule == "debug_states" and not values <= set(DEBUG_STATES):
        raise accept.wrong(rule, f"may hold {', '.join(DEBUG_STATES)}")
    if rule in ("models", "engine_arguments", "gateway_images"):
        for text in values:
            _digest(accept, text)
    return values


def _pcrs(top: _Table) -> Mapping[str, Mapping[int, frozenset[bytes]]] | None:
    if top.is_any("pcrs"):
        return None
    found: dict[str, Mapping[int, frozenset[bytes]]] = {}
    banks = top.table("pcrs")
    for bank in _PCR_BANKS:
        values = banks.table(bank)
        numbers = [number for number in _PCR_NUMBERS if number in values]
        found[bank] = {_PCR_NUMBERS[n]: _pcr_values(values, n, _PCR_BANKS[bank]) for n in numbers}
        values.end()
    banks.end()
    return {bank: values for bank, values in found.items() if values}


def _pcr_values(values: _Table, number: str, size: int) -> frozenset[bytes]:
    texts = values.strings(number)
    try:
        found = frozenset(bytes.fromhex(text) for text in texts)
    except ValueError:
        found = frozenset()
    if not found or any(len(value) != size for value in found):
        raise values.wrong(number, f"must be an array of values of {size} bytes in hexadecimal")
    return found


def _lock(top: _Table) -> Mapping[str, Mapping[str, Bound] | None]:
    found: dict[str, Mapping[str, Bound] | None] = {}
    lock = top.table("lock")
    for role in POSTURE_ROLES:
        if lock.is_any(role):
            found[role] = None
        elif role in lock:
            posture = lock.table(role)
            found[role] = {key: _bound(posture, key) for key in posture.names()}
    lock.end()
    return found


def _bound(posture: _Table, key: str) -> Bound:
    value = posture.take(key, None)
    if isinstance(value, dict):
        limits = _Table(value, f"{posture.name}.{key}")
        bound = Bound(at_least=limits.limit("at_least"), at_most=limits.limit("at_most"))
        limits.end()
        if bound != Bound():
            return bound
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(item, (bool, int, str)) for item in values):
        raise posture.wrong(
            key, "must be a boolean, integer or string, an array of them, or {at_least, at_most}"
        )
    return Bound(values=tuple(values))


def _waivers(top: _Table) -> Mapping[str, str]:
    entries = top.take("waive", [])
    if not isinstance(entries, list):
        raise top.wrong("waive", "must be an array of tables")
    found: dict[str, str] = {}
    for entry in entries:
        table = _Table(entry, "waive")
        step, reason = table.take("step", None), table.take("reason", None)
        table.end()
        if step not in WAIVABLE:
            raise table.wrong(
                "step", f"must be one of {', '.join(WAIVABLE)}: only checks that cannot be made are waived"
            )
        if not isinstance(reason, str) or not reason.strip():
            raise table.wrong("reason", "must say why")
        if step in found:
            raise table.wrong("step", f"waives {step} twice")
        found[step] = reason.strip()
    return found


def _digest(table: _Table, text: str) -> bytes:
    try:
        digest = unb64u(text)
    except RluError:
        digest = b""
    if len(digest) != 32:
        raise PolicyError("policy.value", f"{table.name}: {text} is not a SHA-256 digest in base64url")
    return digest
