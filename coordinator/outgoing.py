"""The few requests that the coordinator itself makes: to the OpenID providers that an admin named."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Final

import anyio
import anyio.to_thread

TIMEOUT: Final = 10.0
"""Seconds for a request and its answer."""
MAX_ANSWER: Final = 512 * 1024
AT_ONCE: Final = 4
"""Requests at a time: what strangers can set off must not take all threads."""


class Unreachable(Exception):
    """No usable answer, and why, in a few words of ours."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """A redirect is an answer like any other: 3xx, which nobody asked for."""


class Outgoing:
    """Of one process."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(AT_ONCE)

    async def fetch(
        self, url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        """The body of an answer with 200. Certificates are checked against the host's authorities
        (SSL_CERT_FILE names others). Raises Unreachable.
        """
        with anyio.move_on_after(TIMEOUT):
            return await anyio.to_thread.run_sync(
                _fetch, url, body, dict(headers or {}), abandon_on_cancel=True, limiter=self._limiter
            )
        raise Unreachable(f"it did not answer within {TIMEOUT:.0f} s")


def _fetch(url: str, body: bytes | None, headers: dict[str, str]) -> bytes:
    opener = urllib.request.build_opener(
        _NoRedirects, urllib.request.HTTPSHandler(context=ssl.create_default_context())
    )
    request = urllib.request.Request(url, body, headers)
    try:
        with opener.open(request, timeout=TIMEOUT) as answer:
            data: bytes = answer.read(MAX_ANSWER + 1)
    except urllib.error.HTTPError as error:
        with error:
            raise Unreachable(f"it answered with HTTP {error.code}") from None
    except urllib.error.URLError as error:
        raise Unreachable(f"it cannot be reached: {_why(error.reason)}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(f"it cannot be reached: {_why(error)}") from None
    if len(data) > MAX_ANSWER:
        raise Unreachable(f"its answer is larger than {MAX_ANSWER} octets")
    return data


def _why(reason: object) -> str:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted here ({reason.verify_message})"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return type(reason).__name__
