"""The gateway's certificate: what clients of all kinds need of it to trust it as it is."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from cryptography import x509

from rlu_server.adapters.tls import VALIDITY, make

NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)


def test_boringssl_takes_it_for_self_signed() -> None:
    certificate = x509.load_pem_x509_certificate(make(("gateway.example", "10.1.2.3"), NOW).certificate_pem)
    assert certificate.issuer == certificate.subject
    # A key usage without the right to sign certificates, and Bun (opencode) trusts it from no file.
    with pytest.raises(x509.ExtensionNotFound):
        certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["gateway.example"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["10.1.2.3"]
    assert certificate.not_valid_after_utc == NOW + VALIDITY
