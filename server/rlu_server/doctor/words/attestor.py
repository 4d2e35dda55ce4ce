"""Why the attestor does not start, sign, collect evidence or rotate: codes in its events, and of commands that use its parts."""

from __future__ import annotations

from rlu_attestation.codes.steps import Text

_INTRUSION = "If nobody did that on purpose, treat it as an intrusion: docs/runbook.md, `Revoke and prove`."
_NEW_KEY = "Bring the newest state back; if it is lost, a new key is needed: docs/runbook.md, `A TPM is lost or cleared`."
_LOG = "Audit it with `rlu log audit`, and bring the newest backup; never bring back an old copy."
_AGAIN = "It is tried again by itself; if it stays, look at the kernel's log and at who else uses the device."
_FILE = "Correct the file, or its owner and mode; the message names it."
_ENROL = "Enrol this TPM again: `rlu keys register`, or by files: `rlu keys export`, `rlu keys import`."
_COLLATERAL = "Fetch it anew with `rlu collateral fetch --for-attestor`, into `[attestation] collateral_dir`."
_DEVICES = "Pass the devices on to the attestor's container, and give its user their group."
_BUG = "Are gateway and attestor of one version? Else report it."

ATTESTOR = {
    # the TPM
    "tpm.unreachable": Text(
        "The TPM does not answer: no device, no permission, or its emulator has ended.",
        "See `[attestation] tcti`, the group of /dev/tpmrm0, and in a pod the device plugin. " + _AGAIN,
    ),
    "tpm.failed": Text("The TPM answered with an error that has no better name.", _AGAIN),
    "tpm.response": Text(
        "The TPM's answer was cut short or altered between it and us.",
        "Look at what is between: an emulator, a proxy, a bus. " + _INTRUSION,
    ),
    "tpm.cleared": Text(
        "The key was wrapped by another TPM, or this one was cleared.",
        "A TPM that nobody cleared is an incident. A new key: docs/runbook.md, `A TPM is lost or cleared`.",
    ),
    "tpm.platform_state": Text("PCRs are not those that the key was made under.", "As `key.platform_state`."),
    "tpm.secret": Text("The file `attestation/secret` is not the one that the key was made with.", _NEW_KEY),
    "tpm.lockout": Text(
        "The TPM is in its lockout after wrong authorisations.",
        "Wait until it ends, or reset it with the lockout password; find out who tried.",
    ),
    "tpm.owner_password": Text(
        "The owner hierarchy has a password.", "Empty it: `tpm2_changeauth -c owner`."
    ),
    "tpm.unsupported": Text(
        "The TPM, or the kernel's resource manager, does not know a command.",
        'Use TPM 2.0 firmware of this decade; for NitroTPM set `tcti = "device:/dev/tpm0"`.',
    ),
    "tpm.pcr_bank": Text("The TPM has no active SHA-256 bank.", "Switch the bank on in the firmware."),
    "tpm.pcr_changed": Text(
        "Something extended a PCR while it was quoted.",
        "Find what measures at run time into the PCRs of `[attestation] pcrs`, or leave that PCR out.",
    ),
    "ima.list": Text(
        "PCR 10 is quoted, and the attestor cannot read the kernel's list of measurements that leads to it.",
        "Let its user read /sys/kernel/security/ima/binary_runtime_measurements, which is root's "
        "(tmpfiles.d: `z … 0440 root tss`), or take 10 from `[attestation] pcrs`.",
    ),
    "ima.size": Text(
        "The kernel's list of measurements is too long for evidence.",
        "Let the kernel's IMA policy measure less and reboot, or take 10 from `[attestation] pcrs`.",
    ),
    "ima.form": Text(
        "The kernel's list of measurements has a template or a PCR that verifiers do not read.",
        "Change the kernel's IMA policy or template, or take 10 from `[attestation] pcrs`.",
    ),
    "ima.mismatch": Text(
        "The kernel's list of measurements does not lead to the PCR 10 that the TPM quotes.",
        "Was the kernel started by kexec? Reset the machine, or take 10 from `[attestation] pcrs`. "
        + _INTRUSION,
    ),
    "tpm2.ek_nv": Text(
        "What the TPM's NV memory holds as EK certificate is none.",
        "Ask the TPM's vendor; firmware updates sometimes lose it.",
    ),
    "ek.certificate_missing": Text(
        "The TPM holds no EK certificate.",
        "Ask its vendor, or use the cloud's own certificate of the AK (`[attestation] key`).",
    ),
    "ek.certificate_mismatch": Text(
        "The EK certificate is not for this TPM's EK.",
        "Firmware that was exchanged does that; ask the vendor.",
    ),
    # the key
    "key.platform_state": Text(
        "The measured boot is another one than the key was made under: firmware, boot loader, secure boot.",
        "Was it meant? Then a new key: docs/runbook.md, `The attestor does not start`. " + _INTRUSION,
    ),
    "key.attributes": Text(
        "The key in the file or handle lacks an attribute that hardware binding needs.",
        "Move it away; the attestor makes one. " + _INTRUSION,
    ),
    "key.file": Text(
        "The file at `[attestation] key_path` holds no key that can be used.",
        "Bring the right file back, or move it away for a new key.",
    ),
    "key.handle": Text(
        "`[attestation] key_path` names no persistent handle of the owner.", "Correct it: such as 0x81000010."
    ),
    "key.handles": Text(
        "`attestation/handles.json`, which says at which handle the key in use is, is damaged.",
        "Restore it; or move it away, and the key at `[attestation] key_path` is used, or a new one made there.",
    ),
    "key.absent": Text(
        "The key in use is not at its handle in `attestation/handles.json`: the TPM was cleared or exchanged, or somebody tidied it.",
        "For a new key move `handles.json` away: docs/runbook.md, `A TPM is lost or cleared`. " + _INTRUSION,
    ),
    "key.parent": Text(
        "The key was made under another parent than the default storage key.",
        "Let the attestor make it: move the file away.",
    ),
    "key.software": Text(
        "The key file holds a software key, and `insecure_software_key` is false.",
        "Remove the file; a key is made inside the TPM.",
    ),
    "key.changed": Text(
        "The key at its handle was replaced while the attestor ran.", "Restart the server. " + _INTRUSION
    ),
    "key.age": Text(
        "The file that says when the key was made is damaged.",
        "Restore `attestation/key.json`, or rotate the key.",
    ),
    "secret.permissions": Text(
        "Others may read the attestor's secret.",
        "Set its mode to 600; if they may have read it, rotate the key.",
    ),
    "secret.size": Text("The attestor's secret has the wrong length.", _NEW_KEY),
    "secret.unreadable": Text("The attestor's secret cannot be read.", _FILE),
    "counter.file": Text(
        "The counter of starts beside a software key is damaged.",
        "Remove it together with the key; laptops only.",
    ),
    # rotation
    "rotation.under_way": Text(
        "Sessions of the key before this one are open.", "Wait, or `rlu keys retire`."
    ),
    "rotation.none": Text("No key has stepped down, so none can be retired.", "Nothing is to be done."),
    "rotation.handle": Text(
        "None of the sixteen handles from that of `[attestation] key_path` on is free for the next key.",
        "Remove what is not used there (`tpm2_getcap handles-persistent`, `tpm2_evictcontrol`), and rotate again.",
    ),
    "rotation.key_file": Text("A software key that was given is not replaced.", "Give another file."),
    # the log
    "log.damaged": Text("Bytes of the log are not those that were written.", _LOG),
    "log.head": Text("The log's head does not fit its leaves, or is not by this key.", _LOG),
    "log.header": Text("The log is of another version, or its first line was changed.", _LOG),
    "log.index": Text("A leaf of the log stands at the wrong place.", _LOG),
    "log.session": Text("The log has an entry of a session that it never opened.", _LOG),
    "log.size": Text("A head of the log is over another number of leaves.", _LOG),
    "log.restored": Text("The TPM counted more starts than the log knows: the log is an old copy.", _NEW_KEY),
    "log.start_counter": Text(
        "The TPM's counter of starts went back, or is another's.",
        "Another instance may have used this TPM, or it was exchanged. " + _INTRUSION,
    ),
    "log.in_use": Text(
        "Another attestor has this state directory.", "Find and stop it; never take its lock away."
    ),
    "log.retired": Text(
        "This log was closed when another key took over.",
        "Move the old key file away; a key does not come back.",
    ),
    "clock.set_back": Text(
        "The clock is before the time of the log's last head.",
        "Set the clock right (NTP); it goes on by itself.",
    ),
    # facts
    "facts.missing": Text(
        "The launcher has not written what is to be stated.",
        "Start by `rlu serve`; in a pod, see that both containers mount the same directories.",
    ),
    "facts.malformed": Text(
        "What the launcher wrote cannot be read.", "See that the pod's images are of one version."
    ),
    "facts.unreadable": Text("The attestor may not read what the launcher wrote.", _FILE),
    "hello.tls": Text("The gateway's greeting contradicts itself about TLS.", _BUG),
    "peer.uid": Text(
        "A process of another user connected to the attestor's socket.", "See `[lock] uids`. " + _INTRUSION
    ),
    "peer.too_many": Text(
        "More processes are connected to the attestor than a gateway has.",
        "See that only one gateway runs. " + _INTRUSION,
    ),
    "policy.not_appraised": Text(
        "The attestor could not appraise itself by its policy, so it counts as drift.",
        "Check the policy with `rlu policy check`, and its files.",
    ),
    # enrolment
    "enrolment.missing": Text("This TPM was not enrolled with a registrar.", _ENROL),
    "enrolment.unreadable": Text("The enrolment cannot be read.", _FILE),
    "enrolment.document": Text(
        "The file is no document of a registrar's.", "Take it again from where it came, whole."
    ),
    "enrolment.other_ak": Text("The enrolment is for another AK than this machine's.", _ENROL),
    "enrolment.other_ek": Text("The certificate names another EK than the one beside it.", _ENROL),
    "enrolment.challenge": Text(
        "The challenge was made for another TPM or AK.",
        "Send this machine's own request, and use the challenge to it.",
    ),
    # evidence
    "collateral.file": Text("A file of the collateral directory cannot be used.", _COLLATERAL),
    "collateral.directory": Text("The collateral directory cannot be listed, or holds too much.", _FILE),
    "sev-snp.endorsement": Text(
        "Neither host nor collateral directory has AMD's certificates for this chip.", _COLLATERAL
    ),
    "sev-snp.report": Text(
        "AMD's firmware gave a report that cannot be used.",
        "Update firmware and kernel; report it with `rlu inspect`.",
    ),
    "sev-snp.raced": Text("The report was over another program's data.", _AGAIN),
    "tdx.quote": Text(
        "The quote cannot be used.", "Is the host's quote generation service up, and of this decade?"
    ),
    "tdx.raced": Text("The quote was over another program's data.", _AGAIN),
    "tsm.provider": Text(
        "The directory configfs-tsm belongs to another kind of TEE than `[attestation] key` says.",
        "Set `key` to the kind of this machine.",
    ),
    "tsm.raced": Text(
        "Another program writes to our reports.", "Find it, and let it use a directory of its own."
    ),
    "tsm.absent": Text(
        "The kernel has no configfs-tsm.", "Use Linux 6.7 or later, and mount configfs at /sys/kernel/config."
    ),
    "tsm.denied": Text(
        "The attestor may not make reports.", "Give /sys/kernel/config/tsm/report to its user."
    ),
    "tsm.busy": Text("Reports are being made for somebody else.", _AGAIN),
    "tsm.failed": Text(
        "The kernel did not make a report.", "Look at the kernel's log, and at the host's quote generation."
    ),
    "nsm.absent": Text(
        "There is no Nitro Secure Module.", "Run inside a Nitro Enclave, or set `[attestation] key`."
    ),
    "nsm.denied": Text("The attestor may not use /dev/nsm.", _DEVICES),
    "nsm.busy": Text("The Nitro Secure Module is busy.", _AGAIN),
    "nsm.failed": Text(
        "The Nitro Secure Module does not work.", "Look at the kernel's log; restart the enclave."
    ),
    "nsm.refused": Text(
        "The Nitro Secure Module refused the request.", "Report it; the message names its reason."
    ),
    "nsm.answer": Text(
        "The Nitro Secure Module gave no document that can be used.",
        "Report it; the message says what is wrong.",
    ),
    "nitrotpm.absent": Text(
        "This EC2 instance has no NitroTPM attestation.",
        'Launch from an attestable AMI, and set `tcti = "device:/dev/tpm0"`.',
    ),
    "nitrotpm.full": Text(
        "No NV index is free for NitroTPM's answer.", "Remove some with `tpm2_nvundefine`."
    ),
    "gcp-vtpm.absent": Text(
        "The TPM holds no attestation key of Google's.",
        "Use an instance with vTPM, or set `[attestation] key`.",
    ),
    "gcp-vtpm.ak": Text(
        "Google's attestation key cannot be used, or its certificate is of another.",
        "Was the TPM cleared? Then a new instance is needed.",
    ),
    "gcp-vtpm.chain": Text("Google's intermediate or root is not at hand.", _COLLATERAL),
    "azure-vtpm.absent": Text(
        "The TPM has no key or HCL report of Azure's.", "Use a confidential VM, or set `[attestation] key`."
    ),
    "azure-vtpm.ak": Text(
        "Azure's attestation key cannot be used, or is not the HCL report's.",
        "Was it replaced? Then a new VM is needed.",
    ),
    "azure-vtpm.chain": Text("An issuer of Azure's certificates is not at hand.", _COLLATERAL),
    "azure-vtpm.hcl": Text(
        "Azure's HCL report cannot be used.", "Report it; the message says what is wrong."
    ),
    "azure-vtpm.quote": Text(
        "`azure-vtpm/quote.bin` is no quote, or of another boot.",
        "Have the host make a quote of this boot, and put it into the collateral directory.",
    ),
    # GPUs
    "gpu.none": Text(
        "No GPU is visible to the attestor.", _DEVICES + ' Or set `[attestation.gpu] vendor = "none"`.'
    ),
    "gpu.mixed": Text(
        "The attestor sees GPUs of several kinds; an instance can state only one.",
        "Let it see only those that serve.",
    ),
    "gpu.sysfs": Text("The attestor cannot read amdgpu's figures.", "Let it read /sys/class/drm."),
    "nvidia.none": Text("No GPU is visible to the attestor, which is to collect their reports.", _DEVICES),
    "nvidia.report": Text(
        "The report or certificates of a GPU or NVSwitch cannot be used.",
        "Is confidential computing on for all GPUs, and the driver supported?",
    ),
    "nvidia.wiring": Text(
        "The GPUs and NVSwitches that report are not those that say they are wired to each other.",
        "Pass all of the node on to the attestor: /dev/nvidia* and /dev/nvidia-nvswitch*, "
        "in a container with NVIDIA_NVSWITCH=enabled.",
    ),
    "nscq.absent": Text(
        "The GPUs are wired to NVSwitches, and NVIDIA's library for these cannot be loaded.",
        "Install libnvidia-nscq of the driver's version; in a container `NVIDIA_DRIVER_CAPABILITIES` needs `utility`.",
    ),
    "nscq.busy": Text("An NVSwitch did not answer in time.", _AGAIN),
    "nscq.count": Text("NVIDIA's library lists more NVSwitches than are handled.", "Pass fewer on."),
    "nscq.denied": Text("The attestor may not open an NVSwitch.", _DEVICES),
    "nscq.driver": Text(
        "NVIDIA's library for NVSwitches is too old, or of another version than the driver.",
        "Install libnvidia-nscq of the driver's version.",
    ),
    "nscq.failed": Text(
        "NVIDIA's library for NVSwitches answered with an error.",
        "Look at the kernel's log for SXid errors, and whether the fabric manager runs.",
    ),
    "nscq.lost": Text(
        "An NVSwitch gives no answer any more.",
        "Drain the node; reboot, and have the switch replaced if it comes back.",
    ),
    "nscq.size": Text(
        "NVIDIA's library for NVSwitches gave an answer of a length that cannot be.", "Update it."
    ),
    "nvml.absent": Text(
        "NVIDIA's management library cannot be loaded.",
        "Install the driver; in a container `NVIDIA_DRIVER_CAPABILITIES` needs `utility`.",
    ),
    "nvml.busy": Text("The GPU is busy or in use.", _AGAIN),
    "nvml.count": Text("The driver lists more GPUs than are handled.", "Let the attestor see fewer."),
    "nvml.denied": Text("The attestor may not ask the driver.", _DEVICES),
    "nvml.driver": Text(
        "The driver is not loaded, or of another version than its library.",
        "Reboot after an update of the driver.",
    ),
    "nvml.failed": Text(
        "The driver answered with an error.",
        "Look at the kernel's log for Xid errors; drain the node if they are there.",
    ),
    "nvml.gpu_lost": Text(
        "A GPU has fallen off the bus.",
        "Drain the node; reset the GPU or reboot, and replace it if it comes back.",
    ),
    "nvml.not_confidential": Text(
        "The GPUs are not in confidential mode, so they make no reports.",
        'Switch the mode on, or set `[attestation.gpu] evidence = "none"`.',
    ),
    "nvml.size": Text("The driver's answer has a length that cannot be.", "Update the driver."),
    # canary, licence, export
    "canary.other_deployment": Text(
        "The canary test was made with another deployment than this one states.",
        "Run it again with the settings that serve.",
    ),
    "canary.time": Text(
        "The canary test is too old, or from the future.", "Run it again; compare the clocks."
    ),
    "licence.mark": Text(
        "The file that remembers the latest time known is damaged.",
        "Right the clock; the licence is judged by the time of the log's head.",
    ),
    "export.cursor": Text(
        "The export's place in the log cannot be read or written.",
        "Correct its owner; remove it to export from the beginning.",
    ),
}

GATEWAYS_PROOF = {
    "instance.channel": Text(
        "The attestor's statement names another TLS key than the gateway's own.", _INTRUSION
    ),
    "instance.key": Text(
        "The attestor's statement is about, or by, another key than it presented.", _INTRUSION
    ),
    "instance.profile": Text("The attestor's profile digest is not that of its statement.", _INTRUSION),
    "session.claims": Text("The attestor signed another session than was asked for.", _INTRUSION),
    "session.head": Text("The attestor's proof is not for the entry it claims.", _INTRUSION),
}
"""Of `attestor_untrusted`: an answer of the attestor that the gateway does not believe."""
