"""A network namespace in which every address is this machine's, and every packet is recorded.

    unshare --user --map-root-user --net python namespace.py < order.json > seen.json

An order has `directory`, `host` (the vendor's address), `commands` (argument lists), `files` (name to text) and `metrics`. In commands
and files `{url}` and `{ca}` are the vendor's server and its CA, `{metrics}` the gateway's counters. What comes back has each command's exit
code and output, the requests that the vendor's server got, and every packet as protocol, source and target.
"""

from __future__ import annotations

import base64
import fcntl
import ipaddress
import json
import os
import socket
import struct
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MARKER = ("203.0.113.99", 9)
"""Where a last packet goes, so that it is known when all before it were read."""


def everything_is_here() -> None:
    """Brings the loopback interface up and makes every IPv4 and IPv6 address local to it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        flags = struct.pack("16sh14x", b"lo", 0x1 | 0x40)  # IFF_UP | IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, flags)  # SIOCSIFFLAGS
    for family in (socket.AF_INET, socket.AF_INET6):
        # struct rtmsg: table local, protocol boot, scope host, type local; RTA_OIF: lo.
        message = struct.pack("BBBBBBBBI", family, 0, 0, 0, 255, 3, 254, 2, 0) + struct.pack("HHI", 8, 4, 1)
        header = struct.pack("IHHII", 16 + len(message), 24, 0x1 | 0x4 | 0x400, 1, 0)  # RTM_NEWROUTE
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
            netlink.send(header + message)
            (error,) = struct.unpack_from("i", netlink.recv(4096), 16)
            if error:
                raise OSError(-error, os.strerror(-error))


class Recorder:
    """Every packet of this namespace."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        self._thread = threading.Thread(target=self._record)
        self.packets: list[tuple[str, str, str]] = []
        self._thread.start()

    def finish(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", MARKER)
        self._thread.join(20)
        self._socket.close()

    def _record(self) -> None:
        while True:
            packet = read_packet(self._socket.recv(1 << 17)[14:])
            if packet[2] == f"{MARKER[0]}:{MARKER[1]}":
                return
            self.packets.append(packet)


def read_packet(data: bytes) -> tuple[str, str, str]:
    """Protocol, source and target of an IP packet."""
    if data[0] >> 4 == 4:
        protocol, source, target, rest = data[9], data[12:16], data[16:20], data[(data[0] & 15) * 4 :]
    else:
        protocol, source, target, rest = data[6], data[8:24], data[24:40], data[40:]
    ports = struct.unpack("!HH", rest[:4]) if protocol in (6, 17) else (0, 0)
    name = {6: "tcp", 17: "udp"}.get(protocol, str(protocol))
    return name, *(f"{ipaddress.ip_address(a)}:{p}" for a, p in zip((source, target), ports, strict=True))  # type: ignore[return-value]


def counters(text: str) -> ThreadingHTTPServer:
    """What the gateway's listener of metrics would say."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from fakes.vendor import WebServer

    order: dict[str, Any] = json.load(sys.stdin)
    directory = Path(order["directory"])
    everything_is_here()
    server = counters(order["metrics"])
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    with WebServer(directory, host=order["host"]) as vendor:
        gateway = f"127.0.0.1:{server.server_address[1]}"
        words = {"{url}": vendor.url, "{ca}": str(vendor.ca_file), "{metrics}": f"http://{gateway}"}

        def filled(text: str) -> str:
            for word, value in words.items():
                text = text.replace(word, value)
            return text

        for name, text in order["files"].items():
            (directory / name).write_text(filled(text))
        recorder = Recorder()
        ran = [
            subprocess.run([filled(part) for part in one], capture_output=True) for one in order["commands"]
        ]
        recorder.finish()
        seen = {
            "ran": [[one.returncode, one.stdout.decode(), one.stderr.decode()] for one in ran],
            "requests": [base64.b64encode(request).decode() for request in vendor.requests],
            "packets": sorted(set(recorder.packets)),
            "vendor": f"{order['host']}:{vendor.port}",
            "gateway": gateway,
        }
    server.shutdown()
    thread.join()
    server.server_close()
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main()
