"""The kernel's list of what it measured while the system ran (Linux, `security/integrity/ima`), read.

`parse` reads `binary_runtime_measurements` (little endian) and `ascii_runtime_measurements`, which hold the same. An entry's template data
is what was measured; the list names its SHA-1 digest, which must be that of the data. An entry whose digest is zero is a *violation* (a
file was open for writing while it was measured): nothing it says is proved, not even the file's name.

Not done here: signatures in the list (`sig`) are not verified; lists of one bank (`…_measurements_sha256`) are not read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rlu_attestation.cursor import Cursor
from rlu_attestation.errors import Malformed, Unsupported

PCR = 10
MAX_LOG = 4 * 1024 * 1024
MAX_ENTRIES = 64 * 1024
_CODE = "tpm2.ima_log"
_ORIGINAL = "ima"
_TEMPLATES: Mapping[str, tuple[str, ...]] = {
    _ORIGINAL: ("d", "n"),
    "ima-ng": ("d-ng", "n-ng"),
    "ima-sig": ("d-ng", "n-ng", "sig"),
    "ima-ngv2": ("d-ngv2", "n-ng"),
    "ima-sigv2": ("d-ngv2", "n-ng", "sig"),
    "ima-buf": ("d-ng", "n-ng", "buf"),
}
"""Fields by template (`ima_template.c`)."""
_SHA1_SIZE = 20
_NAME_SIZE = 256
"""Bytes of the zero-padded name in the digest of the template `ima` (IMA_EVENT_NAME_LEN_MAX + 1)."""
_PCRS = 24
_MAX_NAME, _MAX_DATA = 16, 64 * 1024
_SIZES = {
    "md5": 16,
    "sha1": 20,
    "sha224": 28,
    "sha256": 32,
    "sha384": 48,
    "sha512": 64,
    "sm3": 32,
    "sm3-256": 32,
}


@dataclass(frozen=True, slots=True)
class ImaEntry:
    """One measurement.

    Attributes:
        template: such as `ima-ng`.
        algorithm: of the file's digest, such as `sha256`; `ima-ngv2` also names what was hashed, as in `verity:sha256`.
        digest: of the file or buffer, as the kernel computed it.
        name: the file's path, or the kernel's name for what it measured; spaces are underscores there.
        signature: of the file, not verified; empty without.
        buffer: what was measured, for `ima-buf`; empty for files.
        violation: the measurement could not be made; digest and name are nobody's word.
        hashed: the bytes whose digest extends the PCR.
    """

    template: str
    algorithm: str
    digest: bytes
    name: str
    signature: bytes
    buffer: bytes
    violation: bool
    hashed: bytes


@dataclass(frozen=True, slots=True)
class ImaLog:
    """A list. Both forms of one list are equal.

    Attributes:
        ends: where in the bytes that were read each entry ends, so that whoever holds them can cut them.
    """

    entries: tuple[ImaEntry, ...]
    ends: tuple[int, ...] = field(compare=False)


def parse(data: bytes) -> ImaLog:
    """Read a list in either form.

    Raises:
        Malformed: `tpm2.ima_log`; among others when an entry's digest is not that of its data.
        Unsupported: `tpm2.ima_log` for other templates and PCRs.
    """
    cursor = Cursor(data, _CODE, MAX_LOG)
    binary = data[:4] == PCR.to_bytes(4, "little")
    return _binary(cursor) if binary else _ascii(data)


# --- binary ---------------------------------------------------------------------------------------------------------------


def _binary(cursor: Cursor) -> ImaLog:
    entries: list[ImaEntry] = []
    ends: list[int] = []
    while cursor.remaining:
        _bounded(entries)
        entries.append(_binary_entry(cursor))
        ends.append(cursor.position)
    return ImaLog(tuple(entries), tuple(ends))


def _binary_entry(cursor: Cursor) -> ImaEntry:
    _only_ours(cursor.u32_le("pcr"))
    listed = cursor.take(_SHA1_SIZE, "template digest")
    template = _text(cursor.take(_size(cursor, "template name", _MAX_NAME), "template name"))
    fields = _fields_of(template)
    if template == _ORIGINAL:
        digest = cursor.take(_SHA1_SIZE, "d")
        name = cursor.take(_size(cursor, "n", _NAME_SIZE - 1), "n")
        return _entry(template, [digest, name + b"\0"], listed)
    data = cursor.take(_size(cursor, "template data", _MAX_DATA), "template data")
    body = Cursor(data, _CODE, _MAX_DATA)
    values = [body.take(_size(body, field, _MAX_DATA), field) for field in fields]
    body.end()
    return _entry(template, values, listed)


def _size(cursor: Cursor, field: str, most: int) -> int:
    size = cursor.u32_le(f"length of {field}")
    if size > most:
        raise cursor.malformed(f"{field} has {size} bytes, at most {most} are allowed")
    return size


# --- text -----------------------------------------------------------------------------------------------------------------


def _ascii(data: bytes) -> ImaLog:
    if not data.endswith(b"\n"):
        raise Malformed(_CODE, "neither a binary list nor complete lines of text")
    entries: list[ImaEntry] = []
    ends: list[int] = []
    end = 0
    for line in data[:-1].split(b"\n"):
        _bounded(entries)
        entries.append(_ascii_entry(line.decode("utf-8", "surrogateescape")))
        end += len(line) + 1
        ends.append(end)
    return ImaLog(tuple(entries), tuple(ends))


def _ascii_entry(line: str) -> ImaEntry:
    number, _, rest = line.partition(" ")
    if len(number) != 2 or not number.isascii() or not number.isdecimal():
        raise Malformed(_CODE, "a line does not begin with the number of a PCR")
    _only_ours(int(number))
    text, _, rest = rest.partition(" ")
    listed = _hex(text)
    if len(listed) != _SHA1_SIZE:
        raise Malformed(_CODE, f"a template digest has {_SHA1_SIZE} bytes")
    template, *values = rest.split(" ")
    fields = _fields_of(template)
    if len(values) != len(fields):
        raise Malformed(_CODE, "a line does not have the fields of its template")
    return _entry(template, [_raw(field, value) for field, value in zip(fields, values, strict=True)], listed)


def _raw(field: str, value: str) -> bytes:
    """A field's bytes as in the binary list."""
    if field in ("n", "n-ng"):
        return value.encode("utf-8", "surrogateescape") + b"\0"
    if field in ("d-ng", "d-ngv2"):
        algorithm, _, digest = value.rpartition(":")
        return f"{algorithm}:".encode("utf-8", "surrogateescape") + b"\0" + _hex(digest)
    return _hex(value)


def _hex(text: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError as error:
        raise Malformed(_CODE, "a digest or signature is not hexadecimal") from error
    if data.hex() != text:
        raise Malformed(_CODE, "a digest or signature is not in lower-case hexadecimal")
    return data


# --- both -----------------------------------------------------------------------------------------------------------------


def _bounded(entries: Sequence[ImaEntry]) -> None:
    if len(entries) == MAX_ENTRIES:
        raise Malformed(_CODE, f"more than {MAX_ENTRIES} entries")


def _only_ours(pcr: int) -> None:
    if pcr >= _PCRS:
        raise Malformed(_CODE, "an entry is for a PCR that does not exist")
    if pcr != PCR:
        raise Unsupported(_CODE, f"an entry is for PCR {pcr}; only PCR {PCR} is read here")


def _fields_of(template: str) -> tuple[str, ...]:
    fields = _TEMPLATES.get(template)
    if fields is None:
        raise Unsupported(_CODE, "an entry's template is not supported here")
    return fields


def _entry(template: str, fields: Sequence[bytes], listed: bytes) -> ImaEntry:
    algorithm, digest = _file_digest(template, fields[0])
    name = fields[1]
    if len(name) < 2 or name.find(b"\0") != len(name) - 1 or b" " in name:
        raise Malformed(_CODE, "a name is empty, holds a space, or does not end in its only zero byte")
    if template == _ORIGINAL:
        if len(name) > _NAME_SIZE:
            raise Malformed(_CODE, f"a name of the template ima has at most {_NAME_SIZE - 1} bytes")
        hashed = digest + name.ljust(_NAME_SIZE, b"\0")
    else:
        hashed = b"".join(len(field).to_bytes(4, "little") + field for field in fields)
    violation = not any(listed)
    if violation and any(digest):
        raise Malformed(_CODE, "a violation has no digest of a file")
    if not violation and hashlib.sha1(hashed).digest() != listed:  # noqa: S324 - the list's own form; banks have their own digests
        raise Malformed(_CODE, "an entry's digest is not that of its data")
    further = dict(zip(_TEMPLATES[template][2:], fields[2:], strict=True))
    return ImaEntry(
        template=template,
        algorithm=algorithm,
        digest=digest,
        name=_text(name[:-1]),
        signature=further.get("sig", b""),
        buffer=further.get("buf", b""),
        violation=violation,
        hashed=hashed,
    )


def _file_digest(template: str, field: bytes) -> tuple[str, bytes]:
    """Algorithm and digest; `algorithm:` and a zero byte come before the digest, but not in the template `ima`."""
    if template == _ORIGINAL:
        algorithm, digest = "sha1", field
    else:
        head, _, digest = field.partition(b":\0")
        algorithm = _text(head)
    kind, _, hash_name = algorithm.rpartition(":")
    if kind not in (("ima", "verity") if template.endswith("v2") else ("",)):
        raise Malformed(_CODE, "a digest does not say of what it is")
    if len(digest) != _SIZES.get(hash_name):
        raise Malformed(_CODE, "a file's digest is of an unknown algorithm, or has not its size")
    return algorithm, digest


def _text(data: bytes) -> str:
    """For people and for comparing; a file's name need not be UTF-8."""
    return data.decode("utf-8", "backslashreplace")
