"""The values: which server, and what one client needs for it."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath
from urllib.parse import urlsplit

from rlu_attestation.clients.errors import Unusable

MAX_NAME = 256
"""Characters of a model's name; the server's own limit for aliases."""
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Server:
    """A server as its clients are to know it.

    Attributes:
        url: its root, without `/v1` and without a slash at the end.
        key_variable: the environment variable that holds the API key.
        model: what clients ask for.
        small_model: the same for quick, cheap tasks.
        ca_file: certificate to trust, None where the system's roots do.
        context_window: tokens that the model takes, if that is known.
    """

    url: str
    key_variable: str
    model: str
    small_model: str
    ca_file: PurePath | None = None
    context_window: int | None = None

    def __post_init__(self) -> None:
        check_url(self.url)
        check_variable(self.key_variable)
        for name in (self.model, self.small_model):
            if not name or not name.isprintable() or len(name) > MAX_NAME:
                raise Unusable(
                    "clients.model", f"a model has a printable name of at most {MAX_NAME} characters"
                )

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"

    def trust(self, variable: str) -> dict[str, str]:
        """The variable that makes a client trust the server's certificate, where one is needed."""
        return {} if self.ca_file is None else {variable: str(self.ca_file)}


@dataclass(frozen=True, slots=True)
class File:
    """A text file; `name` is relative to the client's own directory."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Setup:
    """What one client needs.

    Attributes:
        files: with their text complete.
        environment: variables to export, beside the one that holds the key.
        command: what to run then; `{directory}` stands for where the files are.
        install: how to get the client.
    """

    files: tuple[File, ...]
    environment: dict[str, str]
    command: tuple[str, ...]
    install: str
    unset: tuple[str, ...] = ()
    """Variables that would win over the files, and lead elsewhere or show another service's key to the server."""


Client = Callable[[Server], Setup]
"""What each client's module offers."""


def check_variable(name: str) -> None:
    """Refuse what is no name of a variable: it may be the key itself, which must not get into a file.

    Raises:
        Unusable: `clients.variable`.
    """
    if not VARIABLE.fullmatch(name) or name.startswith("rlu_local_") or re.match(r"rlu_[0-9a-f]{16}_", name):
        raise Unusable(
            "clients.variable", "--key-variable is the name of a variable, such as RLU_API_KEY; never the key"
        )


def root_of(url: str) -> str:
    """The server's root: a `/v1` or a slash at the end is what people paste, and is left off."""
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def check_url(url: str) -> None:
    """Refuse what cannot be a server's root, or would carry the key in clear over a network.

    Raises:
        Unusable: `clients.url`.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises if it is none
    except ValueError:
        parts = urlsplit("")
    plain = parts.scheme == "http" and _loopback(parts.hostname or "")
    strange = not url.isprintable() or '"' in url or "'" in url or " " in url
    if (
        not parts.hostname
        or parts.username
        or parts.query
        or parts.fragment
        or strange
        or not (plain or parts.scheme == "https")
    ):
        raise Unusable(
            "clients.url",
            "expected the root of a server, such as https://rlu.example:8443; http only for `rlu connect` on this machine",
        )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def quoted(text: str) -> str:
    """A string as JSON, TOML, Python and JavaScript all write it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
