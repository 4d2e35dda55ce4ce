"""`[update] source`, taken apart. Without I/O.

/mnt/models/qwen                   a directory on this machine
https://host/models/qwen/          files below an address
s3://bucket/prefix                 an S3-compatible service at `endpoint`
oci://registry/team/qwen:stable    an OCI artefact whose layers are files, as `oras push` makes them; or @sha256:…
hub://owner/name@revision          a repository on a hub, or on a mirror of it at `endpoint`
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from rlu_server.updates.errors import Misconfigured

HUB = "https://huggingface.co"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_OCI = re.compile(
    r"(?P<registry>[A-Za-z0-9.-]+(?::\d{1,5})?)/(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127})|@(?P<digest>sha256:[0-9a-f]{64}))"
)
_HUB = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})@(?P<revision>[\w./-]{1,128})")


@dataclass(frozen=True, slots=True)
class Directory:
    path: str


@dataclass(frozen=True, slots=True)
class Web:
    """Files at `base` and their path; a hub's repository is such a place too."""

    base: str
    """Ends with `/`."""

    def url(self, path: str) -> str:
        return self.base + quote(path, safe="/~")


@dataclass(frozen=True, slots=True)
class Bucket:
    endpoint: str
    bucket: str
    prefix: str
    """Empty, or ends with `/`."""
    region: str

    def url(self, path: str) -> str:
        """By path, which every service knows."""
        return f"{self.endpoint}/{self.bucket}/{quote(self.prefix + path, safe='/~')}"


@dataclass(frozen=True, slots=True)
class Artefact:
    endpoint: str
    name: str
    reference: str
    """A tag, or `sha256:` and a digest."""

    def url(self, kind: str, what: str) -> str:
        return f"{self.endpoint}/v2/{self.name}/{kind}/{what}"


Address = Directory | Web | Bucket | Artefact


def parse(source: str, endpoint: str = "", region: str = "us-east-1") -> Address:
    """What a source is.

    Args:
        endpoint: where an S3 service or a mirror is, and a registry that is not at its own name; empty: the usual place.

    Raises:
        Misconfigured: `update.source`.
    """
    scheme, separator, rest = source.partition("://")
    given = endpoint.rstrip("/")
    if not separator and source.startswith("/"):
        return Directory(source)
    if separator and scheme in ("https", "http") and not urlsplit(source).query:
        return Web(source if source.endswith("/") else f"{source}/")
    if separator and scheme == "s3":
        bucket, _, prefix = rest.partition("/")
        if _BUCKET.fullmatch(bucket):
            prefix = prefix.strip("/")
            usual = f"https://s3.{region}.amazonaws.com"
            return Bucket(given or usual, bucket, f"{prefix}/" if prefix else "", region)
    if separator and scheme == "oci" and (found := _OCI.fullmatch(rest)):
        return Artefact(
            given or f"https://{found['registry']}", found["name"], found["tag"] or found["digest"]
        )
    if separator and scheme == "hub" and (found := _HUB.fullmatch(rest)):
        return Web(f"{given or HUB}/{found['name']}/resolve/{quote(found['revision'], safe='')}/")
    raise Misconfigured(
        "update.source",
        f"{source!r} is no source: give /directory, https://…, s3://bucket/prefix, oci://registry/name:tag or hub://owner/name@revision "
        "([update] source)",
    )


def host(url: str) -> str:
    """`host:port` of an address."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def own_host(address: Address) -> str | None:
    """The one host that a source is at; others have to be allowed. None: it is on this machine."""
    if isinstance(address, Directory):
        return None
    return host(address.base if isinstance(address, Web) else address.endpoint)


def usable(path: str) -> bool:
    """May a file of a model have this path? Relative, without `.` and `..`, and without anything that a path cannot be written with."""
    try:
        parts = [part.encode() for part in path.split("/")]
    except UnicodeEncodeError:
        return False
    return (
        len(path) <= 1024
        and "\0" not in path
        and all(0 < len(part) <= 255 for part in parts)
        and not {b".", b".."} & set(parts)
    )
