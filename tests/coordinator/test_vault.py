"""The coordinator's own secrets: made once, the same for every process, useless without the key file."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from coordinator.identity import OwnCertificate, load_credentials
from coordinator.store.tables import secrets
from coordinator.tls import Leaf
from coordinator.vault import WrappingKey, load_secrets, open_key_file
from tests.coordinator.rows import Rows
from wgpy.errors import ConfigError, StateError


def test_the_second_start_has_the_same_secrets(rows: Rows, tmp_path: Path) -> None:
    first, second = (load_credentials(rows.database, tmp_path / "secrets.key", None, 1.0) for _ in range(2))
    assert first.identity.hash == second.identity.hash
    assert first.identity.leaves == second.identity.leaves
    assert first.session_key == second.session_key
    assert first.identity.answer.verify()
    assert (tmp_path / "secrets.key").stat().st_mode & 0o777 == 0o600


def test_processes_that_start_together_end_up_with_the_same_secrets(rows: Rows, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(
                lambda _: load_credentials(rows.database, tmp_path / "secrets.key", None, 1.0).identity.hash,
                range(4),
            )
        )
    assert len(set(found)) == 1


def test_nothing_in_the_database_opens_without_the_key_file(rows: Rows, tmp_path: Path) -> None:
    key_file = tmp_path / "secrets.key"
    opened = load_secrets(rows.database, key_file, {"identity": lambda: b"i" * 32}, 1.0)
    assert opened == {"identity": b"i" * 32}
    wrapped = rows.read(lambda connection: connection.execute(select(secrets.c.wrapped)).scalar())
    assert b"i" * 32 not in wrapped
    key = key_file.read_bytes()

    key_file.write_bytes(bytes(32))
    with pytest.raises(StateError, match="does not open the secrets"):
        load_secrets(rows.database, key_file, {}, 1.0)

    key_file.write_bytes(key[:20])
    with pytest.raises(StateError, match="20 octets where 32 are expected"):
        load_secrets(rows.database, key_file, {}, 1.0)

    key_file.unlink()
    with pytest.raises(StateError, match="restore it from a backup"):
        load_secrets(rows.database, key_file, {"identity": lambda: b"other"}, 1.0)
    assert not key_file.exists()  # no new key that would hide the loss

    key_file.write_bytes(key)
    key_file.chmod(0o600)
    assert load_secrets(rows.database, key_file, {}, 1.0) == opened


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secrets.key"
    open_key_file(path, make=True)
    path.chmod(0o640)
    with pytest.raises(StateError, match="chmod 600"):
        open_key_file(path, make=True)


def test_a_secret_opens_under_its_own_name_alone() -> None:
    key = WrappingKey(bytes(32))
    wrapped = key.wrap("identity", b"secret")
    assert key.unwrap("identity", wrapped) == b"secret"
    assert key.unwrap("session", wrapped) is None
    assert key.unwrap("identity", wrapped[:-1]) is None
    assert key.unwrap("identity", b"") is None
    assert repr(key) == "WrappingKey(…)"


def test_a_leaf_survives_being_stored() -> None:
    leaf = Leaf.generate()
    assert Leaf.decode(leaf.encode()) == leaf
    assert Leaf.generate().hash != leaf.hash
    assert repr(leaf) == "Leaf(…)"


@pytest.fixture
def own(tmp_path: Path) -> OwnCertificate:
    certificate, key = tmp_path / "own.pem", tmp_path / "own.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
        "2",
         "-subj", "/CN=coordinator.example", "-out", certificate, "-keyout", key],
        check=True, capture_output=True,
    )  # fmt: skip
    return OwnCertificate(certificate, key)


def test_with_an_own_certificate_there_is_no_pin_but_pinned_nodes_find_it_in_the_list(
    sqlite_rows: Rows, tmp_path: Path, own: OwnCertificate
) -> None:
    before = load_credentials(sqlite_rows.database, tmp_path / "secrets.key", None, 1.0).identity
    after = load_credentials(sqlite_rows.database, tmp_path / "secrets.key", own, 1.0).identity
    assert before.pinned
    assert not after.pinned
    assert after.hash == before.hash
    assert after.leaves[0] not in before.leaves
    assert after.answer.verify()
    assert bytes(32) in after.leaf_hashes_seen()
    assert bytes(32) not in before.leaf_hashes_seen()


def test_a_certificate_that_cannot_be_served_is_said_in_one_line(
    sqlite_rows: Rows, tmp_path: Path, own: OwnCertificate
) -> None:
    text, other = tmp_path / "text", tmp_path / "other.key"
    text.write_text("hello")
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", other], check=True, capture_output=True
    )
    missing = tmp_path / "missing"
    for certificate, key, expected in (
        (missing, own.key, "missing: cannot read the certificate"),
        (text, own.key, "text: expected a PEM certificate"),
        (own.certificate, missing, "missing: cannot read the key"),
        (own.certificate, text, "text: this key does not serve"),
        (own.certificate, other, "other.key: this key does not serve"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_credentials(sqlite_rows.database, tmp_path / "k", OwnCertificate(certificate, key), 1.0)
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)
