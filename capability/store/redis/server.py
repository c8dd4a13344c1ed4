"""The connection to a Redis server: its one script, its settings, and its errors in our words."""

import random
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files
from typing import Any, Final

import redis
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from capability.errors import StoreRolledBack, StoreSchemaError, StoreUnavailable
from capability.store.redis.address import Address

_SCRIPT: Final = files("capability.store.redis").joinpath("store.lua").read_text(encoding="utf-8")

_SAID: Final = {
    "READONLY": "it is a replica, which takes no changes: name the primary",
    "OOM": "it has no memory left (maxmemory), and nothing was changed",
    "MISCONF": "it cannot write to its disk, and takes no changes",
    "LOADING": "it is still loading its data",
    "BUSY": "it is busy with a script",
    "NOAUTH": "it asks for a password",
    "WRONGPASS": "it refuses the user or the password",
    "NOPERM": "the user may not do what a store needs, or not with these keys",
    "MASTERDOWN": "it is a replica that has lost its primary",
    "CLUSTERDOWN": "its cluster is down",
    "MOVED": "it is part of a cluster, and the keys are on another server",
    "NOREPLICAS": "it lacks the replicas that it must have to take changes",
}
"""What the codes at the beginning of a server's errors mean. Its own sentences are not shown: some
repeat what they were sent."""

FULL_SYNC: Final = "appendonly yes with appendfsync always"


class Server:
    """Runs the store's script on one server, by any number of threads.

    Every call checks that this is the store that was opened, and that it is not behind what was seen of it.
    """

    def __init__(self, address: Address, *, min_revision: int = 0) -> None:
        self.address = address
        self._open = True
        self._lock = threading.Lock()
        self._seen = min_revision
        self._id = b""
        transport: type[redis.Connection] = redis.SSLConnection if address.tls else redis.Connection
        options: dict[str, Any] = {"host": address.host, "port": address.port}
        if address.socket is not None:
            transport = redis.UnixDomainSocketConnection  # type: ignore[assignment]
            options = {"path": address.socket}
        if address.tls:
            options |= {
                "ssl_cert_reqs": "required",
                "ssl_check_hostname": True,  # redis-py before 6 would not
                "ssl_ca_certs": address.ca,
                "ssl_certfile": address.certificate,
                "ssl_keyfile": address.key,
            }
        self._redis: Any = redis.Redis(
            connection_pool=redis.ConnectionPool(
                connection_class=transport,
                db=address.database,
                username=address.user,
                password=address.password,
                socket_timeout=address.timeout,
                socket_connect_timeout=address.timeout,
                protocol=2,
                # A change whose answer was lost must not be sent again behind the caller's back.
                retry=Retry(NoBackoff(), 0),
                **options,
            )
        )
        self._sha = ""

    @property
    def seen(self) -> int:
        """The newest revision that was seen."""
        return self._seen

    def start(self, command: str, *arguments: str) -> int:
        """Runs `create` or `migrate`, remembers which store it is, and returns the revision."""
        self.check_settings()
        with self._translated():
            found = self._run(self._redis, "check", (), None)
        if found[0] in (b"none", b"older"):
            answer = self.change(command, *arguments)
        else:
            answer = self._understood(found)
        self._id = answer[2]
        return int(answer[1])

    def ask(self, command: str, *arguments: Any, seen: int | None = None) -> list[Any]:
        """Returns the script's answer to a question; one lost connection is made up for."""
        with self._translated():
            for attempt in (1, 2):
                try:
                    return self._understood(self._run(self._redis, command, arguments, seen))
                except redis.exceptions.ConnectionError as error:
                    # It may have been idle for long, or the server was started again. A password that is
                    # refused, and a server that is full, are ConnectionErrors too.
                    if attempt == 2 or type(error) is not redis.exceptions.ConnectionError:
                        raise
        raise AssertionError("unreachable")

    def change(self, command: str, *arguments: Any) -> list[Any]:
        """Returns the script's answer to a change, once it is as safe as the address asks for.

        Raises StoreUnavailable when that cannot be told; the change may then have been made all the same.
        """
        must_wait = self.check_settings()
        with self._translated(), self._redis.client() as one:  # one connection: WAITAOF is about its changes
            answer = self._understood(self._run(one, command, arguments, None))
            if must_wait and answer[0] == b"ok":
                self._wait_for_disk(one)
        return answer

    def send(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Returns the answers to commands that are no change yet: nobody looks at their keys."""
        with self._translated():
            batch = self._redis.pipeline(transaction=False)
            for command in commands:
                batch.execute_command(*command)
            answers: list[Any] = batch.execute()
        return answers

    def delete(self, keys: Iterable[str]) -> None:
        """Deletes what was sent and is not wanted any more; leaves it there when the server is gone."""
        with suppress(StoreUnavailable):
            self.send([("DEL", key) for key in keys])

    def revision(self) -> int:
        """Returns the revision, which one command reads."""
        seen = self._seen  # before the question: another thread may see a newer one meanwhile
        with self._translated():
            for attempt in (1, 2):
                try:
                    found = self._redis.execute_command(
                        "HMGET", f"{self.address.prefix}meta", "application", "id", "revision"
                    )
                except redis.exceptions.ConnectionError as error:
                    if attempt == 2 or type(error) is not redis.exceptions.ConnectionError:
                        raise
                else:
                    break
        if found[0] is None:
            self._understood([b"none"])
        if found[0] != b"capability-tokens":
            self._understood([b"foreign"])
        if found[1] != self._id:
            self._understood([b"other"])
        if not (found[2] or b"").isdigit():
            self._understood([b"lost", b"its revision"])
        revision = int(found[2])
        if revision < seen:
            raise StoreRolledBack(seen, revision)
        self._saw(revision)
        return revision

    def wait(self, revision: int, seconds: float) -> bool:
        """Waits for an entry of the feed behind `revision`; returns whether there is one."""
        with self._translated():
            found = self._redis.execute_command(
                "XREAD",
                *("COUNT", 1, "BLOCK", max(1, int(min(seconds, self.address.timeout / 2) * 1000))),
                *("STREAMS", f"{self.address.prefix}feed", f"{revision}-{2**64 - 1}"),
            )
        return bool(found)

    def check_settings(self) -> bool:
        """Refuses a server that would lose changes, and returns whether each must be waited for.

        Where the user may not ask for the settings, they are unknown: then WAITAOF must tell.
        """
        settings = self._settings()
        evicts = settings.get("maxmemory-policy", "noeviction")
        if evicts.startswith("allkeys"):
            raise StoreUnavailable(
                f"{self.address} throws keys away when its memory is full, and revocations with them:"
                f" maxmemory-policy is {evicts}, set it to noeviction"
            )
        if not self.address.durable:
            return False
        if settings.get("appendonly", "yes") != "yes":
            raise StoreUnavailable(
                f"{self.address} does not keep its changes on disk: set {FULL_SYNC}, or say durability=memory"
            )
        if settings.get("appendfsync") == "no":
            raise StoreUnavailable(
                f"{self.address} leaves it to its system when changes go to disk: set {FULL_SYNC}, or say"
                " durability=memory"
            )
        return settings.get("appendfsync") != "always"

    def close(self) -> None:
        """Closes all connections. Nothing can be asked afterwards."""
        self._open = False
        self._let_go()

    def _let_go(self) -> None:
        # Not of those in use: who waits on one would see it break. They follow when they come back.
        self._redis.connection_pool.disconnect(inuse_connections=False)

    def _settings(self) -> dict[str, str]:
        with self._translated():
            try:
                found: dict[str, str] = {}
                for pattern in ("append*", "maxmemory*"):
                    values = self._redis.execute_command("CONFIG GET", pattern)
                    found |= {str(_text(name)): str(_text(value)) for name, value in values.items()}
            except redis.exceptions.NoPermissionError:
                return {}
            except redis.exceptions.ResponseError as error:
                if _code(error) in _SAID:
                    raise
                return {}  # a service that has no such command
        return found

    def _wait_for_disk(self, one: Any) -> None:
        within = int(self.address.timeout * 800)
        try:
            written = one.execute_command("WAITAOF", 1, 0, within)[0]
        except redis.exceptions.ResponseError as error:
            raise StoreUnavailable(
                f"the change was made, but {self.address} cannot tell when it is on disk: set {FULL_SYNC},"
                " or say durability=memory"
            ) from error
        if written < 1:
            raise StoreUnavailable(
                f"the change was made, but was not on the disk of {self.address} after {within / 1000:g} s"
            )

    def _run(self, client: Any, command: str, arguments: Sequence[Any], seen: int | None) -> list[Any]:
        prefix = self.address.prefix
        least = self._seen if seen is None else max(seen, self._seen)
        sent = (1, f"{prefix}meta", prefix, self._id, least, command, *arguments)
        for _ in range(3):
            try:
                if self._sha:
                    answer: list[Any] = client.execute_command("EVALSHA", self._sha, *sent)
                    return answer
            except redis.exceptions.NoScriptError:
                pass
            self._sha = _text(client.execute_command("SCRIPT LOAD", _SCRIPT))
        raise StoreUnavailable(f"{self.address} forgets the store's script at once")

    def _understood(self, answer: list[Any]) -> list[Any]:
        word = _text(answer[0])
        where = f"the keys {self.address.prefix!r}* of {self.address}"
        if word == "none":
            raise StoreUnavailable(f"{self.address} holds no store below {self.address.prefix!r}")
        if word == "older":
            raise StoreUnavailable(f"{where} are a store of an older version")
        if word == "foreign":
            raise StoreSchemaError(f"{where} are not those of a store of capability tokens")
        if word == "newer":
            raise StoreSchemaError(
                f"{where} have version {_text(answer[1])}; this program knows {_text(answer[2])}"
            )
        if word == "other":
            raise StoreSchemaError(f"{where} are now another store than the one that was opened")
        if word == "denied":
            raise StoreUnavailable(f"{self.address} cannot be used: {_SAID['NOPERM']}")
        if word == "lost":
            raise StoreSchemaError(f"the store in {where} has lost {_text(answer[1])}")
        found = int(answer[1])
        if word == "back":
            raise StoreRolledBack(int(answer[2]), found)
        self._saw(found)
        return answer

    def _saw(self, revision: int) -> None:
        with self._lock:
            self._seen = max(self._seen, revision)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Lets no exception of the redis library out."""
        if not self._open:
            raise StoreUnavailable("the store is closed")
        try:
            yield
        except redis.exceptions.AuthenticationError:
            # The cause is left out: what a server says then may repeat what it was sent.
            raise StoreUnavailable(f"{self.address} refuses the user or the password") from None
        except redis.exceptions.TimeoutError as error:
            raise StoreUnavailable(
                f"{self.address} did not answer within {self.address.timeout:g} s"
            ) from error
        except redis.exceptions.ResponseError as error:
            raise self._translation(error) from error
        except (redis.exceptions.RedisError, OSError) as error:
            code = _code(error)
            said = _SAID.get(code, "the connection failed")
            raise StoreUnavailable(f"{self.address} cannot be used: {said}") from error
        finally:
            if not self._open:
                self._let_go()

    def _translation(self, error: Exception) -> StoreUnavailable | StoreSchemaError:
        code = _code(error)
        if code == "WRONGTYPE":
            return StoreSchemaError(
                f"the keys {self.address.prefix!r}* of {self.address} are used by something else than a store"
            )
        if code in _SAID:
            return StoreUnavailable(f"{self.address} cannot be used: {_SAID[code]}")
        return StoreUnavailable(f"{self.address} refused what the store asked for ({code or 'ERR'})")


def pause(attempt: int) -> None:
    """Waits before another try at what another writer was first with: a little longer each time."""
    if attempt > 1:
        threading.Event().wait(random.random() * min(0.001 * 2**attempt, 0.05))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _code(error: Exception) -> str:
    """Returns the code of a server's error, which older servers put behind words about the script."""
    words = str(error).replace("-", " ").replace(":", " ").split()
    if isinstance(error, redis.exceptions.NoPermissionError) or "ACL" in words:
        return "NOPERM"
    if isinstance(error, redis.exceptions.ReadOnlyError):
        return "READONLY"
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return "OOM"
    if isinstance(error, redis.exceptions.BusyLoadingError):
        return "LOADING"
    return next((word for word in words if word in _SAID or word == "WRONGTYPE"), "")
