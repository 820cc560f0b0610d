"""TLS: the leaf certificate that we make ourselves, or the admin's own, and the context that serves it.

A self-made leaf says nothing by itself: names and dates are placeholders, nodes trust it because the identity
key signed its hash.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from cryptography.x509.oid import NameOID

from wgpy.errors import ConfigError

_NOT_BEFORE: Final = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_NOT_AFTER: Final = datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A TLS key and its certificate, both DER. Its repr shows neither."""

    key: bytes
    certificate: bytes

    def __repr__(self) -> str:
        return "Leaf(…)"

    @classmethod
    def generate(cls) -> Self:
        """P-256, which every TLS stack takes; a hundred years, because nobody looks at the dates."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "wgpy coordinator")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_NOT_BEFORE)
            .not_valid_after(_NOT_AFTER)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("wgpy-coordinator.internal")]), False)
            .sign(key, hashes.SHA256())
        )
        private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return cls(private, certificate.public_bytes(Encoding.DER))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The inverse of `encode`."""
        size = int.from_bytes(data[:4], "big")
        return cls(data[4 : 4 + size], data[4 + size :])

    def encode(self) -> bytes:
        return len(self.key).to_bytes(4, "big") + self.key + self.certificate

    @property
    def hash(self) -> bytes:
        """The leaf hash of docs/wire.md §2 (32 octets)."""
        return leaf_hash(self.certificate)


def leaf_hash(certificate: bytes) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo of a certificate in DER."""
    public = x509.load_der_x509_certificate(certificate).public_key()
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def serve_leaf(leaf: Leaf) -> ssl.SSLContext:
    """A server context with the leaf, whose key touches no disk: OpenSSL reads it from a memory file."""
    key = load_der_private_key(leaf.key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    certificate = x509.load_der_x509_certificate(leaf.certificate).public_bytes(Encoding.PEM)
    context = _server_context()
    descriptor = os.memfd_create("wgpy-leaf", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, key + certificate)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context


def serve_own_certificate(certificate: Path, key: Path) -> tuple[ssl.SSLContext, bytes]:
    """A server context with the admin's PEM files, and the leaf hash. Raises ConfigError."""
    context = _server_context()
    try:
        leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    except OSError as error:
        raise ConfigError(f"cannot read the certificate: {error.strerror}", source=str(certificate)) from None
    except ValueError:
        raise ConfigError("expected a PEM certificate, got something else", source=str(certificate)) from None
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        reason = (error.reason or "not usable").replace("_", " ").lower()
        raise ConfigError(f"this key does not serve {certificate}: {reason}", source=str(key)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot read the key: {reason}", source=str(key)) from None
    return context, leaf_hash(leaf.public_bytes(Encoding.DER))


def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    return context
