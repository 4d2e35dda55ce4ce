"""Encrypted models and their key broker (docs/broker.md): why weights were not sealed, opened or released."""

from __future__ import annotations

from rlu_attestation.codes.steps import Text

_COPY = "Copy the encrypted model again, from its vendor."
_VAULT = "Repair the file that the message names; until then no key of it is released."
_ASK_AGAIN = "Ask again: an instance takes a new challenge each time."
_ASKER = "Are instance and broker of one version?"
_POLICY = "Compare the code of each failed step with the policy; `rlu explain` has them in words."
_ARGUMENT = "Correct the argument; the message says what it takes."

WEIGHTS = {
    "broker.answer": Text(
        "What answered is no key broker, or hides its reason.", "See `[weights] broker` and the way there."
    ),
    "broker.busy": Text("Too many requests came to the broker within two minutes.", "Try again then."),
    "broker.challenge.expired": Text(
        "Two minutes went by between the broker's challenge and the request.",
        "Try again; if it happens each time, see how long the device takes for evidence.",
    ),
    "broker.challenge.unknown": Text(
        "The broker gave no such challenge, or was started again since.", _ASK_AGAIN
    ),
    "broker.challenge.used": Text(
        "The request came a second time: a replay, or a proxy that repeats.", _ASK_AGAIN
    ),
    "broker.evidence.encoding": Text("The request's evidence is not of its form.", _ASKER),
    "broker.evidence.kind": Text(
        "The request has no item of evidence of a TEE, or several.", "See `[attestation] key`."
    ),
    "broker.evidence.rejected": Text(
        "The hardware's evidence is false, stale, about another request, or not what the vendor's policy accepts.",
        _POLICY,
    ),
    "broker.gpus": Text(
        "The policy counts GPUs, and no evidence of any came.", "Set `[attestation.gpu] evidence`."
    ),
    "broker.hardware": Text(
        "What holds this instance's key closes no memory: a bare TPM, a cloud's TPM without a confidential VM, or a software key.",
        "Serve this model in a confidential VM or an enclave (SEV-SNP, TDX, Nitro), or ask the vendor for it unencrypted.",
    ),
    "broker.journal": Text(
        "The broker's journal cannot be written, so nothing is released.", "Look at its disk."
    ),
    "broker.journal.chain": Text(
        "The broker's journal was changed, or lines were taken out of it.",
        "Treat it as an intrusion: compare it with a copy, revoke what may have leaked.",
    ),
    "broker.journal.held": Text("Another broker writes the same journal.", "End one of the two."),
    "broker.key.revoked": Text(
        "The vendor revoked the key.", "Ask the vendor for the model under another key."
    ),
    "broker.key.unknown": Text(
        "The broker has no such key.", "Is it the broker of this model? See `rlu broker keys` there."
    ),
    "broker.length": Text("A request without a length, or longer than is allowed.", _ASKER),
    "broker.listen": Text("This is no address to listen on.", _ARGUMENT),
    "broker.media_type": Text("What was posted is no key request.", _ASKER),
    "broker.model.other": Text(
        "The key is another model's than the one that was asked for.",
        "Put the encrypted model and its key together again: one `rlu model encrypt` made both.",
    ),
    "broker.not_measured": Text(
        "The policy does not name the measurements that say which software asks, or that software can be looked into.",
        "Name them in the policy (`rlu policy init`); nothing can be waived here.",
    ),
    "broker.policy": Text(
        "A policy in the vault is missing or refused.", "Correct it: `rlu policy check` says more."
    ),
    "broker.request": Text("What was sent is no key request.", _ASKER),
    "broker.route": Text("The broker has no such route.", "See `[weights] broker`: it is an origin."),
    "broker.suite": Text("The request names another suite of HPKE than the broker's.", _ASKER),
    "broker.tls": Text(
        "A broker listens beyond its own machine with a certificate only.", "Give --tls-cert and --tls-key."
    ),
    "broker.unavailable": Text(
        "The broker cannot listen, or a file of its cannot be read or written.", _ARGUMENT
    ),
    "broker.vault": Text("The vault is not there, open to others, or damaged.", _VAULT),
    "broker.vault.key": Text("A key file is damaged, or under another key's name.", _VAULT),
    "broker.vault.reason": Text("A revocation needs a reason, on one line.", _ARGUMENT),
    "broker.vault.revoked": Text("The list of revoked keys is damaged.", _VAULT),
    "weights.answer": Text("The broker's answer is not of its form.", _ASKER),
    "weights.answer.key": Text(
        "The broker gave something that is not the key that was asked for.",
        "Ask the vendor; do not trust that broker.",
    ),
    "weights.broker": Text("The model is encrypted, and no broker is configured.", "Set `[weights] broker`."),
    "weights.changed": Text(
        "The model changed while it was encrypted, or since the server was started.", "Start again."
    ),
    "weights.chunk": Text("A part of the encrypted model is not what was encrypted.", _COPY),
    "weights.digest": Text(
        "A file is not the one that the encrypted model's header names.", "Ask the vendor."
    ),
    "weights.file": Text(
        "The broker's CAs cannot be read, or the journal of egress cannot be written; nothing was sent.",
        "Correct the path, owner or mode; the message names the file.",
    ),
    "weights.header": Text("`rlu-weights.json` is damaged.", _COPY),
    "weights.key": Text("The model was encrypted with another key.", "Find the vault that has its key."),
    "weights.length": Text("A file of the encrypted model is cut off, or longer than it was.", _COPY),
    "weights.memory": Text(
        "There is not enough memory to open the weights in.",
        "Serve on a machine with more; the opened weights need their size once, until engines have loaded them.",
    ),
    "weights.missing": Text("A file of the encrypted model is not there.", _COPY),
    "weights.none": Text("The directory is no encrypted model.", _ARGUMENT),
    "weights.sealed_already": Text("The directory is an encrypted model already.", _ARGUMENT),
    "weights.settings": Text("The configuration is refused.", "Correct it; the message names the key."),
    "weights.target": Text("The directory to make is there already.", _ARGUMENT),
    "weights.unreadable": Text(
        "A file cannot be read or written; for want of memory, the message says `No space left`.",
        "Correct owner or mode, or free memory.",
    ),
}
