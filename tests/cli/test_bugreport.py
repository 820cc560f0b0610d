"""`wgpy bugreport`: what it holds, and what it must never hold."""

from __future__ import annotations

import base64
import dataclasses
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.agent.states import make_keys, make_state
from wgpy.agent import bugreport as reports
from wgpy.agent.redact import SECRET, Identifiers, Redactor, spellings
from wgpy.agent.state_file import Asked, Pending, pending_path, save_state, write_private_file
from wgpy.keys import PrivateKey
from wgpy.mesh.signing import MachineKey

NOBODY = 65534
PUBLIC = bytes(range(32))
SALT = bytes(16)


def redactor(*secrets: bytes, identifiers: Identifiers = Identifiers.SHORT) -> Redactor:
    return Redactor(secrets, ("K7P-3XW",), (PUBLIC,), SALT, identifiers)


# --- redaction ---


@given(st.binary(min_size=32, max_size=32).filter(lambda key: len(set(key)) > 8), st.text(max_size=3))
def test_a_known_secret_goes_in_every_spelling_and_in_the_middle_of_anything(key: bytes, around: str) -> None:
    redact = redactor(key)
    for spelling in spellings(key):
        assert spelling not in redact(f"{around}{spelling}{around}")
        assert spelling not in redact(f"PrivateKey={spelling}\n")


@pytest.mark.parametrize("encode", [bytes.hex, lambda k: base64.b64encode(k).decode(),
                                    lambda k: base64.urlsafe_b64encode(k).decode().rstrip("=")])  # fmt: skip
def test_what_looks_like_a_key_goes_unless_it_is_known_to_be_public(encode) -> None:  # type: ignore[no-untyped-def]
    unknown = encode(bytes(range(100, 132)))
    assert redactor()(f"key: {unknown}, and more") == f"key: {SECRET}, and more"
    public = encode(PUBLIC)
    assert redactor()(f"key {public}.") == f"key {public[:8]}…."
    hashed = redactor(identifiers=Identifiers.HASHED)(f"{public} {public}")
    assert public[:8] not in hashed
    assert len(set(hashed.split())) == 1
    assert redactor(identifiers=Identifiers.WHOLE)(public) == public
    # Whoever took a private key for a public one is not believed.
    assert redactor(PUBLIC, identifiers=Identifiers.WHOLE)(public) == SECRET


def test_tokens_logins_and_codes_go() -> None:
    text = (
        "up wgpy1_AbCdEfGhIjKl; wgpyk_0123456789abcdef wgpys_zyxwvutsrq K7P-3XW postgresql://ada:hunter2@db/x"
    )
    told = redactor()(text)
    for secret in ("AbCdEfGhIjKl", "0123456789abcdef", "zyxwvutsrq", "hunter2", "K7P-3XW"):
        assert secret not in told
    assert "@db/x" in told


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("203.0.113.77:51820", "203.0.…:51820"),
        ("from [2001:db8:1:2::77]:51820", "from [2001:0db8:…]:51820"),
        ("10.1.0.7 192.168.1.9/24 fd00::7 127.0.0.1 ::1 0.0.0.0/0 ::/0", None),
        ("02:42:ac:11:00:02 up", "02:42:ac:… up"),
        ("fe80::42:acff:fe11:2", "fe80:0000:…"),
        ("wgpy 0.1.0, Python 3.11.7, Linux 6.18.44-x at 12:34:56", None),
    ],
)
def test_addresses_on_the_internet_are_made_short_and_others_are_not(text: str, short: str | None) -> None:
    assert redactor()(text) == (text if short is None else short)
    hashed = redactor(identifiers=Identifiers.HASHED)(text)
    assert (hashed == text) == (short is None)
    assert redactor(identifiers=Identifiers.WHOLE)(text) == text


# --- the report ---


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host that has joined one network, begun a join, and is in the middle of renewing its key."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("WGPY_STATE_DIR", str(directory))
    monkeypatch.setenv("WGPY_RUNTIME_DIR", str(tmp_path / "run"))
    save_state(dataclasses.replace(make_state(), next_key=PrivateKey(bytes(range(150, 182)))))
    keys = dataclasses.replace(make_keys(), machine_key=MachineKey(bytes(range(200, 232))))
    asked = Asked(bytes(32), pinned=True, nonce=bytes(range(50, 82)), code="K7P-3XW")
    write_private_file(pending_path("0011223344556677"), Pending(keys, asked).to_json())
    (directory / "home.json.old").write_bytes((directory / "home.json").read_bytes())
    return directory


def secrets() -> list[bytes]:
    keys = make_keys()
    return [
        bytes(keys.machine_key),
        bytes(keys.wireguard_key),
        bytes(range(150, 182)),
        bytes(range(200, 232)),
    ]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wgpy.cli.main", "bugreport", *words],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def check_clean(text: str) -> None:
    for secret in secrets():
        for spelling in spellings(secret):
            assert spelling not in text
        for offset in range(24):  # no part of it either
            assert base64.b64encode(secret[offset:]).decode()[:11] not in text.replace("-", "+").replace(
                "_", "/"
            )
            assert secret[offset : offset + 8].hex() not in text.lower()
    assert "K7P-3XW" not in text


@pytest.mark.parametrize("identifiers", list(Identifiers))
def test_no_secret_of_the_state_directory_is_in_it_and_the_file_is_ours_alone(
    state_dir: Path, tmp_path: Path, identifiers: Identifiers
) -> None:
    file = tmp_path / "report.txt"
    done = run(str(file), "--identifiers", identifiers)
    assert done.returncode == 0, done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    check_clean(text)
    for title, *_ in reports._PARTS:
        assert f"==== {title}: " in text
        assert title in done.stdout
    assert "home is not running on this host" in text  # the agent is dead
    assert '"interface": "wg-home"' in text
    assert "Nothing was sent" in done.stdout
    assert (str(make_keys().wireguard_key.public_key())[:8] in text) or identifiers is Identifiers.HASHED
    again = run(str(file))
    assert again.returncode != 0
    assert f"{file} exists: name another file" in again.stderr
    assert file.read_text() == text


def test_what_the_host_says_is_searched_for_secrets_too(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's log, resolver or rule might hold a key."""
    keys = make_keys()
    leak = "\n".join(text for secret in secrets() for text in spellings(secret))

    def leaking() -> list[str]:
        return [leak, "x" * 400_000, keys.wireguard_key.to_base64()]

    def broken() -> list[str]:
        raise RuntimeError(keys.wireguard_key.to_base64())

    parts = (("log", "lines", leaking), ("other", "breaks", broken))
    monkeypatch.setattr(reports, "_PARTS", parts)
    text = reports.render(reports.collect())
    check_clean(text)
    assert "could not be read: RuntimeError" in text
    assert len(text) < 320_000


@pytest.mark.root
def test_without_root_it_says_what_it_could_not_see(state_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    os.chown(tmp_path / "out", NOBODY, NOBODY)
    for path in (tmp_path, *tmp_path.parents):
        path.chmod(path.stat().st_mode | 0o001)
    file = tmp_path / "out" / "report.txt"
    # Python itself may lie where nobody else can read: it is loaded first.
    program = (
        "import encodings.idna, os, platform, sys; from wgpy.cli import bugreport, main; "
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); "
        f"sys.exit(main.run(['bugreport', {str(file)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert file.stat().st_uid == NOBODY
    text = file.read_text()
    check_clean(text)
    assert "no right to make interfaces and routes" in text
    assert "Permission denied" in text or "cannot read" in text
