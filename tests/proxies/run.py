"""Runs all scenarios behind one proxy, and says what the client and the service saw."""

import contextlib
import json
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from capability import Biscuit
from capability.store import create_store
from capability.store.protocol import Store
from tests.proxies.proxies import Proxy, find, running
from tests.proxies.scenarios import HOST, IDENTITY, REVOKED, SCENARIOS, Scenario, When
from tests.proxies.service import PATIENCE, Received, Service, send, service
from tests.servers import free_port
from tests.sidecar.processes import TIMEOUT, Sidecar, sidecar, wait_until
from tests.sidecar.tokens import ROOT

LETTERS: Final = dict(zip("STRDP", IDENTITY, strict=True))

BUSY: Final = 0.4
"""Seconds. The proxies give a check 0.5 or more; a 5xx after that is a busy machine's, not the sidecar's."""

TRIES: Final = 5
"""How often is tried what the machine held up."""

CONFIG: Final = """
public_key = "{key}"
store = "sqlite:///{folder}/cap.db"
[serve]
policy = "{policy}"
tenant = "acme"
poll = 0.05
max_stale = 2
decisions = "all"
log = "decisions.jsonl"
[[serve.listen]]
address = "{address}"
serves = "{serves}"
behind = "{behind}"
[[serve.listen]]
address = "tcp:0"
serves = "admin"
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a scenario.

    `status` is the client's, 0 for a connection that was closed without a word, None for no answer in time.
    `reached` holds each request that the service got. `challenge` and `reason` are headers of the answer.
    """

    scenario: str
    status: int | None
    challenge: str | None = None
    reason: str | None = None
    reached: tuple[Received, ...] = ()

    @property
    def letters(self) -> str:
        """The identity headers that the service saw with a value, by their letters."""
        return "".join(
            letter
            for letter, name in LETTERS.items()
            if any(value for request in self.reached for value in request.values(name))
        )


@dataclass(frozen=True, slots=True)
class Run:
    """What was seen, the sidecar's decisions by their ids, and the scenarios whose token got into a log."""

    seen: dict[str, Seen]
    decisions: dict[str, dict[str, Any]]
    leaked: list[str]

    def to_json(self) -> str:
        """Returns it as text, for another process of the same test run."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Run":
        """Returns what `to_json` wrote."""
        read = json.loads(text)
        seen = {
            name: Seen(
                **{
                    **each,
                    "reached": tuple(
                        Received(
                            request["method"],
                            request["target"],
                            tuple((key, value) for key, value in request["headers"]),
                            request["body"],
                        )
                        for request in each["reached"]
                    ),
                }
            )
            for name, each in read["seen"].items()
        }
        return cls(seen, read["decisions"], read["leaked"])


def run(proxy: Proxy) -> Run:
    """Starts the service, the sidecar and the proxy, and tries everything."""
    find(proxy)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cap-proxy-")))
        check = free_port()
        address = f"unix:{folder}/cap.sock" if proxy.uses_socket else f"tcp:127.0.0.1:{check}"
        config = CONFIG.format(
            key=repr(ROOT.public_key),
            folder=folder,
            policy=Path(__file__).resolve().parents[2] / "deploy/policy.datalog",
            address=address,
            behind=proxy.behind,
            serves=proxy.serves,
        )
        store = stack.enter_context(create_store(f"sqlite:///{folder}/cap.db"))
        behind = stack.enter_context(service())
        asked = stack.enter_context(sidecar(folder, config=config))
        port, written = stack.enter_context(
            running(proxy, folder, service=behind.port, socket_path=f"{folder}/cap.sock", check=check)
        )
        assert wait_until(lambda: asked.ask(1, "/readyz")[0] == 200)
        # Traefik accepts before it knows where to
        assert wait_until(lambda: (send(port, "GET", "/", (HOST,)) or (None,))[0] == 401), written.read_text()
        seen = {}
        state = When.RUNNING
        with contextlib.ExitStack() as states:
            for scenario in SCENARIOS:
                if scenario.when is not state:
                    states.close()
                    state = scenario.when
                    states.enter_context(_become(state, asked, store, folder))
                seen[scenario.name] = _see(scenario, proxy, port, behind, asked)
        log = (folder / "decisions.jsonl").read_text()
        decisions = {line["decision_id"]: line for line in map(json.loads, log.splitlines())}
        logs = log + asked.errors.read_text() + written.read_text(errors="replace")
        return Run(seen, decisions, [each.name for each in SCENARIOS if _is_in(each, logs)])


def _see(scenario: Scenario, proxy: Proxy, port: int, behind: Service, asked: Sidecar) -> Seen:
    """Tries a scenario; and again what failed because the machine stood still, while the sidecar runs.

    That is what took too long, and what the sidecar refused because its copy had become too old meanwhile.
    """
    expected = scenario.but.get(proxy.name, scenario.expected)
    patience = PATIENCE if expected is None else TIMEOUT
    if scenario.when in (When.SLOW, When.DOWN):
        return _try(scenario, port, behind, patience)
    for _ in range(TRIES):
        began, stale = time.monotonic(), _stale(asked)
        seen = _try(scenario, port, behind, patience)
        failed = seen.status != expected and (seen.status is None or seen.status >= 500)
        if not failed or (time.monotonic() - began < BUSY and _stale(asked) == stale):
            break
        wait_until(lambda: asked.ask(1, "/readyz")[0] == 200 or scenario.when is When.STORE_DOWN)
    return seen


def _stale(asked: Sidecar) -> str:
    """Returns how often the sidecar could not decide, as its metrics say it."""
    return next(line for line in _metrics(asked).splitlines() if 'reason="store_unavailable"' in line)


def _try(scenario: Scenario, port: int, behind: Service, patience: float) -> Seen:
    before = len(behind.received)
    closing = () if any(name == "Connection" for name, _ in scenario.headers) else (("Connection", "close"),)
    sent = (HOST, *scenario.headers, *closing)
    answer = send(port, scenario.method, scenario.target, sent, scenario.body, patience=patience)
    reached = tuple(behind.received[before:])
    if answer is None:
        return Seen(scenario.name, None, reached=reached)
    status, headers = answer
    return Seen(scenario.name, status, headers.get("www-authenticate"), headers.get("x-cap-reason"), reached)


def _is_in(scenario: Scenario, logs: str) -> bool:
    """True when a token of the scenario stands in the logs, or enough of its end to know it by."""
    values = [value for name, value in scenario.headers if name.lower() == "authorization"]
    return any(word[-40:] in logs for value in values for word in value.split() if len(word) > 40)


@contextlib.contextmanager
def _become(state: When, asked: Sidecar, store: Store, folder: Path) -> Iterator[None]:
    """Brings the sidecar into a state, and out of it at the end of the block."""
    if state is When.REVOKED:
        known = Biscuit.from_base64(REVOKED, ROOT.public_key).canonical_revocation_ids
        revision = store.revoke(list(known)[:1])
        assert wait_until(lambda: f"cap_revocation_revision {revision}.0" in _metrics(asked))
        yield
    elif state is When.STORE_DOWN:
        files = list(folder.glob("cap.db*"))
        for each in files:
            each.rename(folder / f"away-{each.name}")
        assert wait_until(lambda: asked.ask(1, "/readyz")[0] == 503)
        yield
        for each in files:
            (folder / f"away-{each.name}").rename(each)
        assert wait_until(lambda: asked.ask(1, "/readyz")[0] == 200)
    elif state is When.SLOW:
        asked.signal(signal.SIGSTOP)
        time.sleep(0.05)
        try:
            yield
        finally:
            asked.signal(signal.SIGCONT)
    else:
        asked.stop()
        yield


def _metrics(asked: Sidecar) -> str:
    return asked.ask(1, "/metrics")[2].decode()
