"""A real coordinator process, and nodes that talk to it over TLS."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from tests.coordinator.hosts import Follower, Host
from wgpy.mesh.encoding import decode_json
from wgpy.mesh.frames import Since
from wgpy.mesh.spki import leaf_hash_untrusted
from wgpy.mesh.token import Token
from wgpy.mesh.wire import Challenge, Identity, Membership


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


class Coordinator:
    """`python -m coordinator serve` on loopback, with its state in a directory of the test's."""

    def __init__(self, state_dir: Path, port: int, *options: str) -> None:
        self.state_dir, self.port, self.options = state_dir, port, options
        self.url = f"https://127.0.0.1:{port}"
        self.log = state_dir.parent / "coordinator.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._log_file: IO[bytes] | None = None

    def environment(self) -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if not name.startswith("WGPY_")}

    def start(self) -> None:
        """And wait until it answers."""
        listen = f"127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "coordinator", "serve", "--state-dir", str(self.state_dir)]
        told = self.log.stat().st_size if self.log.exists() else 0
        self._log_file = self.log.open("ab")
        self.process = subprocess.Popen(
            [*command, "--listen", listen, "--url", self.url, *self.options],
            stdout=self._log_file,
            stderr=subprocess.STDOUT,
            env=self.environment(),
        )
        wait_until(lambda: self.has_ended() or self._answers_since(told), "the coordinator runs", 60)
        assert not self.has_ended(), self.text()

    def _answers_since(self, told: int) -> bool:
        """Whether it has said so behind the first `told` octets of its log."""
        return b"Next:" in self.log.read_bytes()[told:]

    def has_ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        code = self.process.wait(15)
        self.process = None
        if self._log_file is not None:
            self._log_file.close()
        return code

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`python -m coordinator WORDS…` on this state directory."""
        done = subprocess.run(
            [sys.executable, "-m", "coordinator", *words, "--state-dir", str(self.state_dir)],
            capture_output=True,
            text=True,
            env=self.environment(),
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json").stdout)

    def token(self, *words: str) -> Token:
        return Token.decode(self.run("token", "create", *words).stdout)


class Connection:
    """One TLS connection, to the end of the block; `leaf_hash` is what it saw."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.http = http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=20, context=context)
        self.http.connect()
        assert self.http.sock.version() == "TLSv1.3"
        self.leaf_hash = leaf_hash_untrusted(self.http.sock.getpeercert(binary_form=True))

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def call(self, method: str, path: str, body: object = None, bearer: str | None = None) -> tuple[int, Any]:
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        self.http.request(method, path, None if body is None else json.dumps(body), headers)
        response = self.http.getresponse()
        return response.status, decode_json(response.read(), 1 << 20)

    def challenge(self) -> Challenge:
        return Challenge.from_json(self.call("POST", "/v1/challenge", {})[1])


class RemoteHost(Host):
    """A node that joins over the network, and follows its stream in a thread."""

    def __init__(self, number: int, token: Token) -> None:
        super().__init__(number)
        self.token = token
        self.url = token.urls[0]
        self.bearer = ""
        self.follower = Follower()
        self.stream_ended = threading.Event()
        self._watching: socket.socket | None = None

    def join(self) -> Membership:
        with Connection(self.url) as connection:
            identity = Identity.from_json(connection.call("GET", "/v1/identity")[1])
            assert identity.identity.hash == self.token.identity_hash
            assert identity.verify()
            assert connection.leaf_hash in identity.leaves
            asked = self.join_request(
                self.token.secret, connection.challenge(), self.token.identity_hash, connection.leaf_hash
            )
            status, answer = connection.call("POST", "/v1/join", asked.to_json())
            assert status == 200, answer
            self.membership = Membership.from_json(answer)
            self.open_session(connection)
            record = self.record(self.membership).to_json()
            assert connection.call("PUT", "/v1/node/record", record, self.bearer)[0] == 200
        return self.membership

    def open_session(self, connection: Connection) -> None:
        assert self.membership is not None
        asked = self.session_request(
            self.membership, connection.challenge(), self.token.identity_hash, connection.leaf_hash
        )
        status, answer = connection.call("POST", "/v1/session", asked.to_json())
        assert status == 200, answer
        self.bearer = answer["bearer"]

    def check_in(self, sequence: int, *endpoints: str, **more: object) -> tuple[int, Any]:
        since: Since | None = self.follower.since
        body = {"since": str(since) if since else None, "boot": 1, "sequence": sequence, "listen_port": 51820}
        body |= {"endpoints": list(endpoints)} | more
        with Connection(self.url) as connection:
            return connection.call("POST", "/v1/checkin", body, self.bearer)

    def watch(self) -> None:
        """Follow the stream, from where we stand, until it ends."""
        self.stream_ended.clear()
        connection = Connection(self.url)
        sock = connection.http.sock  # the answer takes it, for the connection is good for nothing after it
        since = self.follower.since
        path = "/v1/watch" if since is None else f"/v1/watch?since={since}"
        try:
            connection.http.request("GET", path, headers={"Authorization": f"Bearer {self.bearer}"})
            response = connection.http.getresponse()
            assert response.status == 200, response.read()
        except BaseException:
            connection.http.close()
            sock.close()
            raise
        self._watching = sock
        threading.Thread(target=self._follow, args=(response, connection), daemon=True).start()

    def _follow(self, response: http.client.HTTPResponse, connection: Connection) -> None:
        try:
            while line := response.readline():
                self.follower.take(line)
        except (OSError, ValueError, http.client.HTTPException):
            pass  # the coordinator was killed, or we hung up
        finally:
            connection.http.close()
            response.close()
            self.stream_ended.set()

    def hang_up(self) -> None:
        if self._watching is not None:
            with contextlib.suppress(OSError):
                self._watching.shutdown(socket.SHUT_RDWR)
