"""How `rlu serve` and its processes end, and why a pod's container does."""

from __future__ import annotations

from rlu_attestation.codes.steps import Text

STARTING = {
    "serve.failed": Text(
        "The server did not start, for a reason that has no name of its own.",
        "Report it, with the line after it.",
    ),
    "serve.settings": Text(
        "The configuration cannot be read, or has an unknown key or a value out of range.",
        "Correct what the message names; server/rlu.example.toml shows every setting.",
    ),
    "serve.misconfigured": Text(
        "The configuration asks for something that is refused, such as an engine argument that would weaken the lock.",
        "Correct what the message names.",
    ),
    "serve.unavailable": Text(
        "This machine lacks something: a directory in memory, a TPM, vLLM, a port.",
        "Provide what the message names; `rlu preflight` looks for all of it.",
    ),
    "serve.start_failed": Text(
        "A process ended, or was not ready in time.",
        "The lines after it are the process's last words; events before it say why. For a large model raise `[engine] ready_timeout_s`.",
    ),
    "serve.model_refused": Text(
        "A model is not signed as it must be, or is not the one that was signed.",
        "`rlu model verify DIRECTORY` says which file; sign it, or name its signer in `[model] signers`.",
    ),
    "serve.lock_refused": Text(
        "The kernel granted less than the lock requires; the message names each restriction.",
        "Run `rlu preflight`; swap, Landlock and user namespaces are the usual ones. See `[lock]`.",
    ),
}

EXITS = {
    "exit.0": Text("It ended as it was told to.", "Nothing is to be done."),
    "exit.1": Text("A defect of ours, told on standard error.", "Report it."),
    "exit.2": Text(
        "The command line or the configuration is wrong.",
        "The message names the key: `serve.settings`, `serve.misconfigured`.",
    ),
    "exit.3": Text(
        "Something outside is not there: a directory, a TPM, a server.",
        "The message names it: `serve.unavailable`.",
    ),
    "exit.4": Text("A process did not start.", "As `serve.start_failed`."),
    "exit.10": Text(
        "A check refused: a model's signature, or a verification.",
        "As `serve.model_refused`; a verifier names its step.",
    ),
    "exit.11": Text(
        "Verified, but for waivers that are named.",
        "Read the waivers; a pipeline must not take this for success unless you decided so.",
    ),
    "exit.20": Text("A kind or version that is not supported here.", "See which versions both sides have."),
    "exit.30": Text("A file is malformed.", "Take it again from where it came."),
    "exit.40": Text("`rlu preflight` or `rlu doctor` found warnings, and no error.", "Read their remedies."),
    "exit.41": Text("`rlu preflight` or `rlu doctor` found errors.", "Follow the remedies, top down."),
    "exit.77": Text(
        "The kernel granted less of the lock than is required.",
        "As `serve.lock_refused`; in a pod see swap on the node, the runtime's seccomp profile and Landlock.",
    ),
    "exit.137": Text(
        "It was killed by SIGKILL: out of memory, a failed liveness probe, or a drain that took longer than the grace.",
        "Look at the pod's last state (OOMKilled) and the kernel's log; raise the limit, or the grace above `[gateway] drain_timeout_s`.",
    ),
    "exit.139": Text(
        "It crashed (SIGSEGV).", "Look at the kernel's log for GPU errors; report it with the versions."
    ),
    "exit.143": Text("It was ended by SIGTERM before it could drain.", "Nothing, if it was meant."),
}
