"""A node's `/proc`, `/sys` and `/dev` as files below a directory: a healthy one, whose parts a test changes."""

from __future__ import annotations

from pathlib import Path

CPUINFO = "".join(f"processor\t: {n}\nflags\t\t: fpu avx2 avx512f hypervisor\n\n" for n in range(4))
FILES = {
    "proc/sys/kernel/osrelease": "6.12.1-amd64",
    "proc/sys/kernel/seccomp/actions_avail": "kill_process kill_thread trap errno user_notif trace log allow",
    "proc/sys/user/max_user_namespaces": "95000",
    "proc/swaps": "Filename\tType\tSize\tUsed\tPriority",
    "proc/cpuinfo": CPUINFO,
    "proc/meminfo": f"MemTotal:       {512 * 2**20} kB\nMemFree:        1 kB\nMemAvailable:   {500 * 2**20} kB",
    "sys/fs/cgroup/cgroup.controllers": "cpu memory",
    "sys/kernel/kexec_crash_loaded": "0",
    "sys/class/tpm/tpm0/tpm_version_major": "2",
    "dev/tpmrm0": "",
    "dev/shm/.keep": "",
}


class FakeNode:
    """A root directory; `put` and `drop` change it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in FILES.items():
            self.put(name, text)

    def put(self, name: str, text: str = "") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n" if text else "")
        return path

    def drop(self, name: str) -> None:
        (self.root / name).unlink()

    def amd_card(self, number: int, *, hive: str | None = "7", errors: str | None = "ue: 0\nce: 3") -> None:
        """One MI300X."""
        card = f"sys/class/drm/card{number}/device"
        for name, text in (
            ("vendor", "0x1002"),
            ("device", "0x74a1"),
            ("mem_info_vram_total", str(196288 << 20)),
            ("vbios_version", "113-M3000100-102"),
        ):
            self.put(f"{card}/{name}", text)
        if hive is not None:
            self.put(f"{card}/xgmi_hive_info/xgmi_hive_id", hive)
        if errors is not None:
            self.put(f"{card}/ras/umc_err_count", errors)
