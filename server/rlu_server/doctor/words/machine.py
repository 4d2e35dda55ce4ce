"""Findings of `rlu preflight` on a node, and what each is about."""

from __future__ import annotations

from rlu_attestation.codes.steps import Text

_HERE = "`rlu preflight` says what to do on this node."

FINDINGS = {
    "cpu.count": Text(
        "How many processors there are.", "The gateway wants one to itself, the engine the rest."
    ),
    "cpu.vectors": Text("The CPU engine is made for AVX-512.", "Use another processor, or GPUs."),
    "memory.size": Text("Scratch, shared memory and the engine live in memory.", _HERE),
    "memory.shared": Text("vLLM's processes talk through /dev/shm.", "Give it 1 GiB or more."),
    "kernel.landlock": Text(
        "Landlock keeps the processes from files; version 3 also from truncating them.",
        "Use Linux 6.2 or later and boot with lsm=landlock,….",
    ),
    "kernel.seccomp": Text(
        "Filters of system calls are part of the lock.", "Use a kernel with CONFIG_SECCOMP_FILTER."
    ),
    "kernel.user_namespaces": Text("Without root, the engine's own network needs them.", _HERE),
    "kernel.swap": Text("Swap writes prompts to a disk.", "Turn it off, or keep pods from it."),
    "kernel.zswap": Text(
        "Swap through zswap is compressed in memory, and still reaches the disk behind it.",
        "Turn it off with swap.",
    ),
    "kernel.cgroup": Text(
        "Only cgroup v2 can keep a pod from swapping.", "Boot with systemd.unified_cgroup_hierarchy=1."
    ),
    "kernel.noswap": Text(
        "Scratch that never swaps is a tmpfs with `noswap`.", "Use Linux 6.4 or later, or keep all swap off."
    ),
    "kernel.crash_dump": Text(
        "A crash kernel writes memory, prompts included, to a disk after a panic.",
        "Disable kdump, or erase what it writes.",
    ),
    "tpm.version": Text("Earlier TPMs than 2.0 cannot hold the key.", "Switch the firmware to TPM 2.0."),
    "tpm.device": Text(
        "The TPM holds the instance key.", "Add the attestor's user to the group of /dev/tpmrm0."
    ),
    "tpm.ima": Text(
        "The kernel lists what it runs, and extends PCR 10 with it.",
        "To have the list beside every quote, add 10 to `[attestation] pcrs` and let the attestor's user read it.",
    ),
    "tee.sev_snp": Text(
        "An SEV-SNP guest's firmware makes reports.", "Give /dev/sev-guest to the attestor's user."
    ),
    "tee.tdx": Text("A TDX guest makes quotes.", "Give /dev/tdx_guest to the attestor's user."),
    "tee.nitro": Text("A Nitro Enclave's module makes documents.", "Give /dev/nsm to the attestor's user."),
    "tee.tsm": Text(
        "Reports of SEV-SNP and TDX come by configfs-tsm.", "Use Linux 6.7 or later, and mount configfs."
    ),
    "trust.key": Text(
        "Something must hold the instance key.",
        "Switch the TPM on in the firmware, or run in a confidential machine.",
    ),
    "gpu.present": Text("Which GPUs the driver shows.", "Pass the devices on, if some are missing."),
    "gpu.driver": Text("The GPUs' driver must answer.", _HERE),
    "gpu.vendors": Text("An engine serves from GPUs of one vendor.", "Let it see those only."),
    "gpu.mixed": Text("An instance states GPUs of one kind and one VBIOS.", "Let the engine see such only."),
    "gpu.confidential": Text(
        "GPUs make reports in confidential mode only; `devtools` protects nothing.",
        "Set the mode to on (or ppcie), and reset the GPUs.",
    ),
    "gpu.switches": Text(
        "In protected PCIe mode evidence of GPUs takes that of the NVSwitches that wire them.",
        "Install libnvidia-nscq of the driver's version, and pass /dev/nvidia-nvswitch* on.",
    ),
    "gpu.ecc": Text("Without error correction, weights rot unseen.", "Switch it on and reset the GPUs."),
    "gpu.ecc_pending": Text("A change of error correction waits for a reset.", "Reset the GPUs or reboot."),
    "gpu.memory_errors": Text(
        "A GPU's memory has errors that were not corrected.",
        "Drain the node; replace the GPU if they come back.",
    ),
    "gpu.links": Text(
        "Tensor parallelism goes over NVLink or xGMI.", "Check the fabric manager and the kernel's log."
    ),
    "gpu.persistence": Text(
        "Without persistence the driver is unloaded when idle.", "Run nvidia-persistenced."
    ),
    "gpu.performance": Text(
        "Which performance state the GPUs are in.",
        "Idle GPUs are slow until they work; nothing is to be done.",
    ),
    "profile.key": Text(
        "The hardware profile asks for a key holder that is not here.",
        "Make its device available, or choose another profile.",
    ),
    "profile.gpu_count": Text(
        "The profile has another number of GPUs.", "Make exactly these visible, or choose another profile."
    ),
    "profile.gpu_name": Text("The profile is of other GPUs.", "Choose the profile of these."),
    "profile.gpu_memory": Text(
        "The profile's GPUs have another memory: partitioned (MIG), perhaps.",
        "Take the partitions away, or choose another profile.",
    ),
    "profile.satisfied": Text("The node is as the profile says.", "Nothing is to be done."),
    "profile.unattested": Text(
        "What no evidence of this profile speaks of.", "Read it; policies can ask for no more."
    ),
    "storage.read": Text(
        "How fast weights load.", "Put them on local NVMe, or raise `[engine] ready_timeout_s`."
    ),
}
