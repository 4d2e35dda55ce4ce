"""What the gateway is compared with: a plain reverse proxy as the limit and the usual framework relay; routers are in `installed.py`.

Each is configured as its own documentation advises for streaming, with access logs off.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.certificates import Certificate
from bench.processes import BENCHMARKS, BenchError, Engine, Process, accepts, free_port, start, wait_until


@dataclass(slots=True)
class System:
    """A system under test, ready to be asked."""

    name: str
    target: str
    processes: list[Process] = field(default_factory=list)
    ca: Path | None = None
    key: str | None = None
    version: str = ""
    note: str = ""
    only: frozenset[str] | None = None
    """Names of the scenarios it takes part in, in one round; None: all, in every round."""

    def pids(self) -> tuple[int, ...]:
        return tuple(pid for process in self.processes for pid in process.pids())

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.stop()


@dataclass(frozen=True, slots=True)
class Bench:
    """Where things run: systems under test on `cores`, engine and load on others.

    Attributes:
        workers: worker processes of systems that have them; there are as many cores.
    """

    scratch: Path
    engine: Engine
    cores: tuple[int, ...]
    cache: Path
    certificate: Certificate
    workers: int = 1


Starter = Callable[[Bench], System]


def direct(bench: Bench) -> System:
    """No hop at all, over the engine's Unix socket."""
    return System("direct", f"unix:{bench.engine.uds}", version="-", note="no hop")


NGINX = """
{user} daemon off; worker_processes {workers}; pid {scratch}/nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  {paths}
  upstream engine {{ server unix:{uds}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    listen 127.0.0.1:{tls_port} ssl backlog=1024;
    ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;
    keepalive_requests 1000000000; client_max_body_size 64m; client_body_buffer_size 1m;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; proxy_request_buffering off;
    }}
  }}
}}
"""


def nginx_program() -> str:
    """Where nginx is; installed from the distribution when it is missing and we may."""
    install = ["apt-get", "install", "-y", "--no-install-recommends", "nginx-light"]
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    if shutil.which("nginx", path=path) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        print("  installing nginx-light", file=sys.stderr)
        subprocess.run(install, capture_output=True, check=False)
    found = shutil.which("nginx", path=path)
    if found is None:
        raise BenchError(f"nginx is not installed; run: {' '.join(install)}")
    return found


def _nginx(bench: Bench, name: str, tls: bool) -> System:
    port, tls_port = free_port(), free_port()
    scratch = bench.scratch / name
    scratch.mkdir()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    configuration = NGINX.format(
        # Workers of a root's nginx would be `nobody`, who cannot reach the engine's socket.
        user="user root;" if os.geteuid() == 0 else "",
        scratch=scratch,
        paths=" ".join(f"{kind}_temp_path {scratch}/{kind};" for kind in kinds),
        uds=bench.engine.uds,
        port=port,
        tls_port=tls_port,
        workers=bench.workers,
        certificate=bench.certificate.chain,
        key=bench.certificate.key,
    )
    (scratch / "nginx.conf").write_text(configuration)
    program = nginx_program()
    said = subprocess.run([program, "-v"], capture_output=True, check=True).stderr.decode()
    command = [program, "-p", str(scratch), "-c", str(scratch / "nginx.conf")]
    process = wait_until(start(name, command, bench.cores, scratch), accepts(port))
    target = f"https://localhost:{tls_port}" if tls else f"http://127.0.0.1:{port}"
    return System(
        name, target, [process], bench.certificate.chain if tls else None, version=said.strip().split("/")[-1]
    )


def nginx(bench: Bench) -> System:
    """A plain reverse proxy that checks and signs nothing: the limit."""
    return _nginx(bench, "nginx", tls=False)


def nginx_tls(bench: Bench) -> System:
    return _nginx(bench, "nginx-tls", tls=True)


def _script(bench: Bench, name: str, program: str, only: frozenset[str] | None = None) -> System:
    port = free_port()
    command: list[str | Path] = [
        sys.executable,
        BENCHMARKS / "bench" / program,
        str(bench.engine.uds),
        str(port),
    ]
    process = wait_until(start(name, command, bench.cores, bench.scratch), accepts(port))
    return System(name, f"http://127.0.0.1:{port}", [process], only=only)


def bare(bench: Bench) -> System:
    """asyncio, llhttp and nothing on: for less no relay in Python takes a request."""
    system = _script(bench, "bare", "bare_relay.py")
    system.note = "asyncio.Protocol, uvloop and llhttp in Python; passes bytes on, checks and signs nothing"
    return system


def framework(bench: Bench) -> System:
    """FastAPI with an httpx client, streaming: what most gateways are built from."""
    return _script(
        bench, "fastapi+httpx", "framework_relay.py", only=frozenset({"short", "flooded", "paced"})
    )
