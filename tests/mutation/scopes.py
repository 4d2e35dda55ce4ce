"""What is mutated, in parts, each with the tests that are to notice: sources below `rlu_attestation`, tests below `tests/attestation`."""

from __future__ import annotations

SCOPES: dict[str, tuple[str, str]] = {
    "verifier": (
        "verifier/*.py policy.py policy_file.py bundle.py strict_json.py verdict.py client.py answers.py",
        "verifier test_policy_file.py test_policy_hardware.py test_bundle.py test_verdict.py test_client.py test_answers.py "
        "test_canary.py test_model_signature.py",
    ),
    "kinds": (
        "verifier/kinds/*.py profiles.py gpus.py policy_hardware.py policy_table.py",
        "verifier test_policy_file.py test_policy_hardware.py",
    ),
    "primitives": (
        "canonical.py encoding.py merkle.py jose.py cose.py commitment.py claims.py instance.py models.py mentions.py "
        "channel.py statements.py",
        "test_vectors.py test_merkle.py test_statements.py test_bundle.py verifier",
    ),
    "evidence": (
        "evidence/binding.py evidence/tpm2/steps.py tpm/checks.py tpm/policy.py tpm/signatures.py chain.py",
        "evidence/tpm2 tpm evidence/test_binding.py test_chain.py test_endorsement.py verifier",
    ),
    "vtpm": (
        "evidence/gcp_vtpm/*.py evidence/azure_vtpm/*.py tpm/ima.py tpm/ima_log.py tpm/describe.py",
        "evidence/gcp_vtpm evidence/azure_vtpm tpm/test_ima.py tpm/test_ima_log.py",
    ),
    "connect": (
        "answers.py connect/guard.py connect/relay.py connect/closing.py connect/session.py connect/screen.py connect/sse.py "
        "connect/apis.py connect/pin.py",
        "connect test_client.py",
    ),
    "parsers": (
        "evidence/__init__.py evidence/tpm2/e*.py evidence/tpm2/i*.py tpm/algorithm.py tpm/attest.py tpm/eventlog.py "
        "tpm/members.py tpm/public.py endorsement.py x509.py der.py cursor.py crl.py",
        "evidence/tpm2 tpm evidence/test_kinds.py test_chain.py test_crl.py test_endorsement.py test_x509.py test_der.py "
        "test_cursor.py",
    ),
}

DEFAULT = ("verifier", "kinds", "evidence")
"""What must leave no survivor. Much of what the others refuse is found by tests that draw their input, which are not used here."""

EQUIVALENT: tuple[tuple[str, str, str], ...] = (
    # The caller's loop ends at the deadline, one reading of the clock later.
    ("client", "boundary", "left <= 0"),
    # No kind has hazards without a word on debugging.
    ("verifier.hardware", "drop-operand", "proof.hazards is None"),
    # Without cosignatures none is by a witness that the policy names either.
    ("verifier.witnessed", "drop-raise", "the bundle holds no cosignatures"),
)
"""Mutants that nobody could notice, each with its reason above it: end of the module's name, kind, part of what is shown."""
