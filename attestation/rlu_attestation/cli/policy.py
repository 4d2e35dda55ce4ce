"""`rlu policy`: draft a policy from evidence, check it, and sign it.

rlu policy init --from https://host -o policy.toml     a draft to review, with its reference values beside it
rlu policy check policy.toml                           what each rule accepts, in words
rlu policy keygen -o policy-key.pem                    once, where policies are signed
rlu policy sign policy.toml --key policy-key.pem
rlu policy verify-signature policy.toml --key policy-key.pub.pem
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from rlu_attestation import policy_signature, policy_words
from rlu_attestation.cli import policy_init
from rlu_attestation.cli.arguments import JsonOption
from rlu_attestation.cli.output import console, print_json
from rlu_attestation.encoding import b64u
from rlu_attestation.files import load_policy, read, write_new
from rlu_attestation.printing import printable

app = typer.Typer(
    name="policy",
    help="Draft, check and sign appraisal policies.",
    no_args_is_help=True,
    add_completion=False,
)

PolicyArgument = Annotated[
    Path, typer.Argument(metavar="POLICY", help="The policy (TOML).", show_default=False)
]
SignatureOption = Annotated[
    Path | None,
    typer.Option("--signature", help="The signature file; default: POLICY.sig.", show_default=False),
]


class Algorithm(str, Enum):
    """Of keys that sign policies."""

    ED25519 = policy_signature.ED25519
    ES256 = policy_signature.ES256


app.command("init")(policy_init.init)


@app.command("check")
def check(policy: PolicyArgument, as_json: JsonOption = False) -> None:
    """Say in words what each rule accepts, warn of what is accepted unseen, and print the digest.

    Exit codes: 0 it can be used, 2 it cannot; the message names the key.
    """
    read_policy = load_policy(policy)
    rules = policy_words.describe(read_policy)
    if as_json:
        print_json({"policy_sha256": read_policy.digest.hex(), "rules": [rule.to_json() for rule in rules]})
        return
    out = console()
    width = max(len(rule.name) for rule in rules)
    for rule in rules:
        line = Text.assemble((f"{printable(rule.name):<{width}}  ", "cyan"), printable(rule.accepts))
        if rule.warning:
            line.append(f"  ! {printable(rule.warning)}", "yellow")
        out.print(line)
    warned = sum(1 for rule in rules if rule.warning)
    out.print(
        Text(f"{warned} of {len(rules)} rules deserve a second look. What is left out accepts nothing.")
    )
    out.print(Text(f"sha256 {read_policy.digest.hex()}"))


@app.command("digest")
def digest(policy: PolicyArgument, as_json: JsonOption = False) -> None:
    """Print the SHA-256 that pins a policy: of the file, and of every file that it names."""
    found = load_policy(policy).digest.hex()
    if as_json:
        print_json({"policy_sha256": found})
    else:
        print(found)


@app.command("sign")
def sign(
    policy: PolicyArgument,
    key: Annotated[
        Path, typer.Option("--key", help="Private key in PEM, P-256 or Ed25519.", show_default=False)
    ],
    signature: SignatureOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign a policy: its digest, which covers the files that it names. Takes the place of an older signature."""
    private = policy_signature.load_private_key(read(key, policy_signature.MAX_KEY))
    found = load_policy(policy)
    place = signature or _signature_of(policy)
    place.unlink(missing_ok=True)
    write_new(place, policy_signature.sign(found.digest, private) + b"\n")
    _tell(
        as_json,
        {"signature": str(place), "policy_sha256": found.digest.hex(), **_key_json(private.public_key())},
        f"Signed {policy} in {place}. sha256 {found.digest.hex()}",
    )


@app.command("verify-signature")
def verify_signature(
    policy: PolicyArgument,
    key: Annotated[
        Path, typer.Option("--key", help="The public key in PEM that you trust.", show_default=False)
    ],
    signature: SignatureOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check who signed a policy.

    Exit codes: 0 that key signed it, 10 it did not, 30 not a signature, 2 usage.
    """
    public = policy_signature.load_public_key(read(key, policy_signature.MAX_KEY))
    found = load_policy(policy)
    data = read(signature or _signature_of(policy), policy_signature.MAX_SIGNATURE)
    policy_signature.verify_signature(found.digest, data, public)
    _tell(
        as_json,
        {"result": "verified", "exit_code": 0, "policy_sha256": found.digest.hex(), **_key_json(public)},
        f"{policy} is signed by {key}. sha256 {found.digest.hex()}",
    )


@app.command("keygen")
def keygen(
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="The private key to write; the public one is NAME.pub.pem.",
            show_default=False,
        ),
    ],
    alg: Annotated[Algorithm, typer.Option("--alg", help="Algorithm.")] = Algorithm.ED25519,
    as_json: JsonOption = False,
) -> None:
    """Make a key for policies. Any P-256 or Ed25519 key in PEM will do as well, such as one that openssl made."""
    private, public = policy_signature.generate(alg.value)
    beside = out.with_name(f"{out.stem}.pub.pem")
    write_new(out, private, private=True)
    write_new(beside, public)
    _tell(
        as_json,
        {
            "private_key": str(out),
            "public_key": str(beside),
            **_key_json(policy_signature.load_public_key(public)),
        },
        f"Private key in {out}: keep it to yourself. Give {beside} to those who verify.",
    )


def _signature_of(policy: Path) -> Path:
    return policy.with_name(f"{policy.name}.sig")


def _key_json(key: policy_signature.PublicKey) -> dict[str, str]:
    return {"alg": policy_signature.algorithm(key), "kid": b64u(policy_signature.key_id(key))}


def _tell(as_json: bool, value: Mapping[str, Any], text: str) -> None:
    if as_json:
        print_json(value)
    else:
        console().print(Text(printable(text)))
