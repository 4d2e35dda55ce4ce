"""Revocation lists, as whoever signs them keeps them: one file, replaced by the next list."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from rlu_attestation import cose, policy_signature, revocation, revocation_list
from rlu_attestation.cose import SignedHead
from rlu_attestation.encoding import unb64u
from rlu_attestation.files import read
from rlu_attestation.revocation import REASONS, Revocation
from rlu_attestation.revocation_list import MAX_LIST, RevocationList
from rlu_server.attestor.secret import write_private
from rlu_server.keyring.listing import KeysError

MAX_HEAD_FILE = 256 * 1024


def revoke(
    path: Path, private_key: bytes, ueid: str, reason: str, now: int, last_good: SignedHead | None
) -> RevocationList:
    """Add a key to the list, or make its entry stricter, and sign the list with the next number.

    Args:
        private_key: PEM, of the key that signed the list so far, if there is one.

    Raises:
        KeysError: `keys.reason`, `keys.looser`.
        RluError: the list is not by this key, or the ueid is none.
    """
    if reason not in REASONS:
        raise KeysError("keys.reason", f"the reason is one of {', '.join(REASONS)}")
    key = policy_signature.load_private_key(private_key)
    known = RevocationList(0, now, ())
    if path.exists():
        known = revocation_list.verify(read(path, MAX_LIST), [key.public_key()])
    entry = Revocation(revocation.check_ueid(ueid), reason, now, last_good)
    if last_good is not None and last_good.issuer.rpartition(":")[2] != ueid:
        raise KeysError("keys.last_good", "the last good head is of another instance's log")
    before = next((one for one in known.entries if one.ueid == ueid), None)
    if before is not None:
        entry = _stricter(before, entry)
    others = tuple(one for one in known.entries if one.ueid != ueid)
    made = replace(known, number=known.number + 1, issued_at=now, entries=(*others, entry))
    write_private(path, revocation_list.sign(made, key))
    path.chmod(0o644)
    return made


def read_head(data: bytes) -> SignedHead:
    """A signed head: in base64url, or as the `head` of a JSON object, such as an auditor's state.

    Raises:
        RluError: it is none.
    """
    text = data.decode("ascii", "replace").strip()
    if text.startswith("{"):
        try:
            text = str(json.loads(text)["head"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise KeysError("keys.last_good", "the file holds no head") from error
    return cose.parse_head(unb64u(text))


def _stricter(before: Revocation, after: Revocation) -> Revocation:
    """A key that was not believed from some head on is never believed beyond it again."""
    if revocation_list.merge([_only(before), _only(after)])[before.ueid] is not after and before != after:
        if before.last_good != after.last_good:
            raise KeysError(
                "keys.looser", "the list believes less of this key already; that is not taken back"
            )
        return replace(after, time=before.time)
    return after


def _only(entry: Revocation) -> RevocationList:
    return RevocationList(0, 0, (entry,))
