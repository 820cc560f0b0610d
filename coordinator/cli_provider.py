"""`wgpy coordinator provider …`: OpenID providers by which people sign in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from coordinator.command import (
    admin_command,
    client_of,
    print_json,
    print_table,
)
from wgpy.errors import ConfigError


@click.group()
def provider() -> None:
    """Let people sign in at an OpenID provider that you have."""


def _read_secret(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the client's secret from {path}: {error}") from None


def _parse_role(text: str) -> tuple[str, str]:
    network, _, role = text.rpartition("=")
    if not network or not role:
        raise ConfigError(f"--role is NETWORK=viewer, NETWORK=member or NETWORK=admin; got {text!r}")
    return network, role


@provider.command("set")
@click.argument("name")
@click.option("--issuer", required=True, metavar="URL", help="Its URL, exactly as the provider writes it.")
@click.option("--client-id", required=True, help="What this coordinator is called at the provider.")
@click.option(
    "--client-secret-file",
    type=click.Path(path_type=Path),
    help="A file with the client's secret. Left out: the one that is known stays, or there is none.",
)
@click.option("--label", help="What the button on the sign-in page says. Default: NAME.")
@click.option(
    "--admits",
    type=click.Choice(["known", "everyone"]),
    default="known",
    show_default=True,
    help="Whom it lets in: people added here under their checked e-mail address, or all it knows.",
)
@click.option(
    "--role",
    "roles",
    multiple=True,
    metavar="NETWORK=ROLE",
    help="With `everyone`: what they are on a network at first. May be repeated.",
)
@admin_command
def set_provider(
    *,
    name: str,
    issuer: str,
    client_id: str,
    client_secret_file: Path | None,
    label: str | None,
    admits: str,
    roles: tuple[str, ...],
    state_dir: Path | None,
    as_json: bool,
) -> None:
    """Set a provider up, or change the one that is called NAME."""
    body: dict[str, Any] = {"issuer": issuer, "client_id": client_id, "label": label, "admits": admits}
    body |= {"client_secret": _read_secret(client_secret_file), "roles": dict(map(_parse_role, roles))}
    with client_of(state_dir) as client:
        made = client.call("PUT", "providers", name, body=body, if_match="*")
    if as_json:
        print_json(made)
        return
    click.echo(f"people can sign in at {made['issuer']}; allow these redirect URIs there:")
    for url in made["redirect_uris"]:
        click.echo(f"  {url}")


@provider.command("list")
@admin_command
def list_providers(state_dir: Path | None, as_json: bool) -> None:
    """The providers, without their secrets."""
    with client_of(state_dir) as client:
        found = client.call("GET", "providers")["providers"]
    if as_json:
        print_json(found)
        return
    rows = [(row["name"], row["issuer"], row["client_id"], row["admits"]) for row in found]
    print_table(("NAME", "ISSUER", "CLIENT ID", "ADMITS"), rows)


@provider.command("remove")
@click.argument("name")
@admin_command
def remove_provider(name: str, state_dir: Path | None, as_json: bool) -> None:
    """Nobody comes in by it any more; who did stays signed in until their session ends."""
    with client_of(state_dir) as client:
        gone = client.call("DELETE", "providers", name)
    print_json(gone) if as_json else click.echo(f"{gone['name']} is removed")
