"""OpenID providers: who else vouches for people here."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from operator import attrgetter
from typing import Annotated, Final

import msgspec
from sqlalchemy import Connection

from coordinator.api.call import Call
from coordinator.api.context import Context
from coordinator.api.people import ROLE_PATTERN
from coordinator.api.table import Endpoint, Needs, Subject
from coordinator.oidc import check_issuer
from coordinator.providers import Client
from coordinator.store import providers
from coordinator.store.networks import find_network_id, read_urls
from coordinator.vault import WrappingKey
from wgpy.errors import ConfigError
from wgpy.mesh.encoding import JsonObject, is_label

CALLBACK: Final = "/v1/oidc/callback"
_SECRET: Final = "client secret"

RoleName = Annotated[str, msgspec.Meta(pattern=ROLE_PATTERN)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class Provider(msgspec.Struct):
    """An OpenID provider by which people sign in. `roles`, by network id, are what everyone is at first."""

    name: str
    label: str
    issuer: str
    client_id: str
    has_secret: bool
    admits: str
    roles: dict[str, str]
    redirect_uris: Annotated[list[str], msgspec.Meta(description="what to allow for this client there")]
    created_at: float


class ProviderList(msgspec.Struct):
    providers: list[Provider]


class ProviderEdit(msgspec.Struct):
    """The whole of it. `client_secret` left out: the one that is known stays; "": a public client."""

    issuer: Annotated[str, msgspec.Meta(max_length=255, description="its URL, exactly as it writes it")]
    client_id: Text
    client_secret: Annotated[str, msgspec.Meta(max_length=1024)] | None = None
    label: Annotated[str, msgspec.Meta(min_length=1, max_length=64, description="a button's")] | None = None
    admits: Annotated[
        str,
        msgspec.Meta(
            pattern="^(known|everyone)$",
            description="known: people added here under the e-mail address that the provider has checked",
        ),
    ] = "known"
    roles: Annotated[
        dict[str, RoleName],
        msgspec.Meta(max_length=100, description="by network, what everyone becomes at first"),
    ] = {}


def _provider_of(row: providers.ProviderRow, urls: Sequence[str]) -> Provider:
    return Provider(
        name=row.name,
        label=row.label,
        issuer=row.issuer,
        client_id=row.client_id,
        has_secret=row.sealed_secret is not None,
        admits=row.admits,
        roles=dict(row.roles),
        redirect_uris=[url + CALLBACK for url in urls],
        created_at=row.created_at,
    )


def _sealing_key(context: Context) -> WrappingKey:
    return WrappingKey(context.sessions.sealing_key("OpenID client secret"))


def client_of(context: Context, row: providers.ProviderRow) -> Client:
    sealed = row.sealed_secret
    secret = None if sealed is None else _sealing_key(context).unwrap(_SECRET, sealed)
    return Client(row.issuer, row.client_id, None if secret is None else secret.decode())


def _read_provider(connection: Connection, _network_id: str, name: str) -> JsonObject | None:
    row = providers.find_provider(connection, name)
    if row is None:
        return None
    value: JsonObject = msgspec.to_builtins(_provider_of(row, ()))
    # Sealing begins with a nonce: this tells of another secret, and nothing of what it is.
    seal = None if row.sealed_secret is None else hashlib.sha256(row.sealed_secret).hexdigest()[:16]
    return {"id": row.name, **value, "redirect_uris": None, "secret": seal}


PROVIDER: Final = Subject(_read_provider, "provider", made=attrgetter("name"))


async def list_providers(call: Call[None]) -> ProviderList:
    urls = await call.read(read_urls)
    return ProviderList([_provider_of(row, urls) for row in await call.read(providers.list_providers)])


async def show_provider(call: Call[None]) -> Provider:
    row = await call.read(providers.get_provider, call.path("provider"))
    return _provider_of(row, await call.read(read_urls))


async def put_provider(call: Call[ProviderEdit]) -> Provider:
    """Its description is read first, so that a wrong issuer is told of now and not to who signs in."""
    body, name = call.body, call.path("provider")
    if not is_label(name):
        raise ConfigError("a provider's name is small letters, digits and hyphens, at most 63")
    issuer = check_issuer(body.issuer)
    roles = {await call.read(find_network_id, on, call.by.sees): role for on, role in body.roles.items()}
    await call.context.providers.metadata(issuer, fresh=True)
    secret = body.client_secret
    sealed = _sealing_key(call.context).wrap(_SECRET, secret.encode()) if secret else None
    row = providers.ProviderRow(
        name, body.label or name, issuer, body.client_id, sealed, body.admits, roles, call.now
    )
    row = await call.change(providers.put_provider, row, keep_secret=secret is None)
    return _provider_of(row, await call.read(read_urls))


async def remove_provider(call: Call[None]) -> Provider:
    row = await call.change(providers.remove_provider, call.path("provider"))
    return _provider_of(row, await call.read(read_urls))


_ALL: Final = "/v1/admin/providers"
_ONE: Final = "/v1/admin/providers/{provider}"

ENDPOINTS: Final = (
    Endpoint(
        "GET", _ALL, list_providers, Needs.ADMIN, "provider.list",
        "OpenID providers by which people sign in, without their secrets", gives=ProviderList,
    ),
    Endpoint(
        "GET", _ONE, show_provider, Needs.ADMIN, "provider.show", "One of them",
        gives=Provider, subject=PROVIDER, codes=("not_found",),
    ),
    Endpoint(
        "PUT", _ONE, put_provider, Needs.ADMIN, "provider.set", "Set one up, or change it",
        takes=ProviderEdit, gives=Provider, subject=PROVIDER,
        codes=("not_found", "name_in_use", "provider_failed"),
    ),
    Endpoint(
        "DELETE", _ONE, remove_provider, Needs.ADMIN, "provider.remove",
        "Nobody comes in by it any more; who did stays signed in",
        gives=Provider, subject=PROVIDER, codes=("not_found",),
    ),
)  # fmt: skip
