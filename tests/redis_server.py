"""Redis servers of the tests' own, which they may stop, freeze and start again without their data.

Besides single ones there are a master with a replica that Sentinel looks after, and a cluster.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import hiredis

DEADLINE_S = 20.0


class RedisServer:
    """One redis-server on a free port of the loopback interface and on a Unix socket.

    Args:
        directory: A directory for its files.
        password: What it asks for, if it does.
        options: More of its command line, such as `"--maxmemory", "2mb"`.
    """

    def __init__(self, directory: Path, password: str | None = None, options: tuple[str, ...] = ()) -> None:
        self.port = _free_port()
        self.path = directory / "redis.sock"
        self._directory = directory
        self._password = password
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is, with the password."""
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """Where it is when it is reached by another port, such as a `FaultProxy`'s."""
        credentials = f":{self._password}@" if self._password is not None else ""
        return f"redis://{credentials}127.0.0.1:{port}/0"

    @property
    def tls_port(self) -> int:
        """The port for TLS, if `--tls-port` is among its options."""
        return int(self._options[self._options.index("--tls-port") + 1])

    def start(self) -> None:
        """Start it with the data that `stop(keep=True)` has left, if it has, and return when it answers."""
        program = shutil.which("redis-server")
        if program is None:
            raise RuntimeError("redis-server is missing: install Debian's package redis-server, or run make redis")
        with (self._directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, *self._arguments()], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + DEADLINE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"redis-server did not start:\n{(self._directory / 'redis.log').read_text()}")
            time.sleep(0.01)

    def _arguments(self) -> list[str]:
        fixed = ["--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.path)]
        files = ["--save", "", "--appendonly", "no", "--dir", str(self._directory)]
        secret = ["--requirepass", self._password] if self._password is not None else []
        return [*fixed, *files, *secret, *self._options]

    def stop(self, *, keep: bool = False) -> None:
        """End it, if it is there; its data are lost unless they are to be kept for the next `start`."""
        if self._process is None or self._process.poll() is not None:
            return
        if keep:
            self.command("SAVE")
        self._process.kill()
        self._process.wait(DEADLINE_S)
        if not keep:
            (self._directory / "dump.rdb").unlink(missing_ok=True)

    def kill(self) -> None:
        """End it as a crash does: the next `start` finds what was saved last."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(DEADLINE_S)

    def restart(self, *, keep: bool = False) -> None:
        """Stop it and start it again, without its data unless they are to be kept."""
        self.stop(keep=keep)
        self.start()

    def freeze(self) -> None:
        """Let it answer nothing, with all connections open."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def command(self, *arguments: str | bytes | int) -> Any:
        """Send one command by a connection of its own and return the reply; raise what is an error.

        It blocks the loop for some tenths of a millisecond.
        """
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE_S) as connection:
            reader = hiredis.Reader()
            if self._password is not None:
                _ask(connection, reader, ("AUTH", self._password))
            return _ask(connection, reader, arguments)

    def has_all_of(self, master: RedisServer) -> bool:
        """Whether it, a replica, has what was written to its master. (WAIT speaks of one connection's writes.)"""
        offsets = {
            server.command("INFO", "replication").split(b"master_repl_offset:")[1][:20] for server in (self, master)
        }
        return len({offset.split()[0] for offset in offsets}) == 1

    def _answers(self) -> bool:
        try:
            return bool(self.command("PING") == b"PONG")
        except (OSError, hiredis.ReplyError):
            return False


def _ask(connection: socket.socket, reader: hiredis.Reader, arguments: tuple[str | bytes | int, ...]) -> Any:
    connection.sendall(hiredis.pack_command(arguments))  # type: ignore[arg-type]
    while (reply := reader.gets()) is False:
        received = connection.recv(65_536)
        if not received:
            raise ConnectionError("redis-server has hung up")
        reader.feed(received)
    if isinstance(reply, hiredis.ReplyError):
        raise reply
    return reply


def with_tls(certificate: Path, key: Path) -> tuple[str, ...]:
    """Return the options of a server that also takes TLS, without certificates of its clients."""
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate))
    return ("--tls-port", str(_free_port()), *files, "--tls-auth-clients", "no")


@contextmanager
def redis_server(password: str | None = None, *options: str) -> Iterator[RedisServer]:
    """Run a Redis server; see `RedisServer`."""
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        server = RedisServer(Path(directory), password, options)
        server.start()
        try:
            yield server
        finally:
            server.stop()


class Sentinel(RedisServer):
    """A Sentinel that decides alone.

    Args:
        directory: A directory for its files.
        master: The server that it calls `main`.
    """

    def __init__(self, directory: Path, master: RedisServer) -> None:
        super().__init__(directory)
        self._configuration = directory / "sentinel.conf"
        self._configuration.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor main 127.0.0.1 {master.port} 1\nsentinel down-after-milliseconds main 1000\n"
            "sentinel failover-timeout main 3000\n"
        )

    def has_a_fit_replica(self) -> bool:
        """Whether it has heard of a replica that is connected to the master."""
        return any(b"ok" in found for found in self.command("SENTINEL", "REPLICAS", "main"))

    def fail_over(self) -> None:
        """Make the replica the master, as soon as Sentinel takes it for fit."""
        _until(lambda: self._takes("SENTINEL", "FAILOVER", "main"))

    def _takes(self, *arguments: str) -> bool:
        try:
            return bool(self.command(*arguments) == b"OK")
        except hiredis.ReplyError:
            return False

    def _arguments(self) -> list[str]:
        return [str(self._configuration), "--sentinel"]


@contextmanager
def sentinel() -> Iterator[tuple[Sentinel, RedisServer, RedisServer]]:
    """Run a master, a replica and a Sentinel that knows both."""
    at_once = ("--repl-diskless-sync-delay", "0")
    with (
        redis_server(None, *at_once) as master,
        redis_server(None, *at_once, "--replicaof", f"127.0.0.1 {master.port}") as replica,
    ):
        _until(lambda: b"state=online" in master.command("INFO", "replication"))
        with tempfile.TemporaryDirectory(prefix="sentinel-") as directory:
            running = Sentinel(Path(directory), master)
            running.start()
            running.command("SENTINEL", "DEBUG", "info-period", 100, "publish-period", 100)
            try:
                _until(running.has_a_fit_replica)
                yield running, master, replica
            finally:
                running.stop()


class RedisCluster:
    """Three masters that share the slots, and perhaps a replica of the first.

    Args:
        servers: All of them, started.
    """

    SLOTS = (0, 5_460), (5_461, 10_922), (10_923, 16_383)

    def __init__(self, servers: list[RedisServer]) -> None:
        self.masters = servers[:3]
        self.replicas = servers[3:]
        self.servers = servers

    @property
    def url(self) -> str:
        """Where the first master is."""
        return self.url_of(self.masters[0])

    def url_of(self, *servers: RedisServer) -> str:
        """Where servers are, as nodes of the cluster."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)

    def join(self) -> None:
        """Make one cluster of the servers, and return when all of them say so."""
        for number, (server, (first, last)) in enumerate(zip(self.masters, self.SLOTS, strict=True), 1):
            server.command("CLUSTER", "SET-CONFIG-EPOCH", number)
            server.command("CLUSTER", "ADDSLOTSRANGE", first, last)
        for server in self.servers[1:]:
            server.command("CLUSTER", "MEET", "127.0.0.1", self.masters[0].port, self.bus_port(self.masters[0]))
        everyone = f"cluster_known_nodes:{len(self.servers)}".encode()
        for server in self.servers:
            _until(lambda server=server: everyone in server.command("CLUSTER", "INFO"))
        for replica in self.replicas:
            replica.command("CLUSTER", "REPLICATE", self.id_of(self.masters[0]))
            _until(lambda: b"state=online" in self.masters[0].command("INFO", "replication"))
        for server in self.servers:
            _until(lambda server=server: b"cluster_state:ok" in server.command("CLUSTER", "INFO"))
            _until(lambda server=server: len(server.command("CLUSTER", "SLOTS")) == 3)

    def bus_port(self, server: RedisServer) -> int:
        """Return the port by which the nodes talk to a server."""
        return int(server.command("CONFIG", "GET", "cluster-port")[1])

    def id_of(self, server: RedisServer) -> bytes:
        """Return what the cluster calls a server."""
        return bytes(server.command("CLUSTER", "MYID"))

    def master_of(self, slot: int) -> RedisServer:
        """Return the master that has a slot at the beginning."""
        return next(
            server for server, (first, last) in zip(self.masters, self.SLOTS, strict=True) if first <= slot <= last
        )

    def begin_to_move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """Let keys of a slot be at either of two masters."""
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id_of(source))
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id_of(target))

    def move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        """Move a slot with its keys, as `redis-cli --cluster reshard` does."""
        self.begin_to_move(slot, source, target)
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.command("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
        for server in (target, source, *self.masters):
            server.command("CLUSTER", "SETSLOT", slot, "NODE", self.id_of(target))


@contextmanager
def redis_cluster(*, replicas: int = 0) -> Iterator[RedisCluster]:
    """Run a cluster; see `RedisCluster`."""
    with ExitStack() as stack:
        servers = []
        for _ in range(3 + replicas):
            cluster = ("--cluster-enabled", "yes", "--cluster-port", str(_free_port()))
            quick = ("--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no")
            replica = ("--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0")
            servers.append(stack.enter_context(redis_server(None, *cluster, *quick, *replica)))
        running = RedisCluster(servers)
        running.join()
        yield running


def _until(predicate: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not predicate():
        if time.monotonic() > deadline:
            raise RuntimeError(f"the servers did not come together within {DEADLINE_S:g} s")
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
