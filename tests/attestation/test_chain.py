"""Paths to trust anchors, beyond what the steps of TPM evidence already show (tests of `evidence/tpm2`)."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509 as pyca
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from fakes.pki import AT, YEAR, Authority, common_name, usage
from fakes.tpm import private_key
from rlu_attestation import chain, x509
from rlu_attestation.errors import RluError, Unsupported, Untrusted


def certificate(authority: Authority) -> x509.Certificate:
    return x509.parse(authority.der)


def leaf(issuer: Authority, digest: hashes.HashAlgorithm, **options: Any) -> x509.Certificate:
    builder = (
        pyca.CertificateBuilder()
        .subject_name(common_name("leaf"))
        .issuer_name(common_name(issuer.name))
        .public_key(private_key("p256", "chain/leaf").public_key())
        .serial_number(1)
        .not_valid_before(AT - YEAR)
        .not_valid_after(AT + YEAR)
        .add_extension(usage("digital_signature"), critical=True)
    )
    return x509.parse(builder.sign(issuer.key, digest, **options).public_bytes(Encoding.DER))


def code_of(*arguments: Any) -> str:
    with pytest.raises(RluError) as refused:
        chain.verify_chain(*arguments, AT, "step")
    return refused.value.code


@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()])
@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048"])
def test_signature_algorithms(kind: str, digest: hashes.HashAlgorithm) -> None:
    root = Authority(f"root {kind}", kind)
    found = leaf(root, digest)
    assert chain.verify_chain(found, [], [certificate(root)], AT, "step") == (found, certificate(root))


@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA512()])
@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048"])
def test_an_issuer_of_the_same_name_with_another_key(kind: str, digest: hashes.HashAlgorithm) -> None:
    root, forger = Authority(f"root {kind}", kind), Authority(f"root {kind}", kind)
    forger.key = private_key(kind, "forger")
    assert code_of(leaf(forger, digest), [], [certificate(root)]) == "step.signature"


@pytest.mark.parametrize("salt", [0, 20, 32, 48])
@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384()])
def test_rsa_pss(digest: hashes.HashAlgorithm, salt: int) -> None:
    root = Authority("root rsa2048", "rsa2048")
    found = leaf(root, digest, rsa_padding=padding.PSS(padding.MGF1(digest), salt))
    chain.verify_chain(found, [], [certificate(root)], AT, "step")
    other = Authority("root rsa2048", "rsa2048")
    other.key = rsa.generate_private_key(65537, 2048)
    forged = leaf(other, digest, rsa_padding=padding.PSS(padding.MGF1(digest), salt))
    assert code_of(forged, [], [certificate(root)]) == "step.signature"


def test_rsa_pss_with_another_hash_for_mgf1_refuses() -> None:
    root = Authority("root rsa2048", "rsa2048")
    scheme = padding.PSS(padding.MGF1(hashes.SHA384()), 32)
    found = leaf(root, hashes.SHA256(), rsa_padding=scheme)
    assert code_of(found, [], [certificate(root)]) == "step.algorithm"


SHA256, SHA3, MGF1 = "06096086480165030402010500", "06096086480165030402080500", "06092a864886f70d010108"


def tlv(tag: str, *parts: str) -> str:
    content = "".join(parts)
    return f"{tag}{len(content) // 2:02x}{content}"


def pss_parameters(hash_alg: str | None, mask: str | None, salt: str | None) -> str:
    """RSASSA-PSS-params; None leaves a field to its default."""
    fields = [tlv("a0", tlv("30", hash_alg))] if hash_alg else []
    fields += [tlv("a1", tlv("30", mask))] if mask else []
    fields += [tlv("a2", salt)] if salt else []
    return tlv("30", *fields)


MGF1_SHA256 = MGF1 + tlv("30", SHA256)


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        (pss_parameters(SHA256, MGF1_SHA256, "020120"), "step.signature"),
        (pss_parameters(SHA256, MGF1_SHA256, None), "step.signature"),
        (pss_parameters(None, None, None), "step.algorithm"),
        (pss_parameters(None, MGF1_SHA256, "020120"), "step.algorithm"),
        (pss_parameters(SHA256, None, "020120"), "step.algorithm"),
        (pss_parameters(SHA3, MGF1 + tlv("30", SHA3), "020120"), "step.algorithm"),
        (pss_parameters(SHA256, SHA256[:22] + tlv("30", SHA256), "020120"), "step.algorithm"),
        (pss_parameters(SHA256, MGF1_SHA256, "0201ff"), "step.algorithm"),
        (pss_parameters(SHA256, MGF1_SHA256, "02020200"), "step.signature"),
        (pss_parameters(SHA256, MGF1_SHA256, "02020201"), "step.algorithm"),
        ("", "step.algorithm"),
        ("0500", "step.algorithm"),
        (pss_parameters(SHA256, MGF1_SHA256, "0201200500"), "step.algorithm"),
        (tlv("30", pss_parameters(SHA256, MGF1_SHA256, "020120")[4:], "a303020101"), "step.signature"),
        (tlv("30", pss_parameters(SHA256, MGF1_SHA256, "020120")[4:], "a303020102"), "step.algorithm"),
        (tlv("30", pss_parameters(SHA256, MGF1_SHA256, "020120")[4:], "a403020101"), "step.algorithm"),
    ],
)
def test_rsa_pss_parameters(parameters: str, code: str) -> None:
    root = Authority("root rsa2048", "rsa2048")
    algorithm = bytes.fromhex(tlv("30", "06092a864886f70d01010a", parameters))
    found = replace(leaf(root, hashes.SHA256()), signature_algorithm=algorithm)
    assert code_of(found, [], [certificate(root)]) == code


def test_an_algorithm_that_is_not_implemented() -> None:
    root = Authority("root p256")
    found = leaf(root, hashes.SHA3_256())
    with pytest.raises(Unsupported) as refused:
        chain.verify_chain(found, [], [certificate(root)], AT, "step")
    assert refused.value.code == "step.algorithm"


def test_sha1_refuses() -> None:
    # cryptography no longer signs certificates with SHA-1, so the object identifiers are exchanged.
    root = Authority("root rsa2048", "rsa2048")
    found = leaf(root, hashes.SHA256())
    sha256, sha1 = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    assert found.raw.count(sha256) == 2
    assert code_of(x509.parse(found.raw.replace(sha256, sha1)), [], [certificate(root)]) == "step.algorithm"


def levels(count: int, **changes: Any) -> list[Authority]:
    """A root and its line of authorities."""
    line = [Authority("level 0")]
    for number in range(1, count):
        line.append(Authority(f"level {number}", issuer=line[-1], **changes))
    return line


@pytest.mark.parametrize("count", range(1, chain.MAX_PATH))
def test_order_of_intermediates_does_not_matter(count: int) -> None:
    line = levels(count)
    found = leaf(line[-1], hashes.SHA256())
    between = [certificate(authority) for authority in line[1:]]
    for order in itertools.islice(itertools.permutations(between), 24):
        path = chain.verify_chain(found, order, [certificate(line[0])], AT, "step")
        assert path == (found, *reversed(between), certificate(line[0]))


def test_the_longest_path() -> None:
    line = levels(chain.MAX_PATH)
    found = leaf(line[-1], hashes.SHA256())
    assert code_of(found, [certificate(a) for a in line[1:]], [certificate(line[0])]) == "step.too_long"


def test_path_length_counts_authorities_below() -> None:
    root = Authority("root", path_length=1)
    upper = Authority("upper", issuer=root)
    lower = Authority("lower", issuer=upper)
    anchors = [certificate(root)]
    assert chain.verify_chain(leaf(upper, hashes.SHA256()), [certificate(upper)], anchors, AT, "step")
    deep = leaf(lower, hashes.SHA256())
    assert code_of(deep, [certificate(lower), certificate(upper)], anchors) == "step.path_length"


def test_a_dead_end_does_not_hide_another_way() -> None:
    """Two intermediates of one name and key, one of them expired: the path through the other holds."""
    root = Authority("root")
    good = Authority("between", issuer=root)
    stale = Authority("between", issuer=root, not_after=AT - timedelta(days=1))
    found = leaf(good, hashes.SHA256())
    anchors = [certificate(root)]
    assert chain.verify_chain(found, [certificate(stale), certificate(good)], anchors, AT, "step")
    assert code_of(found, [certificate(stale)], anchors) == "step.expired"


def test_an_expired_anchor_is_no_anchor() -> None:
    root = Authority("root", not_after=AT - timedelta(seconds=1))
    assert code_of(leaf(root, hashes.SHA256()), [], [certificate(root)]) == "step.expired"


def test_validity_is_inclusive_to_the_second() -> None:
    root = Authority("root", not_before=AT, not_after=AT)
    assert chain.verify_chain(leaf(root, hashes.SHA256()), [], [certificate(root)], AT, "step")


def test_an_anchor_without_authority_refuses() -> None:
    root = Authority("root", ca=False)
    assert code_of(leaf(root, hashes.SHA256()), [], [certificate(root)]) == "step.not_a_ca"


def test_an_anchor_without_basic_constraints_refuses() -> None:
    root = Authority("root")
    bare = leaf(root, hashes.SHA256())
    anchor = replace(certificate(root), extensions=())
    assert code_of(bare, [], [anchor]) == "step.not_a_ca"


def test_an_authority_may_leave_out_what_its_key_is_for() -> None:
    """RFC 5280 section 6.1.4 (n): keyUsage binds where it is there."""
    root = Authority("root")
    found = certificate(root)
    anchor = replace(found, extensions=tuple(e for e in found.extensions if e.oid != x509.KEY_USAGE))
    assert anchor.key_usage() is None
    assert chain.verify_chain(leaf(root, hashes.SHA256()), [], [anchor], AT, "step")


def test_unknown_critical_extensions_of_an_authority_refuse() -> None:
    name_constraints = pyca.UnrecognizedExtension(pyca.ObjectIdentifier("2.5.29.30"), b"\x30\x00")
    extension = pyca.Extension(name_constraints.oid, True, name_constraints)
    root = Authority("root", extra=(extension,))
    assert code_of(leaf(root, hashes.SHA256()), [], [certificate(root)]) == "step.critical_extension"


def test_a_loop_of_authorities_ends() -> None:
    first, second = Authority("first"), Authority("second")
    crossed = [Authority("first", issuer=second), Authority("second", issuer=first)]
    found = leaf(first, hashes.SHA256())
    assert (
        code_of(found, [certificate(a) for a in crossed], [certificate(Authority("root"))])
        == "step.unknown_issuer"
    )


def test_many_certificates_of_one_name_cost_a_bounded_number_of_signatures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0
    verify = chain.verify_signed_by

    def counted(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        verify(*arguments)

    monkeypatch.setattr(chain, "verify_signed_by", counted)
    same = [Authority("same", issuer=None) for _ in range(40)]
    with pytest.raises(Untrusted):
        chain.verify_chain(
            leaf(same[0], hashes.SHA256()),
            [certificate(a) for a in same],
            [certificate(Authority("root"))],
            AT,
            "step",
        )
    assert calls <= 64


def test_a_key_of_an_unknown_curve_is_named() -> None:
    root = Authority("root")
    root.key = ec.generate_private_key(ec.SECP256K1())
    odd = (
        pyca.CertificateBuilder()
        .subject_name(common_name("root"))
        .issuer_name(common_name("root"))
        .public_key(root.key.public_key())
        .serial_number(1)
        .not_valid_before(AT - YEAR)
        .not_valid_after(AT + YEAR)
        .add_extension(pyca.BasicConstraints(True, None), critical=True)
        .sign(root.key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
    found = leaf(root, hashes.SHA256())
    assert code_of(found, [], [x509.parse(odd)]) == "step.key"
