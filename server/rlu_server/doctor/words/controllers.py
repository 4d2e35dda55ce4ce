"""Why something of `rlu cluster` did not do what it is for, and why a node has no label."""

from __future__ import annotations

from rlu_attestation.codes.steps import Text

_ARGUMENT = "Correct the argument; the message says what it takes."
_RIGHTS = (
    "Compare the release's roles with `rlu cluster rights`; the admission policy of the release says no too."
)

CONTROLLERS = {
    "cluster.absent": Text("The node, pod or ConfigMap is not there.", "See the name; upgrade the release."),
    "cluster.address": Text("An address of the API server needs its CA and a token.", _ARGUMENT),
    "cluster.answer": Text("What answered is no API server.", "See what stands in front of it."),
    "cluster.conflict": Text(
        "Somebody else changed the object at the same moment.", "Nothing is to be done: it is tried again."
    ),
    "cluster.denied": Text("The API server does not allow it, or does not accept the token.", _RIGHTS),
    "cluster.fetch_late": Text(
        "Vendors or instances were so slow that time was up; what had come was published.",
        "Nothing, if the next run has the rest; else see which of them answers, and by which proxy, or give the job longer (`--within`).",
    ),
    "cluster.invalid": Text(
        "The API server finds the change invalid.", "See its log; this is a fault of ours."
    ),
    "cluster.jwks": Text("A key set takes the file's name and an address.", _ARGUMENT),
    "cluster.later": Text(
        "A disruption budget does not let the pod go now, or there are too many requests.",
        "Nothing is to be done: it is tried again. Bring the other instances up.",
    ),
    "cluster.profile": Text("No such profile is built in.", _ARGUMENT),
    "cluster.role": Text("No such role has rights.", _ARGUMENT),
    "cluster.status": Text(
        "The API server does not work as it should.", "See its health; it is tried again."
    ),
    "cluster.taint": Text("No such effect of a taint is known.", _ARGUMENT),
    "cluster.where": Text("Outside of a pod the namespace is not known.", _ARGUMENT),
    "lock.landlock": Text(
        "The kernel's Landlock has less than the lock is set to ask for: instances would not start.",
        "Use a later kernel, or lower `lock.minimum_landlock_abi`.",
    ),
    "node.changed": Text(
        "The node passes, but is another than was certified: GPUs, firmware, TPM or what the lock can do.",
        "Find out who changed it. Then accept it: remove the annotation `rlu-certified-record` from the node.",
    ),
    "publish.content": Text(
        "The ConfigMap holds what no job wrote.", "Remove its entries; the next run fills it again."
    ),
    "publish.size": Text(
        "What was fetched is more than a ConfigMap takes.",
        "Give the instances a Secret or a volume of your own.",
    ),
    "tpm.endorsement": Text(
        "The TPM does not say its EK certificate.",
        "See `rlu preflight` on the node, and the device plugin; another process may hold /dev/tpm0.",
    ),
}
