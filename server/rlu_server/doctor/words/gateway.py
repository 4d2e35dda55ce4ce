"""What the gateway refuses: the codes of `core/errors.py`."""

from __future__ import annotations

from rlu_attestation.codes.steps import Text

_CLIENT = "Correct the client; the message names the field or header that is at fault."
_LIMIT = "See what is allowed and used with `rlu limits show`; change the limits file, or let the client wait as Retry-After says."
_TOKEN = "Get a new token; compare issuer, audience and claims with `[[auth.issuers]]`."  # noqa: S105 - no secret
_KEY = "Make or rotate a key with `rlu apikeys`, and give it to its holder."
_SESSION = "Open a new session; statements, receipts and the close of the old one stay valid."
_LICENCE = "Look at it with `rlu licence show`, and install another one; sessions that are open go on."

REFUSALS = {
    # the request as HTTP
    "http_malformed": Text("What arrived is not HTTP/1.1, or plain text reached a TLS port.", _CLIENT),
    "http_upgrade": Text("The client asked for WebSockets or HTTP/2 over plain text.", _CLIENT),
    "header_too_large": Text(
        "The headers are larger than `[gateway] max_header_bytes`.",
        "Make them smaller, or raise the setting; a proxy in front may add some.",
    ),
    "body_too_large": Text(
        "The body is larger than `[gateway] max_body_bytes`, compressed or not.",
        "Send less, or raise the setting.",
    ),
    "length_required": Text("A body came without a length.", _CLIENT),
    "content_encoding": Text("The body has a coding other than gzip, deflate and zstd.", _CLIENT),
    "coding_malformed": Text("The compressed body is damaged.", _CLIENT),
    "coding_ratio": Text(
        "The compressed body expands so far that it looks like an attack.", "Send it uncompressed."
    ),
    "content_type": Text("The body is not declared as JSON.", _CLIENT),
    "expectation": Text("The client expects something that is not offered.", _CLIENT),
    "request_timeout": Text(
        "The request came too slowly, or its client stalled.",
        "Look at the client's network; the limits are `[gateway] header_timeout_s` and `body_timeout_s`.",
    ),
    "route_not_found": Text(
        "The path is none of the allow list, or its base URL lacks or repeats `/v1`.",
        "Set the client's base URL as `rlu clients` prints it.",
    ),
    "method_not_allowed": Text("The route exists with another method.", _CLIENT),
    # who
    "key_missing": Text(
        "No credential came with the request.", "Set the API key in the client; `rlu clients` shows how."
    ),
    "key_invalid": Text(
        "No key with this id and secret is in the key file that the gateway has loaded.",
        "Compare with `rlu apikeys list`; a changed Secret takes the kubelet a minute. After `keys_refused` the file before counts.",
    ),
    "key_expired": Text("The key has ended.", _KEY),
    "key_revoked": Text("The key was revoked.", _KEY),
    "credentials_conflict": Text(
        "Certificate and key or token name different tenants.", "Send only one of them."
    ),
    "token_malformed": Text("The bearer is neither one of our keys nor a JSON Web Token.", _TOKEN),
    "token_header": Text("The token's header has a type or an extension that is not accepted.", _TOKEN),
    "token_issuer": Text("No `[[auth.issuers]]` has this issuer.", _TOKEN),
    "token_algorithm": Text(
        "The issuer may not use this algorithm here.", "Add it to `algorithms` of the issuer, if it is meant."
    ),
    "token_key_unknown": Text(
        "The issuer has rotated its keys, and the new set was not brought in.",
        "Bring it in with `rlu auth fetch-jwks`, or let `rlu relay --jwks` do it.",
    ),
    "token_signature": Text("The token was altered, or signed by somebody else.", _TOKEN),
    "token_expired": Text("The token is over, or a clock is wrong.", "Get a new token; compare the clocks."),
    "token_not_yet": Text("The token begins later than now.", "Compare the clocks of issuer and server."),
    "token_audience": Text("The token was made for another service.", _TOKEN),
    "token_claims": Text(
        "A claim that `required`, `tenant_claim` or `principal_claim` asks for is not there.", _TOKEN
    ),
    "token_refused": Text(
        "The API server's TokenReview says no.", "Project the token for the audience in `[[auth.issuers]]`."
    ),
    "token_unverifiable": Text(
        "There is no key set of this issuer, or the relay does not answer a review.",
        "Look at the events `token_unverifiable` and `relay_failed`; start `rlu relay`, or bring the key set in.",
    ),
    "certificate_unknown": Text(
        "No rule of `[auth.certificates]` matches the client's certificate.",
        "Add a rule, or issue the certificate with such a name.",
    ),
    "certificate_expired": Text("The client's certificate is over.", "Issue a new one."),
    "certificate_revoked": Text(
        "The list of revoked certificates names it.", "Issue a new one, if its holder should have access."
    ),
    "certificate_unverifiable": Text(
        "The list of revoked certificates is missing or out of date, so nobody can be admitted by certificate.",
        "Put a current list at `crl_file`; it is read anew by itself.",
    ),
    "locked_out": Text(
        "Too many wrong credentials came from this address; behind a load balancer all clients may share one.",
        "Find who guesses; it ends by itself. Behind a load balancer set `[auth] lockout_after = 0`.",
    ),
    "not_administrator": Text(
        "Only those in `[auth] administrators` may ask this.", "Add the principal there, if it should."
    ),
    "pseudonym_not_found": Text(
        "Nobody of this tenant has the pseudonym.", "Ask with `rlu apikeys resolve`, which knows more names."
    ),
    # the body
    "json_malformed": Text("The body is not JSON in UTF-8.", _CLIENT),
    "json_too_deep": Text("The body is nested deeper than any API asks for.", _CLIENT),
    "body_not_object": Text("The body is JSON, but no object.", _CLIENT),
    "field_missing": Text("A field is missing.", _CLIENT),
    "field_type": Text("A field has the wrong type.", _CLIENT),
    "field_not_allowed": Text(
        "The field would reach past tenants' separation or the engine's lock, such as `cache_salt` or remote tools.",
        "Leave it out.",
    ),
    "remote_media": Text("The engine has no network, so it cannot fetch media.", "Send media as data: URLs."),
    "background_unsupported": Text(
        "Answers are not made in the background.", "Stream, without `background`."
    ),
    "state_unsupported": Text(
        "`conversation` is not kept here; nothing is where `[responses] store` is off.",
        "Send the whole conversation as `input`.",
    ),
    "cancel_unsupported": Text(
        "Only background responses could be cancelled.", "Close the connection; that aborts the engine."
    ),
    "query_invalid": Text("A query parameter is not understood.", _CLIENT),
    "item_not_found": Text(
        "The answer that had the item was never stored, is too old, was deleted, or its session has ended.",
        "Send the item itself.",
    ),
    "previous_response_not_found": Text(
        "The answer was never stored, is too old, was deleted, or its session has ended.",
        "Send the whole conversation. How long answers are kept: `[responses]`.",
    ),
    "response_not_found": Text(
        "There is no such stored answer of this tenant.", "Send the whole conversation as `input`."
    ),
    "response_not_stored": Text(
        "The answer was larger than its room.", "Raise `[responses] session_bytes`, or send the conversation."
    ),
    "scratch_full": Text(
        "The tenant's room for stored answers is full.",
        "Delete some, or raise `[responses] tenant_bytes` and `total_bytes`.",
    ),
    "model_not_found": Text(
        "The client asks for a model by a name that is not served.",
        "List what is with GET /v1/models; `[model.aliases]` gives further names.",
    ),
    # sessions
    "session_not_found": Text(
        "The session is another tenant's, or of another instance.",
        "Send the session to the instance that its statement names; routing must be sticky.",
    ),
    "session_expired": Text(
        "The session's time is over: `[gateway] session_ttl_s`, `session_idle_s`.", _SESSION
    ),
    "session_closed": Text(
        "The session was closed: by its client, a rotation, a drift, or a drain.", _SESSION
    ),
    "receipt_not_found": Text(
        "The receipt is older than `[gateway] receipts_per_session`, or not of this session.",
        "Its leaf is in the log; ask for receipts sooner, or raise the setting.",
    ),
    "receipt_pending": Text(
        "The signer has not signed this receipt yet.", "Ask again. If it stays so, see `signer_unavailable`."
    ),
    "not_in_log": Text(
        "The log has no such entry, or no signed head covers it yet.", "Ask again after the next head."
    ),
    "not_exporter": Text(
        "The key that asks is not `[log] exporter`.", "Name its tenant and principal there."
    ),
    "cosignature_refused": Text(
        "The cosignature is by a witness that `[log] witnesses` does not name, or on another head.",
        "Add the witness's verifier key, if it should count.",
    ),
    "nonce_size": Text("The nonce of an explicit session is too short or too long.", _CLIENT),
    "sessions_full": Text(
        "`[gateway] max_sessions` are open.",
        "Wait until some end, or raise the setting; memory must allow it.",
    ),
    # limits
    "limit_requests": Text("The tenant or principal has used its requests of this minute.", _LIMIT),
    "limit_tokens": Text("The tenant or principal has used its tokens of this minute.", _LIMIT),
    "limit_concurrent": Text("The tenant or principal has as many requests under way as it may.", _LIMIT),
    "limit_scratch": Text("The tenant has as much content in memory as it may.", _LIMIT),
    "queue_full": Text(
        "The engine is busy, and `[admission] queue_size` requests wait.",
        "Add instances, or limit whoever takes all (`rlu_tenant_tokens_total`).",
    ),
    "queue_timeout": Text(
        "No place came free within `[admission] queue_wait_s`.",
        "Add instances, or limit whoever takes all (`rlu_tenant_tokens_total`).",
    ),
    # our side
    "signer_unavailable": Text(
        "The attestor is away, its TPM or TEE does not sign, its log cannot be written, or the clock went back.",
        "Look at its events: `attestor.refused_to_start`, `signer.failed`, `log.write_failed`, and explain their codes.",
    ),
    "drift": Text(
        "The attestor appraised itself by `[attestation] policy`, and the policy refuses.",
        "Explain the code of `instance.drifted`; take the node out of service until it is understood. Do not loosen the policy.",
    ),
    "export_behind": Text(
        "More entries of the log wait than `[log] export_limit` allows.",
        "Run `rlu log export`, and see whether the collector takes them.",
    ),
    "licence_expired": Text("The licence is over, and its grace too.", _LICENCE),
    "licence_not_yet": Text("The licence begins later.", _LICENCE),
    "licence_invalid": Text(
        "The licence is missing, damaged, or signed by a key that is not in `[licence] vendor_keys`.",
        _LICENCE,
    ),
    "engine_unavailable": Text(
        "No engine is ready: it loads, has ended, has the wrong known answer, or does not answer.",
        "Look at the events `engine.exited`, `engine.out-of-memory`, `engine.known_answer_wrong`, and at the exit code of its container.",
    ),
    "engine_timeout": Text(
        "The engine was silent for `[gateway] response_timeout_s`.",
        "Look at the load, and at the node's kernel log for GPU errors.",
    ),
    "engine_protocol": Text(
        "What the engine answered is not HTTP.", "See which vLLM runs; report it with the version."
    ),
    "engine_lost": Text(
        "The engine ended within an answer.",
        "Explain the `engine.exited` that follows; the receipt says `partial` or `failed`.",
    ),
    "salt_unproven": Text(
        "The engine does not keep tenants' prefix caches apart: this vLLM ignores `cache_salt`.",
        "Go back to a version of vLLM that honours it; nothing is served until then.",
    ),
    "not_ready": Text(
        "The server is starting.",
        "Wait; loading a large model takes minutes. After `[engine] ready_timeout_s` it ends and says why.",
    ),
    "draining": Text("The server is being stopped or replaced.", "Send requests to another instance."),
    "overloaded": Text(
        "More connections or exchanges are open than `[gateway] max_connections` allows.",
        "Add instances, or raise the setting and the limit of open files.",
    ),
    "internal": Text(
        "A defect of ours; the event `internal_error` with the request's id tells class and place.",
        "Report it; the event holds no content.",
    ),
}
