"""The attestor's own process with a key that takes its time: `python slow_attestor.py CONFIG SECONDS [LEAVES]`.

LEAVES is how many statements one signature may cover; 1 signs them one by one.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import uvloop

from rlu_server import settings as configuration
from rlu_server.attestor import committer, process
from rlu_server.attestor.events import EventLog
from rlu_server.attestor.platform import Platform
from rlu_server.attestor.software import SoftwarePlatform
from rlu_server.settings import Settings


class SlowKey(SoftwarePlatform):
    """A software key that answers as late as a discrete TPM."""

    delay_s = 0.0

    def sign(self, digest: bytes) -> bytes:
        time.sleep(self.delay_s)
        return super().sign(digest)


def main() -> None:
    config, SlowKey.delay_s = Path(sys.argv[1]), float(sys.argv[2])
    if len(sys.argv) > 3:
        committer.MAX_BATCH = int(sys.argv[3])

    def slow(settings: Settings) -> Platform:
        return SlowKey(None, settings.state_dir / "starts")

    process.open_platform = slow
    uvloop.run(process.serve(configuration.load(config), frozenset({os.getuid()}), EventLog()))


if __name__ == "__main__":
    main()
