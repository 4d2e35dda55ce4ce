"""Short words that stand as `code` in an event, where no error has a code of its own."""

from __future__ import annotations

from rlu_attestation.codes.steps import Text

_VERSIONS = "See that gateway and attestor are of one version; if they are, report it."

INNER = {
    "absent": Text(
        "The file that the event names is not there.",
        "Put it there; what it had brought in before stays in force.",
    ),
    "aliases": Text(
        "Two models of the settings are known by one name.",
        "Correct `[model.aliases]`, or the names of further engines.",
    ),
    "drain_timeout": Text(
        "The drain was over before the attestor had taken every receipt.",
        "Raise `[gateway] drain_timeout_s`, and the pod's grace with it.",
    ),
    "ended_by_attestor": Text(
        "The attestor closed the session: a change, a drift, a rotation.",
        "See the attestor's events at that time.",
    ),
    "hello_required": Text("The attestor was asked before it was greeted.", _VERSIONS),
    "loop": Text("A task of the gateway's failed, and nobody waited for it.", "Report it, with the version."),
    "malformed": Text("A message between gateway and attestor is not of the protocol.", _VERSIONS),
    "no_answer": Text(
        "The attestor did not answer the gateway in time.",
        "See the attestor's events; is its TPM slow, or its disk?",
    ),
    "posture": Text(
        "A worker measured a weaker lock than the gateway stated.",
        "Restart the server; then run `rlu preflight`.",
    ),
    "runtime_dir": Text(
        "The process was not told where the runtime directory is.", "Start it by `rlu serve`."
    ),
    "silent": Text("A worker did not say that it is there.", "See its events; is the machine overloaded?"),
    "unknown_exchange": Text(
        "The attestor does not know the exchange: it was restarted meanwhile.",
        "Nothing, once; the log shows the gap.",
    ),
    "unknown_session": Text(
        "The attestor does not know the session: it was restarted, or closed it.",
        "Nothing; clients open new ones.",
    ),
    "unreachable": Text(
        "The attestor's socket does not answer.",
        "See the attestor's events: `attestor.exited`, `attestor.refused_to_start`.",
    ),
    "unreadable": Text(
        "The file that the event names cannot be read.",
        "Correct its owner and mode; what it had brought in before stays in force.",
    ),
}
