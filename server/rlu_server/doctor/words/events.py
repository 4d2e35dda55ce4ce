"""Events of attestor, gateway and supervisor, and of the filter of the engine's output. Not those of the normal course."""

from __future__ import annotations

from rlu_attestation.codes.steps import Text

_INTRUSION = "Treat it as an intrusion unless you know why: docs/runbook.md, `Revoke and prove`."
_BY_CODE = "Explain its code: `rlu doctor CODE`."
_RESTARTED = "It is started again by itself, at most every 30 s; the events before it say why."
_KEPT = "The file before stays in force. Repair the file or Secret; a revocation in it does not count yet."
_ENGINE = "Look at the node's kernel log and memory; vLLM's own text is withheld, and says more with a small model on a bench."

OF_THE_ATTESTOR = {
    "attestor.refused_to_start": Text("The attestor does not start, by its code.", _BY_CODE),
    "signer.failed": Text(
        "A batch was not signed; nothing was released, and new sessions are refused.",
        _BY_CODE + " It goes on by itself (`signer.recovered`).",
    ),
    "log.write_failed": Text(
        "A batch could not be written to the log, or an answer to `rlu keys` beside it; nothing was released.",
        "Look at the state volume: full, read-only, gone. `errno.28` is a full disk. It goes on by itself.",
    ),
    "log.read_failed": Text(
        "Files of a log that is not written any more, or cosignatures, could not be read for somebody who asked; all else goes on.",
        "Look at the state volume: gone, damaged, no free descriptors (`errno.24`). Who asked may ask again.",
    ),
    "log.tally_failed": Text(
        "What is kept beside the log's entries is damaged, so that they cannot be counted; everything else goes on.",
        "Bring `meta.bin` back from a backup of the log and restart the attestor; boundary reports leave open what is not counted.",
    ),
    "log.cosignatures_damaged": Text(
        "A file with witnesses' cosignatures is damaged, so that none are handed out for that instance; everything else goes on.",
        "Nothing: witnesses look which are there, and bring theirs again.",
    ),
    "log.tail_dropped": Text(
        "After a crash, bytes behind the last signed head were cut off; they were never released.",
        "Nothing is to be done.",
    ),
    "gateway.lost": Text(
        "The gateway's connection ended; its open exchanges were logged as failed.",
        "Look for why the gateway restarted: `gateway.exited`.",
    ),
    "peer.refused": Text("Somebody else connected to the attestor's socket.", _INTRUSION),
    "frame.refused": Text(
        "The gateway sent what the protocol does not have.",
        "Are both of one version? Else as `peer.refused`.",
    ),
    "statement.renewal_failed": Text(
        "No fresh evidence could be had; the statement before serves until it ends.",
        _BY_CODE + " There is time until `[attestation] statement_ttl_s`.",
    ),
    "instance.changed": Text(
        "Model, engine, posture or GPUs changed: a new instance, the old one's sessions are closed.",
        "If nobody changed anything: see which process restarted, and whether all GPUs are there.",
    ),
    "facts.refused": Text(
        "What the launcher says of the machine cannot be read.", "Are the images of the pod of one version?"
    ),
    "instance.drifted": Text(
        "The operator's own policy refuses this instance; its sessions are closed.",
        "Explain its code, and take the node out of service. Do not loosen the policy.",
    ),
    "key.rotation_due": Text("The key is rotated within 14 days.", "Nothing, where rotation is by age."),
    "key.rotation_failed": Text("The key was not rotated; the one in use goes on.", _BY_CODE),
    "key.removal_failed": Text(
        "A key that is not used any more could not be removed, its file or from its handle in the TPM; that is tried again each hour.",
        _BY_CODE + " Until it is gone, whoever has the TPM and the attestor's secret can sign with it.",
    ),
    "canary.refused": Text("Findings of a canary test were not taken over.", _BY_CODE),
    "licence.ending": Text("The licence ends within so many days.", "Get the next one: docs/licence.md."),
    "licence.grace": Text(
        "The licence is over; its grace still allows new sessions.", "Get the next one: docs/licence.md."
    ),
    "licence.expired": Text(
        "Licence and grace are over: new sessions are refused, open ones go on.",
        "Install another: `rlu licence install`.",
    ),
    "licence.not_yet": Text(
        "The licence begins later: new sessions are refused.",
        "Install one that is in force; compare the clocks.",
    ),
    "licence.invalid": Text(
        "The licence is missing, damaged, or by a key that is not known: new sessions are refused.",
        "`rlu licence show` says which; install another.",
    ),
    "licence.time": Text(
        "A clock, or the file that remembers the latest time, is not believed.", "Right the clock."
    ),
    "internal.error": Text(
        "A defect of the attestor's, told by its class.", "Report it; the event holds no content."
    ),
}

OF_THE_GATEWAY = {
    "few_files": Text(
        "The limit of open files is below what `[gateway] max_connections` needs.",
        "Raise it (LimitNOFILE, or the node's container runtime).",
    ),
    "gateway_not_ready": Text(
        "The gateway refuses requests for now.", "Ask `/readyz`, which gives every reason by its code."
    ),
    "worker_lost": Text(
        "A worker process of the gateway ended.",
        "It is started again; its clients connect again. Report it if it comes back.",
    ),
    "worker_refused": Text(
        "A worker has a worse lock than was stated, or does not speak.",
        "Restart the server; then `rlu preflight`.",
    ),
    "keys_refused": Text("The file of API keys cannot be used.", _KEPT),
    "certificate_refused": Text(
        "The TLS files that were provided cannot be used; the ones before go on.",
        "Explain its code, and repair the Secret.",
    ),
    "certificate_unwritten": Text(
        "The renewed certificate serves, but its copy for clients could not be written.",
        "Is the runtime directory full? Clients' copies last until the next renewal.",
    ),
    "limits_refused": Text("The limits file cannot be used.", _KEPT + " Check it with `rlu limits check`."),
    "auth_refused": Text("A key set, CA or revocation list cannot be used.", _KEPT),
    "token_key_unknown": Text(
        "A token names a key that the issuer's set here does not have.",
        "Bring the new set in: `rlu auth fetch-jwks`.",
    ),
    "token_unverifiable": Text(
        "Tokens of an issuer cannot be verified: no key set, or no relay.",
        "Look at `relay_failed` and at `auth_refused`.",
    ),
    "relay_failed": Text(
        "The relay does not answer.",
        "Is `rlu relay` running where `[auth] relay` says, and let through by the NetworkPolicy?",
    ),
    "locked_out": Text(
        "An address guesses credentials.",
        "Find out who; behind a load balancer set `[auth] lockout_after = 0`.",
    ),
    "attestor_lost": Text(
        "The connection to the attestor ended; nothing new begins.", "Look at the attestor's events."
    ),
    "attestor_untrusted": Text("An answer of the attestor did not verify.", _INTRUSION),
    "attestor_refused": Text(
        "The attestor does not take this gateway.",
        "Explain the event's code; look at the attestor's own events.",
    ),
    "engine_lost": Text(
        "An engine does not answer any more.", "Look for `engine.exited`, and at the kernel's log."
    ),
    "engine_salt_unproven": Text(
        "The engine does not keep tenants' caches apart; nothing is served.", "Take another version of vLLM."
    ),
    "engine_suspect": Text(
        "An engine failed a request, and is asked whether it lives.",
        "Look for `engine_lost`, if it comes often.",
    ),
    "engine_retried": Text(
        "A request without a byte went to another engine.",
        "Look for why the first failed, if it comes often.",
    ),
    "connection_failed": Text(
        "A client's TLS handshake or connection failed.",
        "Nothing, unless a client complains: compare names and CA.",
    ),
    "request_refused": Text("A request was refused, by its code.", "Mostly the client's matter. " + _BY_CODE),
    "exchange_failed": Text("An answer did not complete, by its code; its receipt says so.", _BY_CODE),
    "receipt_lost": Text(
        "An exchange has no receipt of its own: the attestor went away, or the drain was too short.",
        "The log shows the gap; keep the events with it. Raise `[gateway] drain_timeout_s` for `drain_timeout`.",
    ),
    "internal_error": Text(
        "A defect of the gateway's, told by class and place.", "Report it; the event holds no content."
    ),
}

OF_THE_SUPERVISOR = {
    "refused": Text(
        "`rlu serve` did not start, by its code.", "The line after it says what is wrong. " + _BY_CODE
    ),
    "attestor.exited": Text(
        "The attestor ended, with `status`.",
        "137: killed, look for out of memory; 77: the lock. " + _RESTARTED,
    ),
    "engine.exited": Text(
        "An engine ended, with `status`.",
        "137: killed, look for out of memory; 77: the lock; 10: the model's signature. " + _RESTARTED,
    ),
    "gateway.exited": Text(
        "The gateway ended, with `status`.",
        "137: killed, look for out of memory; 77: the lock. " + _RESTARTED,
    ),
    "attestor.start_failed": Text("A restart of the attestor failed.", _RESTARTED),
    "engine.start_failed": Text("A restart of an engine failed.", _RESTARTED),
    "gateway.start_failed": Text("A restart of the gateway failed.", _RESTARTED),
    "gateway_stays": Text(
        "The gateway did not end within its drain.",
        "Raise `[gateway] drain_timeout_s`, and the pod's grace with it.",
    ),
    "keys.unreadable": Text(
        "The file of API keys, or one beside it, cannot be copied for the gateway.",
        "Correct its owner and mode; the one before stays in force.",
    ),
    "output.withheld": Text(
        "A process wrote something that is no event; it was not passed on.", "Report it, if it is not vLLM's."
    ),
    "model.refused": Text(
        "A version of the model that was switched to is not what it must be; the old one serves on.",
        "`rlu update status` has the code; `rlu update rollback` moves the link back.",
    ),
    "model.switch_failed": Text(
        "The engine does not start with the new version; the old one was started again.",
        "Does it fit? See `rlu size`, and `rlu update status`; ask the vendor.",
    ),
    "model.link_stays": Text(
        "The model's link could not be put back: the next start would take the version that fails.",
        "`rlu update rollback`, as the store's owner.",
    ),
    "model.update_failed": Text(
        "An update of the model failed; what is served did not change.",
        "Explain its code; it is tried again at the next call.",
    ),
    "engine.model_not_verified": Text(
        "The model is served without a good signature, because `unsafe-optional` says so.",
        "Sign it with `rlu model sign`, and put `required` back.",
    ),
    "engine.known_answer_wrong": Text(
        "The model does not answer as its `rlu-canary.json` says; it is not served.",
        "Another GPU or version of vLLM? Else compare the weights with `rlu model verify`.",
    ),
    "weights.refused": Text(
        "An engine is not started again: the weights of its encrypted model could not be opened, by the code.",
        _BY_CODE + " It is tried again at most every 30 s.",
    ),
    "weights.failed": Text(
        "The weights of an encrypted model could not be opened because of a defect (`reason`); the engine was told.",
        "Report it, with the version. The engine's next start asks again.",
    ),
    "attestor.beside_failed": Text(
        "In the attestor's container, what opens and wipes weights (`part` is `weights`) or follows what the engine states (`facts`) "
        "ended with an error (`reason`); the container ends.",
        "It is started again, and wipes what was left; sessions go on. If it comes back: an `OSError` is a matter of memory or "
        "descriptors, all else is a defect to be reported.",
    ),
}

OF_THE_ENGINE = {
    "engine.warning": Text("vLLM wrote warnings.", "Nothing, unless something else is wrong."),
    "engine.error": Text("vLLM wrote errors; their text is withheld.", _ENGINE),
    "engine.exception": Text("vLLM wrote a traceback; only its class is passed on.", _ENGINE),
    "engine.out-of-memory": Text(
        "The engine, or its GPU, ran out of memory.",
        "Give it more, or less to do: `rlu size` says what fits; see `[engine] max_model_len`.",
    ),
    "engine.crashed": Text("vLLM's core process died.", _ENGINE),
    "engine.overlong-line": Text(
        "The engine wrote a line that is longer than any event.", "Nothing; it was dropped."
    ),
}
