"""From `[update]` to a source that can be asked: its address, its credentials, and whom the job may reach."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from rlu_server.outreach.download import Reach
from rlu_server.outreach.http import trust
from rlu_server.outreach.letters import Crossing
from rlu_server.settings_boundary import Update
from rlu_server.updates import addresses, sigv4
from rlu_server.updates.errors import Misconfigured
from rlu_server.updates.sources.directory import DirectorySource
from rlu_server.updates.sources.oci import OciSource
from rlu_server.updates.sources.source import Source
from rlu_server.updates.sources.web import Signing, WebSource

JOB = "update"
MAX_CREDENTIAL = 16 << 10
CREDENTIALS = ("access_key_id", "secret_access_key", "session_token", "username", "password", "token")


def source_of(
    update: Update, note: Callable[[Crossing], None], clock: Callable[[], float] = time.time
) -> Source:
    """The source; nothing is asked yet.

    Raises:
        Misconfigured: `update.no_source`, `update.source`, `update.credentials`, `update.ca_file`.
    """
    if not update.source:
        raise Misconfigured("update.no_source", "there is no source of updates; set [update] source")
    address = addresses.parse(update.source, update.endpoint, update.region)
    if isinstance(address, addresses.Directory):
        return DirectorySource(Path(address.path))
    hosts = frozenset({addresses.own_host(address) or "", *update.allow})
    try:
        context = trust(update.ca_file)
    except OSError as error:
        raise Misconfigured(
            "update.ca_file", f"{update.ca_file} cannot be read, or holds no CAs: {error.strerror or error}"
        ) from error
    reach = Reach(JOB, hosts, context, update.proxy, note, clock)
    given = credentials(update.credentials)
    if isinstance(address, addresses.Artefact):
        return OciSource(reach, address, given.get("username", ""), given.get("password", ""))
    if isinstance(address, addresses.Bucket):
        return WebSource(reach, address.url, _signing(address.region, given, clock), follow=False)
    token = given.get("token", "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return WebSource(reach, address.url, lambda _method, _url: headers)


def credentials(directory: Path | None) -> Mapping[str, str]:
    """What is in the files of that directory; each may be left out. Raises Misconfigured (`update.credentials`)."""
    if directory is None:
        return {}
    found: dict[str, str] = {}
    for name in CREDENTIALS:
        try:
            with (directory / name).open("rb") as file:
                text = file.read(MAX_CREDENTIAL).decode("ascii").strip()
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise Misconfigured("update.credentials", f"{directory / name} cannot be read") from error
        if not text.isprintable():
            raise Misconfigured("update.credentials", f"{directory / name} is not one line")
        found[name] = text
    if not found:
        raise Misconfigured(
            "update.credentials", f"{directory} has none of the files {', '.join(CREDENTIALS)}"
        )
    return found


def _signing(region: str, given: Mapping[str, str], clock: Callable[[], float]) -> Signing:
    if "access_key_id" not in given:
        return lambda _method, _url: {}
    if "secret_access_key" not in given:
        raise Misconfigured("update.credentials", "access_key_id is there, and secret_access_key is not")
    keys = sigv4.Credentials(
        given["access_key_id"], given["secret_access_key"], given.get("session_token", "")
    )
    return lambda method, url: sigv4.headers(method, url, keys, region, int(clock()))
