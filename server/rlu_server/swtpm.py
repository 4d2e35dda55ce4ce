"""A software TPM 2.0 (swtpm) with a certificate authority of its own, for laptops, the demo and tests.

An emulator proves nothing about hardware: its endorsement certificates come from a CA made on the same disk, and only a policy that
names that CA accepts them. The state directory is laid out as

    tpm/              swtpm's state
    ca/               the local CA: root and issuer certificates, and their keys
    *.conf, *.options configuration of swtpm_setup and swtpm_localca
    swtpm.sock        where it listens: a Unix socket, since a locked attestor has no network

so that nothing outside it is read or written.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

from rlu_server import terminal

START_TIMEOUT_S = 60.0
SETUP_TIMEOUT_S = 120.0
TOOLS = ("swtpm", "swtpm_setup", "swtpm_localca", "setpriv")
MAX_SOCKET_PATH = 107


class SwtpmError(Exception):
    """The software TPM could not be made or started; the message says what to do."""


def root_certificate(directory: Path) -> Path:
    """PEM file of the local CA's root, which a policy names as EK root."""
    return directory / "ca" / "swtpm-localca-rootca-cert.pem"


def issuer_certificate(directory: Path) -> Path:
    """PEM file of the intermediate that issued the EK certificates."""
    return directory / "ca" / "issuercert.pem"


def manufacture(directory: Path) -> None:
    """Make the TPM once: RSA-2048 and P-384 endorsement keys, and their certificates by the local CA.

    Does nothing when the TPM is there already.

    Raises:
        SwtpmError: a tool is missing or failed.
    """
    if (directory / "tpm" / "tpm2-00.permall").exists():
        return
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise SwtpmError(f"{', '.join(missing)} not found: apt-get install swtpm swtpm-tools")
    for part in (directory / "tpm", directory / "ca"):
        part.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = ["swtpm_setup", "--tpm2", "--tpmstate", str(directory / "tpm"), "--overwrite"]
    command += ["--createek", "--create-ek-cert", "--create-platform-cert", "--lock-nvram"]
    command += ["--config", str(_write_configuration(directory))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SETUP_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise SwtpmError(f"swtpm_setup did not end within {SETUP_TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        raise SwtpmError(f"swtpm_setup failed ({done.returncode}): {(done.stdout + done.stderr)[-800:]}")


class SoftwareTpm:
    """A running swtpm; a context manager that stops it.

    Args:
        user: who is to reach it beside us, such as an attestor with a user id of its own.

    Attributes:
        directory: its state, see above.
        tcti: what `settings.attestation.tcti` takes.
        pid: the swtpm process.
    """

    def __init__(self, directory: Path, user: int | None = None) -> None:
        self.directory = directory
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None
        self._socket = directory.resolve() / "swtpm.sock"

    @property
    def tcti(self) -> str:
        return f"swtpm:path={self._socket}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise SwtpmError("the software TPM is not running")
        return self._process.pid

    def start(self) -> SoftwareTpm:
        """Power the TPM on (a platform reset: PCRs are as after boot).

        Raises:
            SwtpmError: it did not come up.
        """
        if len(f"{self._socket}.ctrl") > MAX_SOCKET_PATH or "," in str(self._socket):
            raise SwtpmError(
                f"{self._socket} is no usable socket path: take a shorter directory, without commas"
            )
        manufacture(self.directory)
        for path in (self._socket, self._control):
            path.unlink(missing_ok=True)
        # Ends with us, even if we are killed: a second TPM could not lock the state.
        command = [
            "setpriv",
            "--pdeathsig",
            "TERM",
            "swtpm",
            "socket",
            "--tpm2",
            "--tpmstate",
            f"dir={self.directory / 'tpm'}",
        ]
        command += ["--server", f"type=unixio,path={self._socket}"]
        # The TCTI expects the control channel under this name.
        command += ["--ctrl", f"type=unixio,path={self._control}"]
        command += ["--flags", "not-need-init,startup-clear"]
        with (self.directory / "swtpm.log").open("wb") as log:
            # Ctrl-C on the terminal must not take the TPM away from a server that drains.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **terminal.apart()
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while process.poll() is None and time.monotonic() < deadline:
            # Each is bound a moment before it listens; the control channel is made first.
            if _listens(self._socket) and _listens(self._control):
                self._process = process
                self._open_to_user()
                return self
            time.sleep(0.01)
        process.kill()
        process.wait()
        raise SwtpmError(f"swtpm did not start; see {self.directory / 'swtpm.log'}")

    def _open_to_user(self) -> None:
        if self._user is not None:
            self.directory.chmod(0o711)
            for path in (self._socket, self._control):
                os.chown(path, self._user, -1)

    @property
    def _control(self) -> Path:
        return self._socket.with_name(f"{self._socket.name}.ctrl")

    def stop(self) -> None:
        """Power the TPM off."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def __enter__(self) -> SoftwareTpm:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _write_configuration(directory: Path) -> Path:
    authority = directory / "ca"
    (directory / "localca.conf").write_text(
        f"statedir = {authority}\nsigningkey = {authority}/signkey.pem\n"
        f"issuercert = {authority}/issuercert.pem\ncertserial = {authority}/certserial\n"
    )
    (directory / "localca.options").write_text(
        "--platform-manufacturer RLU\n--platform-version 1\n--platform-model software-tpm\n"
    )
    setup = directory / "setup.conf"
    setup.write_text(
        f"create_certs_tool = {shutil.which('swtpm_localca')}\n"
        f"create_certs_tool_config = {directory}/localca.conf\n"
        f"create_certs_tool_options = {directory}/localca.options\nactive_pcr_banks = sha256\n"
    )
    return setup


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0
