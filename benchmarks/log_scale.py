"""The log at ten million sessions: `python benchmarks/log_scale.py`.

A session is three entries at least: its statement, a receipt, its close. The attestor's own tree takes so many leaves, sealing a segment's
worth at a time as the attestor does; then proofs are made and verified, fresh and old, and the tree is opened again as at a start. Apart
from that, one whole segment goes through ledger and journal, to see what a line costs on the disk and at a start.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from bench.machine import described
from rlu_attestation import cose, jose
from rlu_attestation.channel import Channel
from rlu_attestation.instance import issuer
from rlu_attestation.merkle import root_from_inclusion, verify_consistency
from rlu_server.attestor import composition, instances, messages, records
from rlu_server.attestor.committer import SEGMENT_LEAVES
from rlu_server.attestor.journal import Journal
from rlu_server.attestor.ledger import Ledger
from rlu_server.attestor.tiles import Meta, TiledTree

RESULTS = Path(__file__).resolve().parent / "results" / "log-scale.json"
ENTRIES_A_SESSION = 3
PROOFS = 2000
BATCH = 256


def resident_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def timed_us(work: Callable[[int], object], over: list[int]) -> dict[str, float]:
    times = []
    for one in over:
        began = time.perf_counter()
        work(one)
        times.append(time.perf_counter() - began)
    times.sort()
    return {
        "p50_us": round(1e6 * times[len(times) // 2], 1),
        "p99_us": round(1e6 * times[len(times) * 99 // 100], 1),
    }


def tree(leaves: int, segment: int, directory: Path) -> dict[str, Any]:
    """Append, seal, prove, open again."""
    before, grown, pauses = resident_mib(), TiledTree(), []
    meta = Meta("receipt", 1_800_000_000, "complete", (3, 2, 0))
    began = time.perf_counter()
    sealed = 0
    for number in range(leaves):
        grown.put(hashlib.sha256(number.to_bytes(8, "big")).digest(), meta)
        if grown.size - sealed >= segment:
            started = time.perf_counter()
            sealing = grown.sealing()
            sealing.write(directory)
            grown.seal(sealing, directory)
            sealed = grown.size
            pauses.append(time.perf_counter() - started)
    took = time.perf_counter() - began
    last = grown.sealing()
    last.write(directory)
    memory = resident_mib() - before
    dice = random.Random(1)
    old = [dice.randrange(leaves) for _ in range(PROOFS)]
    fresh = [leaves - 1 - dice.randrange(min(BATCH, leaves)) for _ in range(PROOFS)]
    sizes = [1 + dice.randrange(leaves) for _ in range(PROOFS)]
    root = grown.root()
    path, consistency = grown.inclusion_path(old[0]), grown.consistency_path(sizes[0])
    result = {
        "leaves": leaves,
        "sessions": leaves // ENTRIES_A_SESSION,
        "append_us": round(1e6 * took / leaves, 2),
        "seal_ms_max": round(1000 * max(pauses, default=0), 1),
        "memory_mib": round(memory, 1),
        "disk_mib": round(sum(p.stat().st_size for p in directory.iterdir()) / 2**20, 1),
        "proof_hashes": len(path),
        "inclusion_fresh": timed_us(grown.inclusion_path, fresh),
        "inclusion_old": timed_us(grown.inclusion_path, old),
        "consistency": timed_us(grown.consistency_path, sizes),
        "verify_inclusion": timed_us(
            lambda n: root_from_inclusion(grown.leaf(old[0]), old[0], leaves, path), list(range(PROOFS))
        ),
        "verify_consistency": timed_us(
            lambda n: verify_consistency(sizes[0], grown.root(sizes[0]), leaves, root, consistency),
            list(range(PROOFS)),
        ),
    }
    began = time.perf_counter()
    again = TiledTree(directory, leaves)
    result["open_s"] = round(time.perf_counter() - began, 2)
    if again.root() != root:
        raise SystemExit("log_scale: the tree that was opened again is another one")
    return result


def segment(entries: int, directory: Path) -> dict[str, Any]:
    """One whole segment through ledger and journal, and read back."""
    key = ec.generate_private_key(ec.SECP256R1())
    jwk = jose.public_jwk(key.public_key())
    kid = jose.thumbprint(jwk)
    name, numbers = issuer(kid), itertools.count(1)
    journal = Journal(directory, name, jwk)
    journal.accept(None)
    ledger = Ledger(name, lambda size: next(numbers).to_bytes(size, "big"), b"k" * 32)
    ask = messages.OpenSession(
        id=1, tenant="t", principal="p", nonce=None, cnf_jkt=None, commitment_key_digest=bytes(32), opening=None, ttl_s=60
    )  # fmt: skip
    owner, nobody = object(), _Nobody()
    content = messages.Commitment(1, bytes(32))

    def committed(pendings: list[Any]) -> None:
        draft = ledger.draft(pendings, 1)
        protected = cose.head_protected(kid, name, 1, draft.size)
        r, s = utils.decode_dss_signature(
            key.sign(cose.signature_input(protected, draft.root), ec.ECDSA(SHA256()))
        )
        head = cose.assemble_head(protected, draft.root, r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        journal.append(draft.lines + records.head_line(head, draft.size))
        ledger.commit(draft)

    while ledger.tree.size < entries:
        opening = [
            ledger.open(
                composition.session_statement(ledger.stamp(1), ledger.new_session_id(), ask, bytes(32), Channel("plaintext", None)),
                owner,
                nobody,
            )
            for _ in range(BATCH)
        ]  # fmt: skip
        committed(opening)
        receipts = []
        for one in opening:
            seq = ledger.begin(one.session.id, owner, 1)
            report = messages.RecordReceipt(
                id=1, session=one.session.id, seq=seq, route="/v1/responses", model="m", status="complete", http_status=200,
                request=content, forwarded=None, rewritten=[], response=content, usage=messages.Usage(1, 1), reason=None,
            )  # fmt: skip
            leaf = one.session.leaf
            compose = lambda stamp, report=report, leaf=leaf: composition.receipt(stamp, report, leaf)  # noqa: E731
            receipts.append(ledger.record(one.session, seq, compose, 1, nobody))
        committed(receipts)
        committed([ledger.close(one.session, "client", "wiped", nobody) for one in opening])
    journal.close()
    size = (directory / "log.jsonl").stat().st_size
    began = time.perf_counter()
    journal = Journal(directory, name, jwk)
    again = instances.open_ledger(name, journal, b"k" * 32)
    instances.rebuild(again, journal, key.public_key())
    took = time.perf_counter() - began
    journal.close()
    if again.tree.root() != ledger.tree.root():
        raise SystemExit("log_scale: the log that was read back is another one")
    return {
        "entries": ledger.tree.size,
        "bytes_an_entry": round(size / ledger.tree.size),
        "start_s": round(took, 2),
    }


class _Nobody:
    gone = False

    def committed(self, entry: object) -> None:
        pass

    def failed(self, error: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory, disk and proofs of a large log.")
    parser.add_argument("--leaves", type=int, default=10_000_000 * ENTRIES_A_SESSION)
    parser.add_argument("--segment", type=int, default=SEGMENT_LEAVES, help="leaves sealed at once")
    parser.add_argument("--directory", type=Path, help="where to write (default: the temporary directory)")
    parser.add_argument("--no-write", action="store_true", help="leave results/log-scale.json as it is")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="rlu-scale-", dir=options.directory))
    try:
        result = {
            "machine": described(),
            "tree": tree(options.leaves, options.segment, home),
            "segment": segment(options.segment, home / "log"),
        }
    finally:
        shutil.rmtree(home)
    text = json.dumps(result, indent=1) + "\n"
    print(text, end="")
    if not options.no_write:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()
