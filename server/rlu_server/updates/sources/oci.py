"""An artefact in an OCI registry: a manifest whose layers are the model's files, named by `org.opencontainers.image.title`.

That is what `oras push registry/name:tag FILE ...` makes. Of the OCI Distribution Specification 1.1: manifests and blobs by GET, ranges of
blobs, Basic and Bearer authentication (the token service has to be an allowed host). Not here: indexes, layers that are archives.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from rlu_server.outreach.download import Answer, Reach
from rlu_server.updates.addresses import Artefact
from rlu_server.updates.errors import NotPossible, UpdateRefused
from rlu_server.updates.sources.source import Absent
from rlu_server.updates.sources.web import WebStream, check, stream

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
TITLE = "org.opencontainers.image.title"
UNPACK = "io.deis.oras.content.unpack"
MAX_MANIFEST = 16 << 20
MAX_TOKEN = 64 << 10
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class OciSource:
    """Reads the manifest once, with the first question."""

    def __init__(self, reach: Reach, artefact: Artefact, username: str = "", password: str = "") -> None:
        self._reach = reach
        self._artefact = artefact
        self._basic = ""
        if username:
            self._basic = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode("ascii")
        self._authorization = ""
        self._blobs: Mapping[str, tuple[str, int]] | None = None

    def size(self, path: str) -> int:
        return self._blob(path)[1]

    @contextlib.contextmanager
    def open(self, path: str, start: int = 0) -> Iterator[WebStream]:
        digest, _ = self._blob(path)
        with self._get(
            self._artefact.url("blobs", digest), {"Range": f"bytes={start}-"} if start else {}
        ) as answer:
            yield stream(answer, path, start)

    def _blob(self, path: str) -> tuple[str, int]:
        if self._blobs is None:
            self._blobs = self._manifest()
        if path not in self._blobs:
            raise Absent("update.absent", f"the artefact has no layer that is called {path}")
        return self._blobs[path]

    def _manifest(self) -> Mapping[str, tuple[str, int]]:
        reference = self._artefact.reference
        with self._get(self._artefact.url("manifests", reference), {"Accept": MANIFEST}) as answer:
            check(answer, f"{self._artefact.name} {reference}")
            data = answer.whole(MAX_MANIFEST)
        if _DIGEST.fullmatch(reference) and hashlib.sha256(data).hexdigest() != reference[7:]:
            raise UpdateRefused("update.tampered", "the registry gives another manifest than the one named")
        return layers(data)

    @contextlib.contextmanager
    def _get(self, url: str, headers: Mapping[str, str]) -> Iterator[Answer]:
        with self._reach.ask("GET", url, self._with(headers)) as answer:
            if answer.status != 401 or self._authorization:
                yield answer
                return
            challenge = answer.headers.get("WWW-Authenticate", "")
        self._authorization = self._answer_to(challenge)
        with self._reach.ask("GET", url, self._with(headers)) as answer:
            yield answer

    def _with(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        return {**headers, "Authorization": self._authorization} if self._authorization else headers

    def _answer_to(self, challenge: str) -> str:
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic" and self._basic:
            return self._basic
        parameters = dict(_PARAMETER.findall(rest))
        if kind.lower() != "bearer" or "realm" not in parameters:
            raise NotPossible(
                "update.forbidden", "the registry wants credentials; give them ([update] credentials)"
            )
        asked = {name: parameters[name] for name in ("service", "scope") if name in parameters}
        url = f"{parameters['realm']}?{urlencode(asked)}"
        given = {"Authorization": self._basic} if self._basic else {}
        with self._reach.ask("GET", url, given, follow=False) as answer:
            check(answer, "a token")
            data = answer.whole(MAX_TOKEN)
        try:
            document = json.loads(data)
            token = document.get("token") or document["access_token"]
        except (ValueError, KeyError, AttributeError, RecursionError):
            token = None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise NotPossible("update.token", "the registry's token service gave no token")
        return f"Bearer {token}"


def layers(data: bytes) -> dict[str, tuple[str, int]]:
    """Title of each layer to its digest and size. Raises UpdateRefused (`update.artefact`)."""
    try:
        document: Any = json.loads(data)
        found: dict[str, tuple[str, int]] = {}
        for layer in document["layers"]:
            annotations = layer.get("annotations") or {}
            title, digest, size = annotations[TITLE], layer["digest"], layer["size"]
            fits = isinstance(title, str) and isinstance(digest, str) and type(size) is int and size >= 0
            if (
                not fits
                or not _DIGEST.fullmatch(digest)
                or title in found
                or annotations.get(UNPACK) == "true"
            ):
                raise ValueError
            found[title] = (digest, size)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UpdateRefused(
            "update.artefact",
            "the artefact is not one manifest whose layers are files with titles; push it with `oras push`, file by file",
        ) from error
    return found
