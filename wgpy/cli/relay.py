"""`wgpy relay serve`: a relay on this host."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from wgpy.errors import ConfigError
from wgpy.mesh.relay_token import RelayToken

if TYPE_CHECKING:
    from wgpy.relay.server import RelayServer

_VARIABLE: Final = "WGPY_RELAY_KEY"
_LONGEST: Final = 8192


@click.group()
def relay() -> None:
    """Carry packets for nodes that cannot reach each other. A relay sees who talks to whom, never what."""


@relay.command()
@click.argument("key_file", metavar="[KEY_FILE | -]", required=False)
@click.option("--port", type=click.IntRange(0, 65535), default=3478, show_default=True, help="UDP; 0: any.")
@click.option(
    "--rate", metavar="RATE", help="What it carries at most, such as 500M (bits a second). Default: no limit."
)
@click.option("--rate-per-node", metavar="RATE", help="The same for what one node sends.")
@click.option(
    "--sessions", type=click.IntRange(1, 1 << 20), default=65536, show_default=True, help="Nodes at once."
)
@click.option("--tls-port", type=click.IntRange(0, 65535), help="TCP, for nodes whose UDP is blocked: 443.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="The certificate chain for it, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its private key, PEM.")
@click.option("--until-stdin-closes", is_flag=True, hidden=True)
def serve(
    *,
    key_file: str | None,
    port: int,
    rate: str | None,
    rate_per_node: str | None,
    sessions: int,
    tls_port: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    until_stdin_closes: bool,
) -> None:
    """Run a relay in the foreground until SIGTERM or Ctrl-C.

    `wgpy coordinator relay create` prints its key, which is read from KEY_FILE, from standard input (-) or
    from WGPY_RELAY_KEY. Told to stop, it lets nodes move to another relay first.
    """
    from wgpy.relay.main import TlsSide  # noqa: PLC0415  (only here is all of it wanted)
    from wgpy.relay.main import serve as run  # noqa: PLC0415
    from wgpy.relay.server import Settings  # noqa: PLC0415

    settings = Settings(port, sessions, _parse_rate(rate_per_node), _parse_rate(rate))
    tls = None
    if tls_port is not None and tls_cert is not None and tls_key is not None:
        tls = TlsSide(tls_port, tls_cert, tls_key)
    elif (tls_port, tls_cert, tls_key) != (None, None, None):
        raise ConfigError("--tls-port, --tls-cert and --tls-key go together: give all three, or none")
    run(_read_key(key_file), settings, _announce, tls=tls, with_stdin=until_stdin_closes)


def _announce(server: RelayServer, tls_port: int | None) -> None:
    second = f" and {server.other_port} (STUN)" if server.other_port else ""
    third = "" if tls_port is None else f", over TLS on TCP port {tls_port}"
    click.echo(f"relay {server.id[:8]} on UDP port {server.port}{second}{third}")


def _read_key(key_file: str | None) -> RelayToken:
    """Raises ConfigError, which never repeats the key."""
    if key_file == "-":
        return RelayToken.decode(sys.stdin.readline(_LONGEST))
    if key_file is not None:
        try:
            return RelayToken.decode(Path(key_file).read_text()[:_LONGEST])
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise ConfigError(f"cannot read the relay key from {key_file[:200]}: {reason}") from None
    if text := os.environ.pop(_VARIABLE, ""):
        return RelayToken.decode(text)
    raise ConfigError(f"expected the relay's key: a file, - for standard input, or ${_VARIABLE}")


def _parse_rate(text: str | None) -> int:
    """Octets a second of bits a second; None: 0, no limit. Raises ConfigError."""
    if text is None:
        return 0
    units = {"k": 10**3, "M": 10**6, "G": 10**9}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    if number.isascii() and number.isdigit() and len(number) < 13 and int(number) * unit >= 8000:
        return int(number) * unit // 8
    raise ConfigError(f"a rate is bits a second from 8k on, such as 500M or 2G; got {text[:40]!r}")
