"""`rlu update` in a network namespace in which every address is this machine's, and every packet is recorded.

    unshare --user --map-root-user --net python update_namespace.py < order.json > seen.json

An order has `directory`, with the vendor's models in `vendor/`; `host`, the mirror's address; `config`, the text of rlu.toml, in which
`{url}` and `{ca}` are the mirror's; and `runs`: a command, and where the mirror sends whoever asks while it runs, or nothing. What comes
back has each run's exit code and errors, every packet as protocol, source and target, and the mirror's address.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from fakes.model_vendor import serving
    from fakes.namespace import Recorder, everything_is_here

    order: dict[str, Any] = json.load(sys.stdin)
    directory = Path(order["directory"])
    everything_is_here()
    ran = []
    with serving(directory / "vendor", directory, host=order["host"]) as mirror:
        config = order["config"].replace("{url}", mirror.url).replace("{ca}", str(mirror.ca_file))
        (directory / "rlu.toml").write_text(config)
        recorder = Recorder()
        for one in order["runs"]:
            mirror.behaviour.redirect = one["redirect"]
            done = subprocess.run(one["command"], capture_output=True, text=True)
            ran.append([done.returncode, done.stderr])
        recorder.finish()
        seen = {"ran": ran, "packets": sorted(set(recorder.packets)), "mirror": mirror.host}
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
