"""OpenStack Swift in one process, with its S3 interface: `python swift_server.py DIRECTORY`. Says on standard error where it listens.

Run with what scripts/setup.sh puts into .cache/swift. Accounts and listings are in the directory, objects in memory (by a server of Swift's
own, which asks nothing of the file system); nothing else is read or written. `s3_service` starts it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import eventlet
import eventlet.event

eventlet.monkey_patch()

from eventlet import wsgi  # noqa: E402
from swift.common import utils  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.wsgi import SwiftHttpProtocol, loadapp  # noqa: E402

ACCOUNT, USER, SECRET, REGION = "models", "mirror", "secret-of-the-mirror", "eu-central-1"
COMMON = """
[swift-hash]
swift_hash_path_prefix = a
swift_hash_path_suffix = b
[storage-policy:0]
name = only
default = yes
"""
STORAGE = """
[DEFAULT]
swift_dir = {home}
devices = {home}
mount_check = false
[pipeline:main]
pipeline = server
[app:server]
use = egg:swift#{egg}
"""
PROXY = f"""
[DEFAULT]
swift_dir = {{home}}
[pipeline:main]
pipeline = catch_errors s3api tempauth slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:s3api]
use = egg:swift#s3api
location = {REGION}
[filter:tempauth]
use = egg:swift#tempauth
user_{ACCOUNT}_{USER} = {SECRET} .admin
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


def main(home: Path) -> None:
    (home / "device").mkdir()
    (home / "swift.conf").write_text(COMMON)
    utils.SWIFT_CONF_FILE = str(home / "swift.conf")
    sockets = {
        name: eventlet.listen(("127.0.0.1", 0)) for name in ("account", "container", "object", "proxy")
    }
    ports = {name: one.getsockname()[1] for name, one in sockets.items()}
    for name, egg in (("account", "account"), ("container", "container"), ("object", "mem_object")):
        (home / f"{name}.conf").write_text(STORAGE.format(home=home, egg=egg))
        ring = RingBuilder(part_power=1, replicas=1, min_part_hours=0)
        place = {"ip": "127.0.0.1", "port": ports[name], "device": "device"}
        ring.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1, **place})
        ring.rebalance()
        ring.get_ring().save(str(home / f"{name}.ring.gz"))
    (home / "proxy.conf").write_text(PROXY.format(home=home))
    for name, one in sockets.items():
        app = loadapp(str(home / f"{name}.conf"))
        eventlet.spawn(wsgi.server, one, app, protocol=SwiftHttpProtocol, log_output=False)
    print(f"listening on http://127.0.0.1:{ports['proxy']}", file=sys.stderr, flush=True)
    eventlet.event.Event().wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
