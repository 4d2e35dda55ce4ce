"""Why a command of the server's ended without doing what was asked: codes that no process of a deployment tells by itself."""

from __future__ import annotations

from rlu_attestation.codes.steps import Text
from rlu_server.doctor.words.controllers import CONTROLLERS

_ARGUMENT = "Correct the argument; the message says what it takes."
_FILE = "Correct the path, owner or mode; the message names the file."
_SETTINGS = "Correct the configuration; the message names the key."
_AGAIN = "Take it again from where it came."
_SERVER = "Look at the server's events; try again."
_SIGNER = "Sign it again with a key that counts, or name the signer in `[model] signers`; never take `unsafe-optional` for a remedy."

COMMANDS = {
    # keys of clients, limits, authentication
    "apikeys.expires": Text("The end of a key is in the past, or too far.", _ARGUMENT),
    "apikeys.file": Text(
        "The file of API keys is damaged or of another version.",
        "Bring a copy back; until then the gateway keeps the keys it has.",
    ),
    "apikeys.file.access": Text("The file of API keys cannot be read or written.", _FILE),
    "apikeys.id": Text("This is no id of an API key.", "See the ids with `rlu apikeys list`."),
    "apikeys.label": Text("A name is too long or not printable.", _ARGUMENT),
    "apikeys.pseudonym": Text("Nobody who is known has the pseudonym.", "Give more names."),
    "apikeys.tenant_key": Text("The file does not hold a tenant's key.", _FILE),
    "apikeys.unknown": Text(
        "There is no such key, or no key file.",
        "See them with `rlu apikeys list`; `rlu apikeys init` makes a file.",
    ),
    # a cluster
    **CONTROLLERS,
    # boundary reports
    "boundary.egress": Text(
        "The journal of egress cannot be read, or has a line that no job wrote.",
        "Look at the line that the message names.",
    ),
    "boundary.log": Text("There is no log with a signed head below the state directory.", _FILE),
    "boundary.recount": Text(
        "What is kept beside the log's entries was changed after they were counted.",
        "Bring back a backup of the log; find out who wrote to the state directory.",
    ),
    "boundary.segment": Text(
        "A finished segment of the log is needed for the period, and was moved away.",
        "Put it back, or a copy of it.",
    ),
    "boundary.settings": Text("The configuration is refused.", _SETTINGS),
    "configuration.refused": Text("The configuration is refused.", _SETTINGS),
    "limits.file": Text(
        "The limits file is refused.",
        "Correct what the message names; `rlu limits check` looks before it counts.",
    ),
    "limits.file.access": Text("The limits file cannot be read.", _FILE),
    "auth.ca": Text(
        "The file of certificate authorities for clients holds none.", "Give CA certificates in PEM."
    ),
    "auth.crl": Text(
        "The list of revoked certificates is not current, or not by one of the CAs.",
        "Get a new list from the CA.",
    ),
    "auth.file": Text("A file of authentication cannot be used.", _FILE),
    "jwks.empty": Text(
        "The key set has no key that verifies signatures.", "Get it from the issuer's `jwks_uri`."
    ),
    "jwks.file": Text("The file is no JSON Web Key Set.", "Get it from the issuer's `jwks_uri`."),
    "jwks.key": Text("A key of the set cannot be used.", "Ask the issuer; RSA keys need 2048 bits."),
    "jwks.private": Text(
        "The key set holds private keys.",
        "Tell the issuer at once: whoever has seen the set can make tokens.",
    ),
    "relay.account": Text(
        "The relay cannot read its service account's token.",
        "Mount the token; see `automountServiceAccountToken` of the relay.",
    ),
    "relay.cluster": Text("The relay is not in a pod, and no API server is named.", _ARGUMENT),
    "relay.jwks": Text("The option for key sets is not of its form.", _ARGUMENT),
    "relay.listen": Text("The relay cannot listen there.", _ARGUMENT),
    "relay.proxy": Text("The proxy is not of its form.", _ARGUMENT),
    "relay.status": Text(
        "The other side answered with an error.",
        "401 or 403: the account's rights; else look at the other side.",
    ),
    "relay.tls": Text("Certificate and key of the relay belong together.", _ARGUMENT),
    "relay.too_long": Text("The answer is longer than anything that is expected.", "Is the address right?"),
    "relay.unreachable": Text(
        "The other side does not answer.", "See the address, the NetworkPolicy, the proxy, and the CA."
    ),
    "relay.url": Text("This is no address that can be asked.", _ARGUMENT),
    "relay.not_allowed": Text(
        "The host is none of those that this job may reach.",
        "Add it to the job's hosts, if it is meant, and to its NetworkPolicy.",
    ),
    "relay.redirects": Text("The other side redirects on and on.", "Name the address where it ends."),
    # what runs beside the instances in a cluster
    "cluster.absent": Text(
        "The API server has no such object.",
        "Was the release installed whole? See the name that the command was given.",
    ),
    "cluster.address": Text("The options for an API server belong together.", _ARGUMENT),
    "cluster.answer": Text(
        "The API server's answer is not of its form.", "Is the address that of an API server?"
    ),
    "cluster.conflict": Text("Somebody else changed the object meanwhile.", "It is tried again."),
    "cluster.denied": Text(
        "The API server does not accept the account, or does not allow it this.",
        "See the release's roles; `rlu cluster rights` prints what a role needs.",
    ),
    "cluster.invalid": Text(
        "The API server finds the object invalid.",
        "Is the cluster of a version that is supported? Report it.",
    ),
    "cluster.jwks": Text("The option for key sets is not of its form.", _ARGUMENT),
    "cluster.later": Text("Not now: a disruption budget, or too many requests.", "It is tried again."),
    "cluster.profile": Text("There is no such hardware profile.", _ARGUMENT),
    "cluster.role": Text("There is no such role.", _ARGUMENT),
    "cluster.status": Text("The API server answered with an error.", "Look at the API server."),
    "cluster.taint": Text("There is no such effect of a taint.", _ARGUMENT),
    "cluster.where": Text("The command is not in a pod, and no namespace is named.", _ARGUMENT),
    "publish.content": Text(
        "The ConfigMap holds what no such job wrote.", "Empty it; the next run fills it."
    ),
    "publish.size": Text(
        "The pieces are more than a ConfigMap takes.", "Give the instances a Secret or volume of your own."
    ),
    # the attestation key
    "keys.file": Text("A file cannot be used.", _FILE),
    "keys.last_good": Text(
        "The file holds no head of this key's log.",
        "Take it from an auditor's state, or from `rlu keys list`.",
    ),
    "keys.looser": Text(
        "The list revokes more of this key already.", "Nothing is taken back; that is on purpose."
    ),
    "keys.no_answer": Text("The attestor did not answer in time.", _SERVER),
    "keys.no_tpm": Text(
        "Only a TPM keeps keys.", "Elsewhere the attestor makes one at every start; nothing is to be done."
    ),
    "keys.not_running": Text(
        "No attestor runs on this state directory.", "Start the server first; is `--config` the one it uses?"
    ),
    "keys.reason": Text("The reason is none of the list.", _ARGUMENT),
    "keys.running": Text("An attestor is running and holds the TPM.", "Stop the server first."),
    "keys.settings": Text("The configuration is refused.", _SETTINGS),
    "keys.unreadable": Text("A file of the state directory cannot be read.", _FILE),
    "keys.unwritable": Text("The question to the attestor cannot be written.", _FILE),
    # the registrar
    "registrar.damaged": Text("The registrar's directory is damaged.", "Bring its backup back."),
    "registrar.exists": Text(
        "There is a registrar already; it is not replaced.", "Choose another directory."
    ),
    "registrar.file": Text("A file of the registrar's cannot be used.", _FILE),
    "registrar.missing": Text("The directory holds no registrar.", "Make one with `rlu registrar init`."),
    "registrar.no_roots": Text(
        "No root of TPM vendors was given, so no TPM is trusted.", "Give `--ek-root`."
    ),
    "enrolment.challenge_damaged": Text("The record of the challenge is damaged.", "Make another challenge."),
    "enrolment.challenge_expired": Text("The challenge is too old.", "Make another one."),
    "enrolment.challenge_unknown": Text("No such challenge is open; each serves once.", "Make another one."),
    "enrolment.proof": Text(
        "The answer does not show that this TPM opened the challenge.",
        "Do not enrol the machine until you know why.",
    ),
    # models
    "model.certificate": Text("The signing certificate does not fit the key, or is none.", _FILE),
    "model.changed": Text(
        "The model's files changed after they were measured.", "Find what writes there; restart the server."
    ),
    "model.changed_while_loading": Text(
        "Something wrote to the model while it was loaded.", "Stop that, and start again."
    ),
    "model.code": Text(
        "The model brings or names code.",
        "Remove it, if vLLM knows the model without; else it cannot be served here.",
    ),
    "model.directory": Text(
        "There is no such directory.", "Give the model's directory; in a pod, is the claim mounted?"
    ),
    "model.empty": Text("The directory is empty.", "Has the download ended, and is `subPath` right?"),
    "model.key": Text("The key cannot sign models.", "Give a P-256, P-384, P-521 or Ed25519 key in PEM."),
    "model.link": Text("A link leads out of the model, or nowhere.", "Replace it by a copy."),
    "model.name": Text("A file's name is not UTF-8.", "Rename it, and sign again."),
    "model.pickle": Text("A file is a pickle, which is code.", "Convert it to safetensors."),
    "model.safetensors": Text(
        "A weights file is no safetensors file.", "Download it again; compare digests."
    ),
    "model.special_file": Text("A device, socket or pipe lies in the model.", "Remove it."),
    "model.too_many_files": Text("The directory holds more than one model.", "Give the directory of one."),
    "model.unreadable": Text("A file of the model cannot be read.", _FILE),
    "model.signature.absent": Text(
        "The model is not signed.", "Sign it with `rlu model sign`, or ask its vendor to."
    ),
    "model.signature.chain": Text("The certificates of the signature lead to no trusted root.", _SIGNER),
    "model.signature.encoding": Text("The signature is not of its form.", _AGAIN),
    "model.signature.invalid": Text(
        "The signature does not hold.", "Take model and signature again; do not serve this one."
    ),
    "model.signature.mismatch": Text(
        "Files are other, missing or more than were signed.",
        "Take them again; a download that was cut is the usual cause. If not: somebody changed the model.",
    ),
    "model.sealed": Text(
        "An encrypted model cannot be given another release number.",
        "Sign the model with `rlu model sign --release`, then encrypt it, then sign that.",
    ),
    "model.signature.place": Text(
        "The signature is `model.sig` at the top, or outside the directory.", _ARGUMENT
    ),
    "model.signature.statement": Text("What was signed contradicts itself.", _AGAIN),
    "model.signature.unknown_signer": Text(
        "The model is signed by somebody who is not trusted here.", _SIGNER
    ),
    "model.signature.unsupported": Text(
        "The signature is of a kind that is not verified here.",
        "Sign with a key or certificate (`rlu model sign`).",
    ),
    "model.signature.usage": Text("The certificate is not one for signatures.", _SIGNER),
    "model.signers": Text(
        "A file of `[model] signers` holds no public key and no certificate.",
        "Give public keys and root certificates in PEM.",
    ),
    # licence and telemetry
    "licence.answer.claims": Text(
        "The vendor's answer is not of its form.", "Ask the vendor; nothing was changed."
    ),
    "licence.answer.encoding": Text(
        "The vendor's answer is no signed document.", "Is the address right? Nothing was changed."
    ),
    "licence.answer.key": Text(
        "The answer is by a key that is not trusted.", "See `[licence] vendor_keys`; nothing was changed."
    ),
    "licence.answer.other": Text("The answer is to another question.", "Ask again; nothing was changed."),
    "licence.answer.signature": Text(
        "The answer was altered on the way.", "Ask again; who is between? Nothing was changed."
    ),
    "licence.answer.time": Text("The answer is not of today.", "Compare the clocks; nothing was changed."),
    "licence.claims": Text("The licence is not of its form.", "Ask the vendor for another."),
    "licence.encoding": Text("The file is no signed licence.", _AGAIN),
    "licence.file": Text("A file of the licence cannot be used.", _FILE),
    "licence.key": Text("The licence is by a key that is not trusted.", "See `[licence] vendor_keys`."),
    "licence.none": Text("No licence is configured, and nothing depends on one.", "Nothing is to be done."),
    "licence.question": Text("What was given is no statement of an instance.", _ARGUMENT),
    "licence.settings": Text("The configuration is refused.", _SETTINGS),
    "licence.signature": Text("The licence was altered.", "Ask the vendor for another."),
    "licence.statement": Text("A statement is not signed by the key it names.", "Collect it again."),
    "licence.validation_url": Text(
        "No address of the vendor's is configured.",
        "Set `[licence] validation_url`, if you want to ask; nothing was sent.",
    ),
    "licence.vendor_keys": Text("No key of a vendor is known.", "Set `[licence] vendor_keys`."),
    "telemetry.file": Text("A file of telemetry cannot be used.", _FILE),
    "telemetry.metrics": Text("Where the counters are is not known.", "Set `[telemetry] metrics`."),
    "telemetry.no_key": Text("There is no key for reports.", "Make one with `rlu telemetry keygen`."),
    "telemetry.off": Text(
        "Telemetry is off; nothing was sent.", "Nothing is to be done; it is off by default."
    ),
    "telemetry.settings": Text("The configuration is refused.", _SETTINGS),
    "telemetry.unread": Text(
        "The gateway did not tell its counters.", "Is it running, and does `[metrics] listen` fit?"
    ),
    "telemetry.url": Text(
        "No address for reports is configured; nothing was sent.", "Set `[telemetry] url`, if you opted in."
    ),
    # backup, export
    "backup.absent": Text("There is no log to back up.", "See `--state-dir`."),
    "backup.digest": Text("Files of the backup are not those that were backed up.", "Take another backup."),
    "backup.encoding": Text("The file is no backup, or cut.", "Take another backup."),
    "backup.exists": Text("The file is there already.", "Give another name."),
    "backup.unreadable": Text("A file cannot be read or written.", _FILE),
    "restore.not_empty": Text(
        "There is a state already, which may be newer than the backup.", "Move it away first."
    ),
    "export.cursor_ahead": Text(
        "The log is shorter than what was exported.", "Audit it with `rlu log audit`: it was rolled back."
    ),
    "export.sink": Text(
        "The collector or file does not take the records; nothing is lost.",
        "Look at the collector; run the export again.",
    ),
    "export.url": Text("This is no OTLP receiver.", _ARGUMENT),
    "server.answer": Text("The server's answer is not of its form.", "Are both of one version?"),
    # tests of a node
    "selftest.deployment": Text(
        "The deployment that is to be tested did not start.",
        "Start `rlu serve` with the same settings, and see why.",
    ),
    "selftest.engine": Text("The engine's command cannot be composed.", _SETTINGS),
    "selftest.lock": Text("The lock could not be made, so nothing was tried.", "Run `rlu preflight`."),
    "selftest.machine": Text(
        "This machine lacks something that the test needs.", "Install what the message names."
    ),
    "selftest.out": Text("The result cannot be written.", "Choose another place with `--out`."),
    "selftest.settings": Text("The configuration is refused.", _SETTINGS),
    "selftest.tpm": Text("The test's own emulated TPM did not start.", "Install swtpm."),
    "preflight.profile": Text("There is no such hardware profile.", _ARGUMENT),
    # sizing
    "size.checkpoint.malformed": Text(
        "A weights file, or the index of them, cannot be read.", "Download it again."
    ),
    "size.config.malformed": Text("The file config.json is not JSON.", "Give the model's own."),
    "size.config.missing": Text("The file config.json lacks a field.", "Give the model's own."),
    "size.config.value": Text("A field of config.json is out of range.", "Give the model's own."),
    "size.context": Text("The context is longer than the model's.", _ARGUMENT),
    "size.gpu": Text("The GPU is not known.", _ARGUMENT),
    "size.kv_cache_dtype": Text("The type of the cache is not known.", _ARGUMENT),
    "size.model.file": Text("The model's config cannot be read.", _ARGUMENT),
    "size.model.unsupported": Text("Models of this kind are not sized.", "Ask vLLM by a start with it."),
    "size.quantization": Text(
        "The quantisation is not known, or cannot be made of this checkpoint.", _ARGUMENT
    ),
    "size.quantization.unsupported": Text(
        "The checkpoint's quantisation is not known.", "Ask vLLM by a start with it."
    ),
}
