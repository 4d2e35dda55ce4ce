"""Steps of bundles and of the policy: why each fails, and what to do. Hardware is in `hardware`."""

from __future__ import annotations

from typing import NamedTuple


class Text(NamedTuple):
    """Why something fails, beside its cause, and what to do."""

    fails: str
    remedy: str


_ASK_AGAIN = "Ask the server for it again; if it stays so, ask its operator, and do not use the instance."
_NONCE = "Verify the server online (`rlu verify URL`), or pass the nonce that you sent yourself (--nonce)."
_KEPT = "Take the bundle from whoever kept the contents; a policy may waive the step where nobody did."
_CHANGED = "Do not rely on these contents: they are not those that the gateway signed for."
_LOG = "Keep what you have, and ask the operator: a log that is signed twice in two ways was tampered with, or restored from a copy."
_POLICY = (
    "If what was found is what you want, add it to the policy after review; if not, do not use the instance."
)

TEXTS = {
    "statement.encoding": Text(
        "The statement was made by other software, or changed on the way.", _ASK_AGAIN
    ),
    "statement.signature": Text(
        "The statement was changed, or signed by another key than it names.", _ASK_AGAIN
    ),
    "statement.time": Text(
        "Statements live for minutes, so an old one says nothing about now.",
        "Ask for a fresh one; to judge an old bundle, pass the time it was made at by --as-of; check both clocks.",
    ),
    "statement.nonce": Text("Without a nonce of yours an old statement could be shown again.", _NONCE),
    "evidence.digest": Text("Evidence beside the statement was left out, added or exchanged.", _ASK_AGAIN),
    "evidence.encoding": Text(
        "The evidence cannot be read as its kind's specification gives it.",
        "Look at it with `rlu inspect`, and ask for it again.",
    ),
    "key.hardware": Text(
        "Nothing but the server's word protects the key.",
        "Use an instance with hardware; on a laptop, --insecure-accept-software-key makes it a waiver.",
    ),
    "endorsement.match": Text(
        "The place that the statement names is not the one that the registrar or the cloud signed.",
        "Correct the server's configuration, or have the machine endorsed again where it stands.",
    ),
    "channel": Text(
        "Whoever ends the connection can read it, and that is not surely the attested gateway.",
        "Connect without a proxy that opens TLS; name a terminator that you trust in the policy's [channel].",
    ),
    "continuity": Text(
        "The keys before this one did not name it; what holds the key is shown by its own evidence, with or without this.",
        "Ask the operator why the key changed; after a loss there is nobody to name the next one.",
    ),
    "log.heads": Text("A log only ever grows; this one has two histories.", _LOG),
    "log.cosignatures": Text(
        "A cosignature is not about this log, was not made by that witness, or its time contradicts the server's or the time given.",
        "Verify as of a time after the cosignature (--as-of), check the clocks, and take the cosignatures from the server anew; "
        "if it stays so, leave them out, and nothing proves the time.",
    ),
    "policy.witnesses": Text(
        "Fewer witnesses than the policy requires are shown to have seen every statement here in the log.",
        "Witnesses come by from time to time: ask for the cosignatures later, with proofs of consistency from the receipts' heads. "
        "A session that was opened just now has been seen by nobody: require witnesses of bundles, not of a running server.",
    ),
    "log.head": Text(
        "The head of the log is not signed by this instance, or does not cover what is here.", _ASK_AGAIN
    ),
    "session.inclusion": Text("The session is not in the log that the instance signed.", _ASK_AGAIN),
    "session.statement": Text("The session statement was made by other software, or changed.", _ASK_AGAIN),
    "session.instance": Text(
        "The session was opened by an instance in another state than the one attested here.",
        "Verify the session with the attestation of its own time.",
    ),
    "session.time": Text(
        "The session was not in force at the time of the check.", "Pass the time of the session by --as-of."
    ),
    "session.nonce": Text("Without a nonce of yours an old session could be shown again.", _NONCE),
    "session.channel": Text(
        "The session was opened for a gateway with another TLS key.",
        "Somebody may stand in between: verify the server again.",
    ),
    "session.commitment_key": Text(
        "Without the session's commitment key receipts cannot be held against contents.",
        "Take the bundle from the session's principal.",
    ),
    "session.opening": Text(
        "An implicit session is bound to its first request, which is another or not here.", _KEPT
    ),
    "receipt.inclusion": Text("The receipt is not in the log that the instance signed.", _ASK_AGAIN),
    "receipt.statement": Text("The receipt was made by other software, or changed.", _ASK_AGAIN),
    "receipt.session": Text(
        "The receipt belongs to another session.", "Take the receipts of this session only."
    ),
    "receipt.sequence": Text("Two receipts claim one number or one place in the log.", _LOG),
    "receipt.request": Text(
        "The request is not here, or is not the one that the gateway received.", _CHANGED
    ),
    "receipt.response": Text("The response is not here, or is not the one that the gateway sent.", _CHANGED),
    "receipt.forwarded": Text(
        "The gateway rewrote the request, and what the engine got is not here.",
        "The receipt names the fields that were rewritten; a policy may waive the step.",
    ),
    "close.inclusion": Text("The close is not in the log that the instance signed.", _ASK_AGAIN),
    "close.statement": Text("The close was made by other software, or changed.", _ASK_AGAIN),
    "close.session": Text("The close belongs to another session.", "Take the close of this session."),
    "close.running": Text(
        "The close counts other receipts than those that are here, or a request never got one.",
        "Take all receipts of the session; a gap can be the trace of a crash, or of something left out on purpose: ask the operator.",
    ),
    "policy.coverage": Text(
        "The policy's `require` demands more than the bundle holds; somebody may have cut it.",
        "Take a whole bundle, with session, receipts and close.",
    ),
    "policy.tpm": Text(
        "Whoever runs an emulator can read its keys.",
        "Use a machine with a TPM; for tests, trust.unsafe_accept_emulated_tpm makes it a waiver.",
    ),
    "policy.tee": Text(
        "The TEE runs with a setting that lets others look in, move it, or go back to old firmware.",
        "Have it started without; what you accept all the same, name in [tee] accept.",
    ),
    "policy.tcb": Text(
        "The firmware under the TEE is older than the policy demands, or the vendor has something against it.",
        "Have the firmware updated; what you accept, write into [tcb.<kind>].",
    ),
    "policy.measurements": Text(
        "Other software was launched than the policy names.",
        "Compare with the release you expect; `rlu policy init --from EVIDENCE` writes reference values for review.",
    ),
    "policy.pcrs": Text(
        "The platform started in another state than the policy names, such as after an update.",
        "Compare with the release you expect; `rlu policy init --from EVIDENCE` writes reference values for review.",
    ),
    "policy.profile": Text(
        "Evidence and GPUs are not those that the stated hardware profile promises.",
        "Correct the profile in the server's configuration, or describe the machine under [profiles] in the policy.",
    ),
    "policy.gpu": Text("GPUs, their number, memory or versions are not what the policy names.", _POLICY),
    "policy.key": Text(
        "The key is revoked, or older than keys may get: they are rotated each quarter. Or it was made after the time of the check, "
        "says the server.",
        "Have the server's key rotated, or its clock set; never take a revoked key off the list again.",
    ),
    "policy.session": Text(
        "The session is older than the policy accepts.",
        "Open a new session, or raise time.max_session_age_s.",
    ),
    "policy.debug": Text(
        "A platform that can be debugged can be read by whoever debugs it.",
        'Have it started without debugging. A TPM alone proves nothing about it: then [accept] debug_states must hold "enabled".',
    ),
    "policy.model_signer": Text(
        "The policy names who may sign models, and the statement says of one that it was not verified, or signed by another key.",
        'Have the operator serve the signed model with [model] signature = "required"; or add the key id that rlu model verify prints.',
    ),
    "policy.canary": Text(
        "The policy demands a canary test of this server, and the statement names none, an older one, or one that found something.",
        "Have the operator run rlu selftest canary and sign its findings; ask for the report, and read what was not searched.",
    ),
    "policy.boot": Text(
        "The attestor could not tell that verified boot is on.",
        "Turn on secure boot; trust.unsafe_accept_unverified_boot makes it a waiver.",
    ),
    "policy.channel": Text("The TLS key was born where the policy does not accept it.", _POLICY),
    "policy.lock": Text(
        "A process is locked less than the policy demands, or does not say.",
        "The detail names process and key; server/DESIGN.md says what each means.",
    ),
    "policy.sources": Text(
        "What only the server says counts less than what hardware, a measurement or a registrar says.",
        "Name measurements or have it endorsed; or lower [minimum_source] for that claim, knowing what it means.",
    ),
    **{
        f"policy.{rule}": Text(f"The {what} is not one that the policy names.", _POLICY)
        for rule, what in {
            "hardware_profile": "hardware profile",
            "region": "region",
            "boundary": "boundary",
            "site": "site",
            "model": "model",
            "engine": "engine, its version or its arguments",
            "gateway": "gateway, its version or its image",
        }.items()
    },
}
"""Step → why it fails beside its cause, and what to do."""
