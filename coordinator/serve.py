"""The server process: everything from a state directory to a listening coordinator, and back down again."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import gc
import logging
import os
import random
import resource
import signal
import socket
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn
import uvloop
from sqlalchemy import Connection, update
from sqlalchemy.exc import DBAPIError
from starlette.types import ASGIApp

from coordinator.api.context import Context
from coordinator.api.proxies import BehindProxies
from coordinator.app import build_app
from coordinator.auth import SessionKeys
from coordinator.http_protocol import GuardedProtocol
from coordinator.hub import Hub
from coordinator.identity import (
    CoordinatorIdentity,
    Credentials,
    OwnCertificate,
    load_credentials,
    rotate_leaf,
)
from coordinator.listen import ListenAddress, guessed_urls, local_url, open_listener
from coordinator.own_node import OwnNode, prepare_own_node
from coordinator.own_relay import OwnRelay, relay_hosts
from coordinator.state_dir import AdminFile, StateDir
from coordinator.store.api_keys import add_api_key, encode_api_key, is_api_key, parse_api_key_untrusted
from coordinator.store.database import Database, parse_database_url
from coordinator.store.migrate import migrate
from coordinator.store.networks import set_urls
from coordinator.store.people import count_admins
from coordinator.store.relays import set_own_relay
from coordinator.store.setup_links import encode_setup_secret, make_setup_link
from coordinator.store.snapshot import read_epoch
from coordinator.store.store import Store
from coordinator.store.tables import meta
from coordinator.stun import StunServer, open_stun_sockets
from wgpy.addresses import Prefix
from wgpy.errors import ConfigError, StateError
from wgpy.mesh.encoding import encode_b64u, is_coordinator_url
from wgpy.mesh.receipt import ReceiptKey
from wgpy.mesh.relay_token import RelayToken
from wgpy.mesh.relays import MAX_HOSTS
from wgpy.mesh.signing import BearerSecret, RelayKey

logger = logging.getLogger(__name__)

TRIM_INTERVAL = 30.0
"""Seconds."""

GRACEFUL_SECONDS = 5
"""How long requests under way may take when the server is told to stop."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What `wgpy coordinator serve` was told. `database` None: SQLite in the state directory."""

    state_dir: Path
    listen: ListenAddress | None = None
    urls: tuple[str, ...] = ()
    database: str | None = None
    own_certificate: OwnCertificate | None = None
    new_epoch: bool = False
    new_leaf: bool = False
    trusted_proxies: tuple[Prefix, ...] = ()
    tls_by_proxy: bool = False
    join: str | None = None
    """The network that this host itself is to be a node of."""
    relay_port: int | None = None
    """UDP port of our own relay; None: that of the API, 0: there is none."""


@dataclass(frozen=True, slots=True)
class Started:
    """What there is to tell once it runs. `fallback` says why the port is not 443; `setup_url`, a secret, is
    there while nobody can administer.
    """

    listening: str
    urls: tuple[str, ...]
    urls_guessed: bool
    fallback: str | None
    identity: str
    admin_file: Path
    database: str
    setup_url: str | None
    own_node: OwnNode | None = None


def serve(options: ServeOptions, announce: Callable[[Started], None]) -> None:
    """Run until SIGTERM or SIGINT. `announce` is called once it answers.

    Raises ConfigError, StateError, HostError for what keeps it from starting.
    """
    for url in options.urls:
        if not is_coordinator_url(url):
            raise ConfigError(f"--url is https://HOST or https://HOST:PORT and nothing more; got {url!r}")
    _check_proxies(options)
    os.umask(0o077)
    _raise_open_files()
    _return_freed_memory()
    state = StateDir(options.state_dir)
    state.prepare()
    with state.locked(), contextlib.ExitStack() as stack:
        database = _open_database(options, state)
        stack.callback(database.close)
        now = time.time()
        if options.new_leaf:
            rotate_leaf(database, state.key_file, now)
        credentials = load_credentials(
            database, state.key_file, options.own_certificate, now, tls_by_proxy=options.tls_by_proxy
        )
        listener, fallback = open_listener(options.listen)
        stack.callback(listener.close)
        urls = options.urls or guessed_urls(listener)
        database.write(set_urls, urls, now)
        own_url = local_url(listener, tls=not options.tls_by_proxy)
        relay = _prepare_relay(database, credentials, options, listener, urls=urls, now=now)
        _provide_admin_file(state, database, credentials.identity, own_url, now)
        own_node = None
        if options.join is not None:
            rng = random.SystemRandom()
            own_node = prepare_own_node(database, credentials.identity, state, options.join, rng, now)
        started = Started(
            listening=own_url,
            urls=urls,
            urls_guessed=not options.urls,
            fallback=fallback,
            identity=encode_b64u(credentials.identity.hash),
            admin_file=state.admin_file,
            database=database.shown,
            setup_url=_make_setup_url(database, urls[0], now),
            own_node=own_node,
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            tell = functools.partial(announce, started)
            runner.run(_serve(database, credentials, listener, options, relay=relay, announce=tell))


def _check_proxies(options: ServeOptions) -> None:
    """Raises ConfigError."""
    if not options.tls_by_proxy:
        return
    if options.own_certificate is not None:
        raise ConfigError("--tls-by-proxy and --tls-cert exclude each other: the certificate is the proxy's")
    if not options.trusted_proxies:
        raise ConfigError("--tls-by-proxy needs --trusted-proxy: the addresses that the proxy comes from")
    if not options.urls:
        raise ConfigError("--tls-by-proxy needs --url: how nodes reach the proxy")


def _open_database(options: ServeOptions, state: StateDir) -> Database:
    url = options.database or f"sqlite:///{state.database}"
    database = Database(parse_database_url(url))
    try:
        migrate(database, os.urandom(8).hex(), time.time())
        if options.new_epoch:
            database.write(_start_epoch, os.urandom(8).hex())
    except DBAPIError as error:
        reason = str(error.orig).strip().splitlines()
        raise StateError(
            f"cannot use the database {database.shown}: {reason[0] if reason else type(error).__name__}"
        ) from None
    return database


def _start_epoch(connection: Connection, epoch: str) -> None:
    connection.execute(update(meta).values(epoch=epoch))


def _raise_open_files() -> None:
    """A stream is a descriptor: take as many as the host allows."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _return_freed_memory() -> None:
    """Keep glibc from holding on to what whole maps took: by default its mmap threshold grows with them.

    Measured with 1,000 streams that each took a map of 500 KB: 176 MB in place of 285.
    """
    with contextlib.suppress(OSError, AttributeError):  # another libc
        ctypes.CDLL(None).mallopt(-3, 128 * 1024)  # M_MMAP_THRESHOLD; to set it stops the growth


def _spare_the_garbage_collector() -> None:
    """What was made until now stays, so it is looked at no more; and less often at what comes and goes.

    Measured while 400 streams began: a tenth of the time was spent on looking.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


async def _give_back_memory() -> None:
    """What a crowd took that came at once goes back to the system, also from between what stays."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:  # glibc's
        await asyncio.sleep(TRIM_INTERVAL)
        await asyncio.to_thread(trim, 0)


def _provide_admin_file(
    state: StateDir, database: Database, identity: CoordinatorIdentity, url: str, now: float
) -> None:
    """Keep the key of admin.json while it opens this database, else make one; write where we listen now."""
    known = state.read_admin_file()
    secret = None if known is None else parse_api_key_untrusted(known.key)
    if secret is None or not database.read(is_api_key, secret, now):
        secret = BearerSecret(os.urandom(32))
        database.write(add_api_key, secret, "admin", now)
    state.write_admin_file(AdminFile(url, encode_b64u(identity.hash), encode_api_key(secret)))


def _prepare_relay(
    database: Database,
    credentials: Credentials,
    options: ServeOptions,
    listener: socket.socket,
    *,
    urls: Sequence[str],
    now: float,
) -> OwnRelay | None:
    """Our own relay, told to every network, at the UDP port of the API's number unless another was chosen.

    Coordinators that share a database share no address, so theirs are made by hand.
    """
    port = listener.getsockname()[1] if options.relay_port is None else options.relay_port
    if port == 0 or (options.database is not None and options.relay_port is None):
        database.write(set_own_relay, None, (), None, now)
        return None
    key = _own_relay_key(credentials)
    hosts = relay_hosts(urls, port, MAX_HOSTS)
    database.write(set_own_relay, key.public_key(), hosts, urls[0], now)
    identity = credentials.identity
    return OwnRelay(RelayToken(identity.public, key, tuple(urls), identity.pinned), port)


def _own_relay_key(credentials: Credentials) -> RelayKey:
    return RelayKey(SessionKeys(credentials.session_key).sealing_key("own relay"))


def _make_setup_url(database: Database, url: str, now: float) -> str | None:
    """A new one at each start, until there is an admin: only hashes of the older ones are kept."""
    if database.read(count_admins):
        return None
    secret = BearerSecret(os.urandom(32))
    database.write(make_setup_link, secret, None, now)
    return f"{url}/setup#{encode_setup_secret(secret)}"


class _Server(uvicorn.Server):
    """uvicorn's, with our own say on signals, and a word once it answers."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = started

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_started()


async def _serve(
    database: Database,
    credentials: Credentials,
    listener: socket.socket,
    options: ServeOptions,
    *,
    relay: OwnRelay | None,
    announce: Callable[[], None],
) -> None:
    store = Store(database)
    epoch = await store.read(read_epoch)
    hub = Hub(store, credentials.identity, epoch, os.urandom(8).hex(), time.time)
    sessions = SessionKeys(credentials.session_key)
    port = None if relay is None else relay.port
    receipts = ReceiptKey.of_relay(_own_relay_key(credentials))
    context = Context(
        store, hub, credentials.identity, sessions, random.SystemRandom(), time.time, receipts, port
    )
    app: ASGIApp = build_app(context)
    if options.trusted_proxies:
        app = BehindProxies(app, options.trusted_proxies, only=options.tls_by_proxy)
    config = uvicorn.Config(
        app,
        http=GuardedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    config.load()
    config.ssl = credentials.tls  # made from memory: uvicorn's own options would want a key file

    def started() -> None:
        announce()
        notify_systemd("READY=1")

    server = _Server(config, started)

    def stop() -> None:
        if server.should_exit:
            server.force_exit = True
            return
        logger.info("stopping")
        notify_systemd("STOPPING=1")
        hub.close()
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    # Where the relay has the API's number, it answers STUN, too.
    has_stun = relay is not None and relay.port == listener.getsockname()[1]
    stun = [] if has_stun else open_stun_sockets(listener)
    own = None if relay is None else asyncio.create_task(relay.run())
    trimming = asyncio.create_task(_give_back_memory())
    _spare_the_garbage_collector()
    try:
        with contextlib.closing(StunServer(stun, receipts)):
            await server.serve(sockets=[listener])
    finally:
        trimming.cancel()
        if own is not None:
            own.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await own


def notify_systemd(state: str) -> None:
    """sd_notify(3), when systemd started us with Type=notify."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect("\0" + address[1:] if address.startswith("@") else address)
        notify.send(state.encode())
