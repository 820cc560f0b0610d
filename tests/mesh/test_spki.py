from __future__ import annotations

import datetime
import hashlib

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from wgpy.errors import InvalidMessage
from wgpy.mesh.spki import leaf_hash_untrusted

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def make_certificate(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey,
) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * 60)])
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 2**150 + 1, START, START.replace(year=2027)
    )
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.DER)


EC = make_certificate(ec.generate_private_key(ec.SECP256R1()))
CERTIFICATES = {
    "ec": EC,
    "ed25519": make_certificate(ed25519.Ed25519PrivateKey.generate()),
    "rsa": make_certificate(rsa.generate_private_key(65537, 2048)),
}


def oracle(certificate: bytes) -> bytes:
    public = x509.load_der_x509_certificate(certificate).public_key()
    info = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(info).digest()


@pytest.mark.parametrize("certificate", CERTIFICATES.values(), ids=CERTIFICATES)
def test_the_hash_is_that_of_the_key_which_a_full_parser_finds(certificate: bytes) -> None:
    assert leaf_hash_untrusted(certificate) == oracle(certificate)


@given(st.integers(0, len(EC) - 1), st.integers(0, 255))
def test_a_changed_certificate_is_refused_or_gives_the_hash_of_what_it_holds(place: int, value: int) -> None:
    changed = EC[:place] + bytes([value]) + EC[place + 1 :]
    try:
        found = leaf_hash_untrusted(changed)
    except InvalidMessage:
        return
    try:
        expected = oracle(changed)
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return
    assert found == expected


@given(st.binary(max_size=200))
def test_octets_that_are_no_certificate_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidMessage):
        leaf_hash_untrusted(data)


def test_a_certificate_cut_short_is_refused() -> None:
    for length in range(len(EC)):
        with pytest.raises(InvalidMessage):
            leaf_hash_untrusted(EC[:length])
