"""The settings of `[auth]`: who may come in, beside the holders of API keys. A part of `settings.py`, which says where values come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from rlu_server.sections import Section

SIGNATURE_ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"}
)


ClaimPath = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, max_length=8)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Who = Annotated[str, Field(pattern=r"^[^/]+/.+$")]


class Issuer(Section):
    """Whose tokens are accepted, what they must say, and whom they make."""

    name: Name
    """For events and files; never seen by clients."""
    issuer: Annotated[str, Field(min_length=1, max_length=512)]
    """`iss`, exactly."""
    audience: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, max_length=16)]
    """One of these must be in `aud`."""
    jwks_file: Path | None = None
    """The issuer's public keys (RFC 7517), pushed in: `rlu auth fetch-jwks` or the relay writes it. Watched."""
    review: bool = False
    """Kubernetes: ask the cluster about each token (TokenReview), through `auth.relay`. Without `jwks_file` this is the only check."""
    algorithms: Annotated[tuple[str, ...], Field(min_length=1)] = ("RS256", "ES256")
    tenant: Annotated[str, Field(max_length=128)] = ""
    """Everybody's tenant; or:"""
    tenant_claim: ClaimPath | None = None
    """Where the tenant is, such as ["kubernetes.io", "namespace"]."""
    tenants: tuple[str, ...] = ()
    """What the claim may say; "*" for anything. An issuer speaks for no other tenant."""
    principal_claim: ClaimPath = ("sub",)
    principal_prefix: Annotated[str, Field(max_length=64)] = ""
    """Put before the principal's name, where two issuers of one tenant could use the same names."""
    required: dict[str, str | bool | int] = Field(default_factory=dict)
    """Claims that must have this value, or hold it, if they are lists."""
    clock_skew_s: Annotated[float, Field(ge=0, le=600)] = 60.0

    @model_validator(mode="after")
    def _check(self) -> Issuer:
        if unknown := set(self.algorithms) - SIGNATURE_ALGORITHMS:
            raise ValueError(
                f"algorithms: {', '.join(sorted(unknown))} cannot be allowed; known are {', '.join(sorted(SIGNATURE_ALGORITHMS))}"
            )
        if self.jwks_file is None and not self.review:
            raise ValueError("an issuer needs jwks_file, or review = true, or both")
        if bool(self.tenant) == (self.tenant_claim is not None):
            raise ValueError("set either tenant or tenant_claim")
        if (self.tenant_claim is not None) != bool(self.tenants):
            raise ValueError("tenant_claim takes tenants, the names that it may say")
        return self


class CertificateRule(Section):
    """Which names of client certificates make whom."""

    source: Literal["uri", "dns", "email", "subject"]
    pattern: Annotated[str, Field(min_length=1, max_length=512)]
    """The whole name, with {principal} and, unless `tenant` says it, {tenant}: "spiffe://example.org/{tenant}/agent/{principal}"."""
    tenant: Annotated[str, Field(max_length=128)] = ""

    @model_validator(mode="after")
    def _check(self) -> CertificateRule:
        if self.pattern.count("{principal}") != 1:
            raise ValueError("pattern takes {principal} once")
        if self.pattern.count("{tenant}") != (0 if self.tenant else 1):
            raise ValueError("the tenant is said once: by tenant, or by {tenant} in the pattern")
        return self


class ClientCertificates(Section):
    mode: Literal["off", "optional", "required"] = "off"
    """Whether TLS asks for a certificate. `required` ends every connection without one, health checks included."""
    ca_file: Path | None = None
    """CA certificates (PEM) that sign client certificates, intermediates included. Watched."""
    crl_file: Path | None = None
    """Revocation lists (PEM) of every CA that signs client certificates. Watched; when they are out of date, certificates refuse."""
    rules: tuple[CertificateRule, ...] = ()
    """The first that fits any name of the certificate."""

    @model_validator(mode="after")
    def _check(self) -> ClientCertificates:
        if self.mode != "off" and (self.ca_file is None or not self.rules):
            raise ValueError("client certificates need ca_file and rules")
        return self


class Auth(Section):
    """Who may come in, beside the holders of API keys."""

    issuers: Annotated[tuple[Issuer, ...], Field(max_length=16)] = ()
    certificates: ClientCertificates = ClientCertificates()
    relay: Annotated[str, Field(pattern=r"^$|^unix:/.+$|^https?://[0-9A-Fa-f.:\[\]]+:[0-9]{1,5}$")] = ""
    """Where TokenReviews go: "unix:/run/rlu-relay/relay.sock", or "https://ADDRESS:PORT" of the relay; the gateway looks up no names."""
    relay_ca_file: Path | None = None
    """CA of the relay's certificate, for https."""
    review_ttl_s: Annotated[int, Field(ge=0, le=3600)] = 60
    """How long the cluster's yes counts, and with it a deleted account."""
    review_timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    administrators: tuple[Who, ...] = ()
    """`tenant/principal` who may resolve pseudonyms of their tenant and list its keys."""
    lockout_after: Annotated[int, Field(ge=0, le=100_000)] = 20
    """Wrong credentials from one address before it has to wait; 0: never. Set it to 0 where all clients come from one address."""
    lockout_longest_s: Annotated[int, Field(ge=1, le=86400)] = 300

    @model_validator(mode="after")
    def _check(self) -> Auth:
        for names in ([one.name for one in self.issuers], [one.issuer for one in self.issuers]):
            if len(set(names)) != len(names):
                raise ValueError("issuers: a name or an issuer occurs twice")
        if any(one.review for one in self.issuers) and not self.relay:
            raise ValueError("review = true needs relay")
        if self.relay.startswith("http:") and not self.relay.startswith(("http://127.", "http://[::1]:")):
            raise ValueError("relay: tokens go there; use https, or http on this machine only")
        if self.relay.startswith("https:") and self.relay_ca_file is None:
            raise ValueError("a relay by https needs relay_ca_file")
        return self
