"""A PostgreSQL server of the test's own, which may be killed and started again."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest


def postgres_tool(name: str) -> str | None:
    candidates = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)
    return str(candidates[0]) if candidates else shutil.which(name)


class PostgresServer:
    """A cluster in `folder`, on a socket there; skips the test where there is no PostgreSQL. `options` are
    its settings.
    """

    def __init__(self, folder: str, *options: str) -> None:
        pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'wgpy[postgres]'")
        initdb, postgres = postgres_tool("initdb"), postgres_tool("postgres")
        if initdb is None or postgres is None:
            pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("there is no user postgres, and PostgreSQL does not run as root")
        self.folder = folder
        self._identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        os.chown(folder, user.pw_uid, user.pw_gid)
        data = f"{folder}/data"
        subprocess.run(
            [initdb, "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync"],
            check=True, capture_output=True, cwd=folder, **self._identity,
        )  # fmt: skip
        settings = [word for option in ("listen_addresses=", *options) for word in ("-c", option)]
        self._command = [postgres, "-D", data, "-k", folder, *settings]
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """With %s for the database."""
        return f"postgresql://postgres@/%s?host={self.folder}"

    def start(self) -> None:
        """And wait until it answers, after a crash when it has recovered."""
        import psycopg  # noqa: PLC0415

        self._server = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder,
            start_new_session=True, **self._identity,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(f"host={self.folder} user=postgres dbname=postgres").close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._server.poll() is not None:
                    raise
                time.sleep(0.05)

    def kill(self) -> None:
        """As a power cut would: every process of it, at once."""
        assert self._server is not None
        os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()

    def stop(self) -> None:
        if self._server is not None and self._server.poll() is None:
            self._server.terminate()
            self._server.wait()

    def create(self, name: str) -> str:
        """A new database's URL."""
        import psycopg  # noqa: PLC0415

        with psycopg.connect(self.url.replace("%s", "postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url.replace("%s", name)
