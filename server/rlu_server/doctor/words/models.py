"""New versions of models, and TLS files that the operator provides."""

from __future__ import annotations

from rlu_attestation.codes.steps import Text

_SETTINGS = "Correct the configuration; the message names the key."
_FILE = "Correct the path, owner or mode; the message names the file."
_SOURCE = "Look at the source and its address; it is tried again at the next call, and what serves goes on."
_VENDOR = "Ask the vendor for it again; what serves goes on."

UPDATES = {
    "update.absent": Text("What is to be fetched is not there.", _SOURCE),
    "update.artefact": Text(
        "The artefact is not one manifest with files as layers.", "Push it with `oras push`, file by file."
    ),
    "update.busy": Text(
        "Another update is under way in this store.", "Wait for it; its lock goes with its process."
    ),
    "update.ca_file": Text("The CAs of the source cannot be read.", _FILE),
    "update.credentials": Text("The directory of credentials is incomplete or cannot be read.", _FILE),
    "update.downgrade": Text(
        "The source offers an older release than was applied before.",
        "Find out why. If it is meant: `--allow-downgrade`.",
    ),
    "update.file": Text("A file of the store cannot be used.", _FILE),
    "update.forbidden": Text(
        "The source refuses the credentials, or wants some.", "Renew what is in `[update] credentials`."
    ),
    "update.name": Text(
        "Without a name of its own, the model's name would change with each version.", "Set `[model] name`."
    ),
    "update.never_served": Text(
        "This version was never served, so one cannot go back to it.", "Apply it: `rlu update apply`."
    ),
    "update.no_previous": Text(
        "No version that was served before is here any more.", "Raise `[update] keep`; fetch the older one."
    ),
    "update.no_release": Text(
        "The model has no release number.", "Have it signed with `--release`, or pass `--allow-downgrade`."
    ),
    "update.no_source": Text("No source of updates is configured.", "Set `[update] source`."),
    "update.nothing_fetched": Text("No version waits to be applied.", "Fetch one: `rlu update fetch`."),
    "update.path": Text("The signature names what cannot be a file of a model.", _VENDOR),
    "update.range": Text("The source gave another part of a file than was asked for.", _SOURCE),
    "update.settings": Text("The configuration is refused.", _SETTINGS),
    "update.signers": Text("Updates are taken only from signers that are named.", "Set `[model] signers`."),
    "update.size": Text("The source does not say how large a file is.", _SOURCE),
    "update.source": Text("The source is of no form that is known.", "Correct `[update] source`."),
    "update.source_unreadable": Text("The source cannot be read.", _FILE),
    "update.space": Text("The store has not enough room.", "Remove something, or set `[update] keep` lower."),
    "update.state": Text(
        "The file that guards against older models is damaged.",
        "Look at it, then remove it; a backup of it is better.",
    ),
    "update.status": Text("The source answered with an error.", _SOURCE),
    "update.store": Text(
        "The model's path is not the link of a store.",
        "Set `[model] path` to `current` in a directory of its own.",
    ),
    "update.tampered": Text(
        "A file is not the one that was signed.", "Do not use it; tell the vendor. What serves goes on."
    ),
    "update.token": Text("The registry's token service gave no token.", _SOURCE),
    "update.too_long": Text("A file is longer than such files are.", _VENDOR),
    "update.version": Text("There is no such version.", "See those there are: `rlu update status`."),
    "model.release": Text("The file with the release number is not of its form.", _VENDOR),
}

TLS = {
    "tls.key_changed": Text(
        "The certificate is for another key than the attested one.",
        "A new key is a new instance: restart the server, if it is meant.",
    ),
    "tls.malformed": Text(
        "Certificate or key are not of a form that TLS takes.", "Give PEM, the key without a password."
    ),
    "tls.mismatch": Text(
        "The certificate is not the key's.", "Give both of one issue; the Secret was perhaps half renewed."
    ),
    "tls.unreadable": Text("Certificate or key cannot be read.", _FILE),
}
"""Of the files that the operator provides; the ones before go on."""
