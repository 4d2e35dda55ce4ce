"""FORMATS section 11: checkpoint, cosignature, gap, buckets. Put together from the specifications, not by the code they check."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from makers import log
from makers.seed import secret
from reference import merkle as naive
from rlu_attestation.encoding import b64u

NAME = "witness.example/vectors"
TIME = 1_780_000_060


def following() -> dict[str, Any]:
    head = log.heads()
    key = ed25519.Ed25519PrivateKey.from_private_bytes(secret("witness"))
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    key_id = hashlib.sha256(NAME.encode() + b"\n\x04" + public).digest()[:4]
    root = base64.b64encode(bytes.fromhex(head["root"])).decode()
    checkpoint = f"{head['iss']}\n{head['tree_size']}\n{root}\n"
    message = f"cosignature/v1\ntime {TIME}\n{checkpoint}"
    signature = key.sign(message.encode())
    line = f"— {NAME} {base64.b64encode(key_id + TIME.to_bytes(8, 'big') + signature).decode()}"
    gap = (
        f'{{"eat_profile":"tag:rlu.internal,2026:gap#1","iat":{TIME},"iss":"{head["iss"]}",'
        f'"rlu_blind":"{b64u(secret("gap")[:16])}","rlu_first":3,"rlu_next":9}}'
    )
    return {
        "head": head["head"],
        "checkpoint": checkpoint,
        "verifier_key": f"{NAME}+{key_id.hex()}+{base64.b64encode(bytes([4]) + public).decode()}",
        "message": message,
        "cosignature": line,
        "time": TIME,
        "gap": gap,
        "gap_leaf": naive.hash_leaf(gap.encode()).hex(),
        "buckets": [
            {"tokens": tokens, "bucket": bucket}
            for tokens, bucket in ((0, 0), (1, 1), (256, 1), (257, 2), (512, 2), (513, 3), (100_000, 10))
        ],
    }
