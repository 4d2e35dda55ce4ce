"""The job that opens weights, on a machine that is a fake SEV-SNP guest: its settings say so, and a socket is its device.

python unlocking_on_snp.py SOCKET < order > outcome
"""

from __future__ import annotations

import io
import json
import socket
import sys

from rlu_server.broker import unlocking


def collect(root: bytes) -> dict[str, bytes]:
    """Evidence about a root from the chip, which the test has."""
    with socket.socket(socket.AF_UNIX) as device:
        device.connect(sys.argv[1])
        device.sendall(root)
        item = b""
        while piece := device.recv(1 << 16):
            item += piece
    return {"sev-snp": item}


if __name__ == "__main__":
    order = json.load(sys.stdin)
    order["settings"]["attestation"].update(key="sev-snp", insecure_software_key=False)
    sys.stdin = io.StringIO(json.dumps(order))
    sys.exit(unlocking.main(collect))
