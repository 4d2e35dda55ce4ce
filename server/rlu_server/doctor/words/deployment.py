"""Findings of `rlu doctor` about a deployment on this machine."""

from __future__ import annotations

from rlu_attestation.codes.steps import Text

FINDINGS = {
    "deployment.settings": Text(
        "The configuration must be accepted before anything else.", "Correct what the message names."
    ),
    "deployment.unsafe": Text(
        "A setting that weakens what is promised is in force; statements say so.",
        "Take it out, unless this is a trial.",
    ),
    "deployment.state": Text(
        "Key, enrolment and log are in the state directory.",
        "Correct its owner; never delete it to get a start.",
    ),
    "deployment.disk": Text(
        "The log is written to the disk before anything is released.",
        "Make room, or export and move old logs.",
    ),
    "deployment.enrolment": Text(
        "A registrar's certificate for the AK ends.", "Enrol again: `rlu keys register`, or by files."
    ),
    "deployment.collateral": Text(
        "Pieces of collateral answer for a time only.",
        "Fetch them anew: `rlu collateral fetch --for-attestor`.",
    ),
    "deployment.files": Text(
        "Files that the configuration names must be there and of their form.",
        "Correct what the message names.",
    ),
    "deployment.runtime": Text(
        "A server that runs has a runtime directory in memory.", "Start it: `rlu serve`."
    ),
    "deployment.attestor": Text(
        "Without its attestor a server opens no session.",
        "Look at its events: `attestor.refused_to_start`, `attestor.exited`.",
    ),
    "deployment.engine": Text(
        "Each engine has a socket when it is ready.",
        "Look at its events: `engine.exited`, `engine.start_failed`, `engine.out-of-memory`.",
    ),
    "deployment.posture": Text(
        "What a process measured of its lock, where it is weaker than it could be.",
        "See `[lock]`: users of their own, namespaces, no swap.",
    ),
    "deployment.gateway": Text(
        "The gateway answers on its port, last of all.",
        "Ask `/readyz`, which gives every reason by its code.",
    ),
    "deployment.port": Text(
        "Another program has the gateway's port.", "Find it, or set another `[gateway] port`."
    ),
}
