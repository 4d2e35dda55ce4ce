"""`rlu cluster licence`: the vendor is asked by a job, and the serving pods, which have no way out, see what he said."""

from __future__ import annotations

import secrets
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from rlu_attestation.client import Client
from rlu_attestation.errors import Refused, RluError
from rlu_server.cli.cluster_account import (
    CaOption,
    InstanceOption,
    MapOption,
    NamespaceOption,
    ServerOption,
    TokenOption,
    api_of,
    refusals,
)
from rlu_server.cluster import labeller, publish
from rlu_server.licence import online
from rlu_server.licence.document import GOOD
from rlu_server.licence.place import Place, Unusable, place_of
from rlu_server.outreach.key_sets import put
from rlu_server.outreach.letters import Mailbox
from rlu_server.settings import SettingsError, load

ANSWER = "answer.jws"


def licence(
    instance: InstanceOption,
    configmap: MapOption,
    config: Annotated[
        Path | None, typer.Option("--config", envvar="RLU_CONFIG", help="rlu.toml.", show_default=False)
    ] = None,
    namespace: NamespaceOption = "",
    api_server: ServerOption = "",
    api_ca: CaOption = None,
    api_token: TokenOption = None,
) -> None:
    """Ask the vendor whether the licence is good, as `rlu licence validate`, and put the answer into a ConfigMap that the attestors mount.

    Sends the licence's id and each instance's statement. Of several answers a withdrawal counts, else the latest; where nothing was
    answered, what was published stays. What leaves is printed on standard error. Exit codes: 0 good; 2 not configured; else the worst of 3
    somebody did not answer, 10 withdrawn, not the vendor's answer, or the API server said no, 30 an answer is damaged.
    """
    with refusals(), tempfile.TemporaryDirectory() as scratch:
        try:
            settings = load(config)
        except SettingsError as error:
            raise Unusable("licence.settings", str(error)) from error
        configured, url = place_of(settings), settings.licence.validation_url
        if configured is None or not url:
            raise Unusable("licence.none", "set [licence] file and validation_url; nothing was sent")
        api = api_of(("publish",), namespace, api_server, api_ca, api_token)
        held = publish.published(api, configmap, publish.TEXT)
        # An answer that is older than the published one does not take its place.
        place = replace(configured, answer=Path(scratch, ANSWER))
        if ANSWER in held:
            put(place.answer, held[ANSWER])
        mailbox = Mailbox("licence", url, settings.licence.proxy, settings.licence.ca_file, journal=None)
        said: list[online.Said] = []
        codes = [0]
        for number, address in enumerate(instance):
            event = "instance_skipped"
            try:
                statement = _statement(address)
                event = "vendor_skipped"
                one = _ask(place, statement, mailbox)
            except RluError as refusal:
                labeller.say(event, instance=number, code=refusal.code)
                codes.append(refusal.exit_code)
                continue
            said.append(one)
            labeller.say("licence_answered", instance=number, status=one.answer.status)
        chosen = online.decisive(said)
        if chosen is not None:
            before = {name: data for name, data in held.items() if name == ANSWER}
            changed = publish.publish(api, configmap, {ANSWER: chosen.text}, before, publish.TEXT)
            labeller.say("licence_published", status=chosen.answer.status, changed=changed)
            codes.append(0 if chosen.answer.status == GOOD else Refused.exit_code)
    raise typer.Exit(max(codes))


def _statement(address: str) -> str:
    with Client(address) as client:
        return client.attestation(secrets.token_bytes(32)).statement


def _ask(place: Place, statement: str, mailbox: Mailbox) -> online.Said:
    now = int(time.time())
    try:
        return online.ask(place, statement, lambda data: mailbox.post(data, "application/json", now), now)
    except OSError as error:
        raise Unusable("licence.file", f"cannot use {error.filename}: {error.strerror}") from error
