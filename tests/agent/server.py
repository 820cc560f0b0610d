"""A TLS server whose every answer a test writes: for what a real coordinator never does (wrong keys,
silence, nonsense).
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import h11
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.mesh.examples import identity_key
from wgpy.agent.client import Trust
from wgpy.mesh.signing import leaves_input
from wgpy.mesh.wire import Identity


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        value = json.loads(self.body)
        assert isinstance(value, dict)
        return value


Send = Callable[[bytes], Awaitable[None]]
Handler = Callable[[Request, Send], Awaitable[None]]


def answer(value: object, status: int = 200, content_type: str = "application/json") -> bytes:
    """A whole HTTP answer."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def problem(code: str, status: int = 403, detail: str = "No.") -> bytes:
    value = {"title": "Refused", "status": status, "detail": detail, "code": code}
    return answer(value, status, "application/problem+json")


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Certificate:
    """A self-signed leaf for 127.0.0.1."""

    def __init__(self, directory: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "coordinator")])
        start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start.replace(year=2021))
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.leaf_hash = hashlib.sha256(public).digest()
        self.path = directory / "leaf.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))


@dataclass
class Server:
    """`routes`: "METHOD /path" without query → handler or the octets to send. `seen`: all requests so far."""

    certificate: Certificate
    routes: dict[str, Handler | bytes] = field(default_factory=dict)
    seen: list[Request] = field(default_factory=list)
    url: str = ""

    @property
    def trust(self) -> Trust:
        return Trust(identity_key().public_key().hash, pinned=True)

    def identity(self, **changes: object) -> Identity:
        leaves = (self.certificate.leaf_hash,)
        fields = {
            "identity": identity_key().public_key(),
            "leaves": leaves,
            "signature": identity_key().sign(leaves_input(leaves)),
        }
        return Identity(**{**fields, **changes})  # type: ignore[arg-type]

    async def _serve_connection(self, tcp: trio.SocketStream) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate.path)
        stream = trio.SSLStream(tcp, context, server_side=True, https_compatible=True)
        try:
            while True:
                http = h11.Connection(h11.SERVER)
                request, body = None, bytearray()
                while True:
                    event = http.next_event()
                    if event is h11.NEED_DATA:
                        http.receive_data(bytes(await stream.receive_some(65536)))
                    elif isinstance(event, h11.Request):
                        request = event
                    elif isinstance(event, h11.Data):
                        body += event.data
                    elif isinstance(event, h11.EndOfMessage):
                        break
                    else:
                        return
                assert request is not None
                headers = {name.decode(): value.decode() for name, value in request.headers}
                path = request.target.decode()
                seen = Request(request.method.decode(), path, headers, bytes(body))
                self.seen.append(seen)
                handler = self.routes.get(
                    f"{seen.method} {path.partition('?')[0]}", problem("not_found", 404)
                )
                if isinstance(handler, bytes):
                    await stream.send_all(handler)
                else:
                    await handler(seen, stream.send_all)
        except (trio.BrokenResourceError, ssl.SSLError, OSError, h11.ProtocolError):
            pass
        finally:
            await trio.aclose_forcefully(stream)


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Server]:
    """A server on a port of 127.0.0.1 that answers with its true identity, and with what the test adds."""
    server = Server(Certificate(directory))
    server.routes["GET /v1/identity"] = answer(server.identity().to_json())
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server.url = f"https://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.start_soon(trio.serve_listeners, server._serve_connection, listeners)
        yield server
        nursery.cancel_scope.cancel()
