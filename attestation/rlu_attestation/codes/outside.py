"""Codes that end a command without a verdict, and the structures whose parsers raise codes of their own."""

from __future__ import annotations

from rlu_attestation.codes.steps import Text

_REPORT = "Do not use the report; ask for the log itself, and check it with `rlu log audit`."
_AGAIN = "Check the address and the network, and try again; `rlu verify FILE` needs no network."
_ROOTS = "A directory of roots holds KIND.pem, KIND.der, or directories KIND of such files; `rlu verify --help` names the kinds."
_EVIDENCE = "Ask the machine for evidence again."
_FETCH_AGAIN = "Fetch it again, from the vendor itself; nothing was written."
_IN_TIME = "Fetch while the evidence is young, or pass the --as-of of a time at which both are in force."
_LATER = "Try again later, or through --proxy or a mirror; what was had is kept."
_LIST = "Take the newest list from whoever signs it, and put it beside the policy; do not verify without it."
_SIGNED = "Take policy and signature from whoever maintains them, together; do not use this one."

OUTSIDE = {
    "canary.encoding": Text(
        "The file is no report of a canary test (FORMATS section 15), or its result is not what its numbers say.",
        "Take it again from whoever ran the test.",
    ),
    "canary.signature": Text(
        "The report of a canary test is not signed by the key that it names.", "Do not use it."
    ),
    "canary.not_named": Text(
        "The instance statement names another report of a canary test, or none.",
        "Ask for the report that it names, or for a bundle that was made after the report was signed.",
    ),
    "boundary.encoding": Text(
        "The file is no boundary report, or was cut or changed.", "Take it again from whoever made it."
    ),
    "boundary.claims": Text(
        "A boundary report, signed, and not of its form (FORMATS section 18).",
        "Have it made again by this version.",
    ),
    "boundary.key": Text(
        "The boundary report is signed by another key than the one you gave.",
        "Ask who signs reports, and for the public key by another way.",
    ),
    "boundary.signature": Text("The signature on the boundary report does not verify.", _REPORT),
    "boundary.head": Text(
        "A head in the boundary report is not signed by the key it is said to be of.", _REPORT
    ),
    "boundary.tally": Text("A tally in the boundary report is no entry of the log under its head.", _REPORT),
    "boundary.tallies": Text(
        "Tallies of the log are left out of the boundary report.",
        "Have it made again from all segments of the log; do not use this one.",
    ),
    "boundary.instances": Text(
        "The instances in the boundary report do not follow each other, or one is left out.",
        "Have it made again from the logs of all keys; do not use this one.",
    ),
    "boundary.figures": Text("A figure of the boundary report is not what its tallies give.", _REPORT),
    "boundary.time": Text(
        "The boundary report, or a head in it, is from the future.", "Set the clocks right."
    ),
    "boundary.entries": Text(
        "Entries that were exported while they were made are not what the log's tallies say of them.",
        "One of the two was changed, or the attestor told two stories: keep both, and ask.",
    ),
    "boundary.entries.encoding": Text(
        "A file of exported entries holds a line that is none.",
        "Give the files that `rlu log export` wrote, unchanged.",
    ),
    "boundary.open.entries": Text(
        "Some entries of the period are not among those that were exported.",
        "Give all files of the export, rotated ones too.",
    ),
    "boundary.open.instance": Text(
        "Nobody has said that this instance key is known: any key could have signed this log.",
        "Verify a bundle of that instance, and name its ueid with --instance.",
    ),
    "boundary.open.uncounted": Text(
        "Entries at the log's end are in no tally yet, or were made before there were tallies.",
        "Make the report again an hour later, when the next tally was made.",
    ),
    "boundary.open.end": Text(
        "The period is not over, or the server stopped before it was.",
        "Make the report again after the period's end, while the server runs.",
    ),
    "bundle.encoding": Text(
        "The file is no bundle, or was cut or changed.",
        "Take it again from where it came; compare its digest.",
    ),
    "policy.encoding": Text(
        "The policy is not TOML in UTF-8, or too large.", "Correct it at the place that the message names."
    ),
    "policy.unknown_key": Text(
        "The policy has a key that is not known, most often a typing error.",
        "Correct it: attestation/policy.example.toml shows every key.",
    ),
    "policy.value": Text(
        "A value in the policy is of the wrong type or range.",
        "Correct it: attestation/policy.example.toml shows every key.",
    ),
    "policy.certificate": Text(
        "A certificate that the policy names cannot be read.",
        "Put the file beside the policy, as PEM or DER.",
    ),
    "policy.references": Text(
        "A file of reference values that the policy names cannot be used.",
        "Put it beside the policy; `rlu policy init` writes such files.",
    ),
    "policy.key": Text(
        "The key is no public key for policies.", "Pass a key on P-256 or an Ed25519 key, as PEM."
    ),
    "policy.revocations.encoding": Text(
        "A list of revoked keys is not of its form (FORMATS section 14.2).", _LIST
    ),
    "policy.revocations.signer": Text(
        "A list of revoked keys is signed by a key that trust.revocation_keys does not name.", _LIST
    ),
    "policy.revocations.invalid": Text("The signature on a list of revoked keys does not verify.", _LIST),
    "policy.revocations.rolled_back": Text(
        "A list of revoked keys is older than one that is known to exist: its number is below trust.revocation_minimum.",
        _LIST,
    ),
    "policy.revocations.unreadable": Text(
        "A list of revoked keys, or the key that signs such lists, is not there or cannot be read.", _LIST
    ),
    "policy.bundled": Text("The bundle holds no policy.", "Pass --policy."),
    "policy.digest": Text(
        "The policy is another than the one whose digest you gave, or a file that it names is another.",
        "Find out why it changed before you use it; only then pin its new digest.",
    ),
    "policy.signature.encoding": Text("The signature file is not of its form (FORMATS section 13).", _SIGNED),
    "policy.signature.algorithm": Text("The signature is by another algorithm than the key's.", _SIGNED),
    "policy.signature.kid": Text("Another key signed the policy.", _SIGNED),
    "policy.signature.digest": Text(
        "The signature is on another policy, or on other files that it names.", _SIGNED
    ),
    "policy.signature.invalid": Text("The signature does not verify.", _SIGNED),
    "policy.draft.false": Text(
        "A check that needs no policy is false, so no policy is drafted from this evidence.",
        "Find out which evidence is genuine; --as-of reads evidence of an earlier time as of then.",
    ),
    "policy.draft.kind": Text(
        "Evidence of this kind speaks for no key, so it alone makes no policy.",
        "Draft from a server or a bundle.",
    ),
    "collateral.changed": Text(
        "A file of collateral is not what its name says: changed, or cut.", "Remove it and fetch again."
    ),
    "collateral.kind": Text(
        "Nothing is known here that vendors publish about this kind of evidence.",
        "See which kinds `rlu verify --help` names.",
    ),
    "collateral.url": Text("A certificate names a URL that is none.", _EVIDENCE),
    "collateral.vlek": Text(
        "AMD hands the certificate of a VLEK to the cloud provider only.",
        "Ask the provider for it: the host hands it out with the report.",
    ),
    "collateral.chain": Text("AMD's service gave other certificates than VCEK, ASK and ARK.", _FETCH_AGAIN),
    "collateral.crl.issuer": Text("The service gave another authority's revocation list.", _FETCH_AGAIN),
    "collateral.crl.signature": Text("The revocation list is not signed by its authority.", _FETCH_AGAIN),
    "collateral.crl.not_a_crl_issuer": Text("The authority may not sign revocation lists.", _FETCH_AGAIN),
    "collateral.crl.not_yet_valid": Text(
        "The revocation list is of a later time than the one asked about.", _IN_TIME
    ),
    "collateral.crl.stale": Text("The revocation list is no longer in force.", _IN_TIME),
    "collateral.issuer.name": Text("The service gave another authority's certificate.", _FETCH_AGAIN),
    "collateral.issuer.signature": Text("The certificate is not signed by its issuer's key.", _FETCH_AGAIN),
    "collateral.issuer.expired": Text("The issuer's certificate is not in force.", _IN_TIME),
    "collateral.fmspc": Text("Intel's service gave TCB information of another platform.", _FETCH_AGAIN),
    "collateral.rim.version": Text("NVIDIA's service gave other reference values.", _FETCH_AGAIN),
    "collateral.rim": Text("The reference values are not NVIDIA's.", _FETCH_AGAIN),
    "collateral.ocsp": Text("The answer about a certificate is not NVIDIA's, or not in force.", _FETCH_AGAIN),
    "fetch.url": Text(
        "This is no URL that can be asked.", "Correct the URL: it is of the form https://host/path."
    ),
    "fetch.host": Text(
        "The host is none of those that are asked.", "Add it by --allow-host if it is the vendor's."
    ),
    "fetch.unreachable": Text("The service did not answer, or is not who it should be.", _LATER),
    "fetch.timeout": Text("The service did not answer in time.", _LATER),
    "fetch.status": Text("The service does not give what was asked for.", _LATER),
    "fetch.size": Text("The answer is longer than anything that is published.", _FETCH_AGAIN),
    "fetch.type": Text("The answer is of another media type, such as a web page.", _FETCH_AGAIN),
    "fetch.header": Text("The answer lacks the header with its signer's certificates.", _FETCH_AGAIN),
    "fetch.answer": Text("The answer is not of the service's form.", _FETCH_AGAIN),
    "roots.kind": Text("A name in the directory of roots is no kind.", _ROOTS),
    "roots.certificate": Text("A file in the directory of roots holds no certificates.", _ROOTS),
    "roots.empty": Text("The directory of roots holds none.", _ROOTS),
    "assemble.missing": Text(
        "Bare evidence came without certificates that it cannot be verified without.",
        "Pass them by --with; the message says where they come from.",
    ),
    "assemble.piece": Text(
        "A file beside the evidence is nothing that endorses evidence.",
        "Leave it out, or see what it is by `rlu inspect`.",
    ),
    "assemble.event_log": Text(
        "Two event logs are given.", "Pass the one of the machine whose evidence it is."
    ),
    "assemble.form": Text(
        "Evidence of this kind is many structures, and no file of the vendor's holds them together.",
        "Give RLU's evidence item, a JSON file (FORMATS section 4).",
    ),
    "verify.unknown": Text(
        "The file is no bundle, and no evidence that is recognised.",
        "Name its kind by --kind, or see what it is by `rlu inspect`.",
    ),
    "verify.kind": Text("There is no such kind of evidence.", "`rlu verify --help` names the kinds."),
    "inspect.unknown": Text(
        "The file is nothing that is known here.", "Check that it is binary, whole, and not compressed."
    ),
    "inspect.kind": Text("Evidence of a kind that is not known here.", "A newer version may know it."),
    "inspect.profile": Text(
        "A statement of a profile that is not known here.", "A newer version may know it."
    ),
    "explain.unknown": Text("There is no such code.", "`rlu explain --list` shows all."),
    "file.unreadable": Text("A file cannot be read.", "Check the path and its permissions."),
    "file.unwritable": Text(
        "A file cannot be written.", "Check the path, its permissions, and the space on the disk."
    ),
    "file.exists": Text(
        "The file is there already, and nothing is overwritten.", "Name another, or remove it."
    ),
    "command.missing_extra": Text(
        "The command is in a part of the package that is not installed.",
        "Install the extra that the message names.",
    ),
    "server.url": Text("The address is not one of a server.", "Give https://HOST or https://HOST:PORT."),
    "server.unreachable": Text("The server cannot be reached.", _AGAIN),
    "server.timeout": Text("The server did not answer in time.", _AGAIN),
    "server.protocol": Text("The server does not speak HTTP as it must.", _AGAIN),
    "cosignature.none": Text(
        "The server has no cosignature on a head that could hold every statement of the bundle; nothing was written.",
        "Wait until a witness has come by (`rlu witness serve`), and ask again while the instance lives.",
    ),
    "server.refused": Text(
        "The server refused the request.",
        "See the status in the message; check the API key, and the server's own log.",
    ),
    "server.answer": Text(
        "The server's answer is not of its form, or too large.",
        "Check that it is an RLU server, of a version that fits.",
    ),
    "channel.changed": Text(
        "A later connection showed another TLS key than the one that was verified.",
        "Somebody may stand in between, or the server was restarted: verify again from the beginning.",
    ),
    "receipt.absent": Text(
        "The server gave no receipt for a response.", "Do not use the response; ask the server's operator."
    ),
}
"""Code → what happened, and what to do."""

STRUCTURES = {
    "sev-snp.report": "an AMD SEV-SNP report",
    "sev-snp.table": "the certificate table of an AMD host",
    "sev-snp.item": "an evidence item of kind sev-snp",
    "tdx.quote": "an Intel TDX quote",
    "tdx.item": "an evidence item of kind tdx",
    "nitro.cose": "the envelope of an AWS Nitro document",
    "nitro.document": "an AWS Nitro document",
    "nitro.item": "an evidence item of kind nitro",
    "nitrotpm.cose": "the envelope of an AWS NitroTPM document",
    "nitrotpm.document": "an AWS NitroTPM document",
    "nitrotpm.item": "an evidence item of kind nitrotpm",
    "nvidia.report": "an NVIDIA device report",
    "nvidia.rim": "a file of NVIDIA's reference values (RIM)",
    "nvidia.ocsp": "an OCSP answer",
    "gcp-vtpm.item": "an evidence item of kind gcp-vtpm",
    "azure-vtpm.item": "an evidence item of kind azure-vtpm",
    "azure-vtpm.hcl": "the report of an Azure paravisor (HCL)",
    "azure-vtpm.runtime": "the runtime data of an Azure paravisor",
    "tpm2": "a TPM's structure",
    "x509": "a certificate",
    "crl": "a revocation list",
    "encoding": "a value in base64url",
    "evidence": "an evidence item",
}
"""Structure → in words; its parser's codes are its name, a point, and causes."""
