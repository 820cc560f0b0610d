"""OpenID providers as this process knows them: their descriptions and keys are asked for once an hour."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from joserfc.jwk import KeySet

from coordinator.errors import Refusal
from coordinator.oidc import (
    Attempt,
    Claims,
    Metadata,
    ProviderFault,
    UnknownKey,
    check_id_token_untrusted,
    discovery_url,
    read_keys_untrusted,
    read_metadata_untrusted,
    read_token_answer_untrusted,
    token_request,
)
from coordinator.outgoing import Outgoing, Unreachable

logger = logging.getLogger(__name__)

KNOWN_AGE: Final = 3600.0
"""Seconds for which a description and keys are taken as they were."""
FAILED_AGE: Final = 5.0
"""Seconds for which a provider that failed is not asked again."""
NEW_KEYS_EVERY: Final = 30.0
"""Seconds between two looks for a new key: a token with a made-up one sets one off."""

T = TypeVar("T")


@dataclass(slots=True)
class _Known(Generic[T]):
    value: T
    at: float


@dataclass(frozen=True, slots=True)
class Client:
    """What we are at a provider. `secret` None: a public client, which PKCE alone protects."""

    issuer: str
    id: str
    secret: str | None

    def __repr__(self) -> str:
        return f"Client({self.id} at {self.issuer}, …)"


class Providers:
    """`clock` gives Unix time."""

    def __init__(self, clock: Callable[[], float], outgoing: Outgoing | None = None) -> None:
        self._clock = clock
        self._outgoing = outgoing or Outgoing()
        self._metadata: dict[str, _Known[Metadata]] = {}
        self._keys: dict[str, _Known[KeySet]] = {}
        self._failed: dict[str, _Known[Refusal]] = {}

    async def metadata(self, issuer: str, *, fresh: bool = False) -> Metadata:
        """Raises Refusal `provider_failed`."""
        known, failed, now = self._metadata.get(issuer), self._failed.get(issuer), self._clock()
        if known is not None and not fresh and now - known.at < KNOWN_AGE:
            return known.value
        if failed is not None and not fresh and now - failed.at < FAILED_AGE:
            raise failed.value
        try:
            found = read_metadata_untrusted(await self._outgoing.fetch(discovery_url(issuer)), issuer)
        except (Unreachable, ProviderFault) as error:
            refusal = _failed(issuer, error)
            self._failed[issuer] = _Known(refusal, now)
            raise refusal from None
        self._metadata[issuer] = _Known(found, now)
        self._keys.pop(issuer, None)
        return found

    async def claims(self, client: Client, attempt: Attempt, code: str) -> Claims:
        """Who signed in, of the code that the browser brought. Raises Refusal `provider_failed`."""
        metadata = await self.metadata(client.issuer)
        headers, body = token_request(metadata, client.id, client.secret, attempt, code)
        try:
            answer = await self._outgoing.fetch(metadata.token_endpoint, body=body, headers=headers)
            token = read_token_answer_untrusted(answer)
            return await self._check(token, metadata, client, attempt)
        except (Unreachable, ProviderFault) as error:
            raise _failed(client.issuer, error) from None

    async def _check(self, token: str, metadata: Metadata, client: Client, attempt: Attempt) -> Claims:
        keys = await self._keys_of(metadata, KNOWN_AGE)
        try:
            return self._claims_of(token, keys, metadata, client, attempt)
        except UnknownKey:
            fresh = await self._keys_of(metadata, NEW_KEYS_EVERY)
            if fresh is keys:
                raise
            return self._claims_of(token, fresh, metadata, client, attempt)

    def _claims_of(
        self, token: str, keys: KeySet, metadata: Metadata, client: Client, attempt: Attempt
    ) -> Claims:
        return check_id_token_untrusted(
            token, keys, metadata, client_id=client.id, nonce=attempt.nonce, now=self._clock()
        )

    async def _keys_of(self, metadata: Metadata, age: float) -> KeySet:
        known = self._keys.get(metadata.issuer)
        if known is None or self._clock() - known.at >= age:
            found = read_keys_untrusted(await self._outgoing.fetch(metadata.jwks_uri))
            known = self._keys[metadata.issuer] = _Known(found, self._clock())
        return known.value


def _failed(issuer: str, error: Exception) -> Refusal:
    # The issuer is an admin's word and the rest ours: nothing of a stranger's is logged.
    logger.warning("the OpenID provider %s: %s", issuer, error)
    return Refusal("provider_failed", f"the OpenID provider {issuer}: {error}")
