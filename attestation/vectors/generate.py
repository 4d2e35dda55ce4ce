"""Writes the vectors beside this file, or compares with `--check`. The same bytes every time.

    python attestation/vectors/generate.py [--check]

Hexadecimal is written where FORMATS says bytes, base64url where it says `b64u`, and text where it says canonical JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "tests")]


def vectors() -> dict[str, Callable[[], Any]]:
    """File name to maker."""
    from makers import seed

    seed.deterministic()
    from makers import boundary, documents, encodings, following, log, statements, weights, witnessed

    return {
        "canonical-json.json": encodings.canonical_json,
        "base64url.json": encodings.base64url,
        "identifiers.json": encodings.identifiers,
        "commitments.json": encodings.commitments,
        "tree.json": log.tree,
        "heads.json": log.heads,
        "following.json": following.following,
        "instances.json": statements.instances,
        "engine-arguments.json": statements.engine_arguments,
        "sessions.json": statements.sessions,
        "manifests.json": statements.manifests,
        "bundle.json": statements.bundles,
        "witnessed.json": witnessed.witnessed,
        "boundary.json": boundary.boundary,
        "documents.json": documents.documents,
        "weights.json": weights.weights,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the vectors, or compare them.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a file would change")
    check = parser.parse_args().check
    changed = []
    for name, make in vectors().items():
        text = json.dumps(make(), indent=1, sort_keys=True) + "\n"
        path = HERE / name
        if path.is_file() and path.read_text("ascii") == text:
            continue
        changed.append(name)
        if not check:
            path.write_text(text, "ascii")
    print(f"{'differ' if check else 'written'}: {', '.join(changed) or 'none'}")
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())
