"""Every code and event of the server in words: data and nothing else, so that `rlu explain` has them in any installation.

Whoever adds a code, an event or a finding to the server adds its text here; tests/server/doctor/test_words.py looks for those that are
missing, and for those that nothing raises any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rlu_attestation.codes.steps import Text
from rlu_server.doctor.words.attestor import ATTESTOR, GATEWAYS_PROOF
from rlu_server.doctor.words.cluster import FINDINGS as CLUSTER
from rlu_server.doctor.words.cluster import POD_STATES
from rlu_server.doctor.words.commands import COMMANDS
from rlu_server.doctor.words.deployment import FINDINGS as DEPLOYMENT
from rlu_server.doctor.words.events import OF_THE_ATTESTOR, OF_THE_ENGINE, OF_THE_GATEWAY, OF_THE_SUPERVISOR
from rlu_server.doctor.words.gateway import REFUSALS
from rlu_server.doctor.words.inner import INNER
from rlu_server.doctor.words.machine import FINDINGS as MACHINE
from rlu_server.doctor.words.models import TLS, UPDATES
from rlu_server.doctor.words.processes import EXITS, STARTING
from rlu_server.doctor.words.weights import WEIGHTS


@dataclass(frozen=True, slots=True)
class Group:
    """Codes that are met in the same place.

    Attributes:
        title: what they are.
        looks: where and how an operator or a client meets them.
    """

    title: str
    looks: str
    texts: Mapping[str, Text]


GROUPS = (
    Group(
        "a refusal of the gateway",
        "the body of an HTTP error, /readyz, the events request_refused and exchange_failed, traces",
        REFUSALS,
    ),
    Group(
        "why the attestor does not start, sign or rotate",
        "`code` of the attestor's events; the message of `rlu keys` and of the attestor's commands",
        ATTESTOR,
    ),
    Group(
        "an answer of the attestor that the gateway does not believe",
        "`code` of the event attestor_untrusted",
        GATEWAYS_PROOF,
    ),
    Group("an event of the attestor", "a JSON line of the attestor's", OF_THE_ATTESTOR),
    Group("an event of the gateway", "a JSON line of the gateway's", OF_THE_GATEWAY),
    Group("an event of the supervisor", "a JSON line of `rlu serve`", OF_THE_SUPERVISOR),
    Group("an event made of the engine's output", "a JSON line; vLLM's own text is withheld", OF_THE_ENGINE),
    Group(
        "why a version of a model is not fetched or not served",
        "`code` of the events model.refused, model.switch_failed and update.failed; `rlu update status`",
        UPDATES,
    ),
    Group("TLS files that are not taken", "`code` of the event certificate_refused", TLS),
    Group("a word in an event", "`code` of the gateway's and the attestor's events", INNER),
    Group("why `rlu serve` ended", "the event `refused`, and the line after it", STARTING),
    Group("an exit code", "a process or container that ended; `status` of the events …exited", EXITS),
    Group("a finding about a deployment", "`rlu doctor`", DEPLOYMENT),
    Group("the state of a pod", "a finding of `rlu doctor --cluster`", POD_STATES),
    Group("a finding about the cluster", "`rlu preflight --cluster`", CLUSTER),
    Group("a finding about the node", "`rlu preflight`, `rlu doctor`", MACHINE),
    Group(
        "an encrypted model, or its key broker",
        "the message of `rlu serve`, `rlu model` and `rlu broker`; `code` of the broker's answers and events, of weights.refused",
        WEIGHTS,
    ),
    Group("why a command did nothing", "the message of the command", COMMANDS),
)
