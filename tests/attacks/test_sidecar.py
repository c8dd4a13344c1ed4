"""Attacks on what a sidecar goes by: its keys, its files, what it remembers, and who reads its answers."""

import asyncio
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from capability import Biscuit, BiscuitBuilder, KeyPair, KeySet
from capability.configuration import Config, find
from capability.decision import Decision
from capability.errors import ConfigurationError
from capability.settings import read_config
from capability.sidecar import watching
from capability.sidecar.admin import health
from capability.sidecar.asgi import Sidecar
from capability.sidecar.check import Check, CheckSettings
from capability.sidecar.configured import Flags, configured
from capability.sidecar.live import STALE_KEYS, Live
from capability.sidecar.logs import line_of, open_log
from capability.sidecar.profiles import PROFILES, Original
from capability.sidecar.revocations import Revocations
from capability.sidecar.settings import Logged, RouteSettings, Settings, SettingsError
from capability.sidecar.tally import Board
from capability.sidecar.worker import Worker
from capability.store.memory import MemoryStore
from tests.sidecar.processes import TIMEOUT, put, sidecar, wait_until
from tests.sidecar.test_api import DEFAULT, LISTEN, Client, question
from tests.sidecar.tokens import ROOT, ask, make_check, mint

OTHER = KeyPair()
KEY = repr(ROOT.public_key)


class Issuer:
    """An issuer's web keys over HTTP: `keys` are told, or nothing while it is None."""

    def __init__(self) -> None:
        self.keys: KeySet | None = KeySet.from_keys({None: ROOT.public_key, 1: OTHER.public_key})
        issuer = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = b"" if issuer.keys is None else issuer.keys.to_json().encode()
                self.send_response(503 if issuer.keys is None else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys"


@contextmanager
def issuer() -> Iterator[Issuer]:
    found = Issuer()
    thread = threading.Thread(target=found.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield found
    finally:
        found.server.shutdown()
        thread.join()
        found.server.server_close()


def live(settings: Settings) -> Live:
    found = Live(settings, Board(1).row(0), Revocations(settings, lambda: ROOT.public_key))
    found.load()
    return found


def reasons(found: Live) -> tuple[str, ...]:
    """Returns why it is not ready."""
    known = Revocations(found.settings, lambda: ROOT.public_key)
    return health(found, known, draining=False).reasons


def check_of(found: Live) -> Check:
    assert found.state is not None
    return Check(found.state.routes, CheckSettings(profile=PROFILES["plain"]), Board(1).row(0))


def test_a_key_that_is_withdrawn_lets_nobody_in_who_was_known() -> None:
    """What is remembered of a token, by its text and by its header, says nothing once its key is gone."""
    builder = BiscuitBuilder('user("eve")')
    builder.set_root_key_id(1)
    theirs = builder.build(OTHER.private_key).to_base64()
    with issuer() as at:
        found = live(Settings(listen=LISTEN, routes=(RouteSettings(name="default"),), keys=at.url))
        check = check_of(found)
        for _ in range(5):
            assert ask(check, theirs)[0].status == ask(check, mint())[0].status == 200
        at.keys = KeySet.from_keys({None: ROOT.public_key})
        assert found.refresh_keys()
        assert (ask(check, theirs)[0].status, ask(check, mint())[0].status) == (401, 200)
        assert found.state is not None
        assert found.state.api is not None
        for guard in found.state.guards:
            assert guard.check(theirs, operation="read").code == "key.unknown"
        # another key under the same id is another issuer
        at.keys = KeySet.from_keys({None: ROOT.public_key, 1: KeyPair().public_key})
        assert found.refresh_keys()
        assert ask(check, theirs)[0].status == 401


def test_an_issuer_that_is_down_holds_up_no_stricter_policy(tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_text("allow if true;")
    with issuer() as at:
        routes = (RouteSettings(name="default", policy=str(policy)),)
        found = live(Settings(listen=LISTEN, routes=routes, keys=at.url))
        at.keys = None
        policy.write_text('allow if user("root");')
        assert found.reload()
        assert ask(check_of(found), mint())[0].status == 403
        assert found.problem is not None
        at.keys = KeySet.from_keys({None: ROOT.public_key})
        assert found.refresh_keys()
        assert found.problem is None


def test_other_keys_that_cannot_be_read_are_not_replaced_by_those_from_before() -> None:
    with issuer() as at:
        settings = Settings(listen=LISTEN, routes=(RouteSettings(name="default"),), keys=at.url)
        found = live(settings)
        at.keys = None
        assert not found.reload(replace(settings, keys=at.url + "?other"))
        assert found.settings == settings
        assert found.problem is not None


def test_keys_that_nobody_has_confirmed_for_long_are_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever keeps the sidecar from its issuer keeps a withdrawn key in use: somebody must hear of that."""
    with issuer() as at:
        settings = Settings(
            listen=LISTEN, routes=(RouteSettings(name="default"),), keys=at.url, keys_refresh=60.0
        )
        found = live(settings)
        assert reasons(found) == ()
        at.keys = None
        assert not found.refresh_keys()
        assert reasons(found) == ()
        monkeypatch.setattr(found, "_keys_read", found._keys_read - STALE_KEYS * 60.0)
        (reason,) = reasons(found)
        told = re.match(r"the keys are (\d+) s old: ", reason)
        assert told is not None
        assert 180 <= int(told[1]) < 240
        at.keys = KeySet.from_keys({None: ROOT.public_key})
        assert found.refresh_keys()
        assert reasons(found) == ()


@pytest.mark.parametrize(
    "broken",
    [
        *("serve = 1", "audit = 1", "a = " + "[" * 5000, "\x00", '[serve]\npolicy = "a\\u0000b"'),
        *("[serve]\nkeys = 1", '[serve]\nheaders = ["x-t\u00e9"]', '[serve]\nlog = "\\u0000"'),
    ],
)
def test_what_is_broken_in_a_configuration_is_no_surprise(broken: str, tmp_path: Path) -> None:
    (tmp_path / "cap.toml").write_text(f'public_key = "{KEY}"\n{broken}\n')
    with pytest.raises((ConfigurationError, SettingsError)):
        configured({}, read_config(str(tmp_path / "cap.toml")), (), Flags(store="none"))


def test_no_configuration_ends_the_following_of_it(tmp_path: Path) -> None:
    """What is broken is refused and said to be; the next one that can be used holds."""
    policy = tmp_path / "policy.datalog"
    policy.write_text("allow if true;")
    admin = '[[serve.listen]]\naddress = "tcp:0"\n[[serve.listen]]\naddress = "tcp:0"\nserves = "admin"\n'
    good = f'public_key = "{KEY}"\n[serve]\npolicy = "policy.datalog"\n{admin}'
    with sidecar(tmp_path, config=good) as server:

        def problem() -> object:
            return json.loads(server.ask(1, "/status")[2])["problem"]

        assert server.ask(token=mint())[0] == 200
        put(tmp_path / "cap.toml", f'public_key = "{KEY}"\nserve = 1\n')
        assert wait_until(lambda: problem() is not None)
        assert server.ask(token=mint())[0] == 200
        put(policy, 'allow if user("root");')
        put(tmp_path / "cap.toml", good)
        assert wait_until(lambda: server.ask(token=mint())[0] == 403)
        assert problem() is None
        assert server.stop() == 0


def test_nobody_goes_by_old_files_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where files can be followed no more, a worker ends, to be started again; under ASGI it is told."""
    monkeypatch.setattr(watching, "INTERVAL", 0.01)
    (tmp_path / "cap.toml").write_text("")
    settings = Settings(listen=(), routes=(RouteSettings(name="default"),), keys=KEY, decisions=Logged.NONE)

    def surprise() -> Settings:
        raise ZeroDivisionError

    file = str(tmp_path / "cap.toml")
    worker = Worker(settings, [], Board(1), 0, reread=surprise, files=[file], seen=[None])
    with pytest.raises(ZeroDivisionError):
        asyncio.run(asyncio.wait_for(worker.run(), TIMEOUT))

    read = iter([settings] * 2)
    under_asgi = Sidecar(lambda: next(read, None) or surprise(), [file])
    under_asgi.check("plain")

    async def change() -> None:
        async with under_asgi:
            (tmp_path / "cap.toml").write_text("#")
            while "followed no more" not in caplog.text:
                await asyncio.sleep(0.01)
            assert under_asgi.running is not None
            assert under_asgi.running.service.live.problem is not None

    asyncio.run(asyncio.wait_for(change(), TIMEOUT))


def test_a_policy_named_from_outside_is_not_laxer_than_a_route_s_own(tmp_path: Path) -> None:
    strict = {"path": "/admin", "policy": "strict"}
    config = Config(serve={"route": [strict, {"path": "/"}]}, public_key=KEY, file=tmp_path / "cap.toml")
    for environment, flags in (
        ({"CAP_POLICY": "/lax", "CAP_STORE": ""}, Flags(store="none")),
        ({}, Flags(store="none", policy="/lax")),
    ):
        routes = configured(environment, config, (), flags).routes
        assert [each.policy for each in routes] == [str(tmp_path / "strict"), "/lax"]


def test_a_configuration_of_somebody_else_is_not_gone_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cap.toml").write_text(f'public_key = "{KEY}"\n')
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (tmp_path / "cap.toml").chmod(0o646)
    with pytest.raises(ConfigurationError, match="everybody"):
        find()


# What is remembered, and what leaves.


def test_what_is_known_of_a_holder_is_mixed_with_no_other_route_or_token(tmp_path: Path) -> None:
    for name, source in (
        ("a", 'header("X-Team", $t) <- team($t); allow if true;'),
        ("b", 'tenant("acme"); header("X-Team", "b"); allow if user("ann");'),
    ):
        (tmp_path / name).write_text(source)
    check = make_check(
        RouteSettings(name="a", policy=str(tmp_path / "a")),
        RouteSettings(name="b", path="/b", policy=str(tmp_path / "b")),
    )
    ann, bob = mint('user("ann"); team("x")'), mint('user("bob"); team("y")')
    for _ in range(4):
        for token, name, team in ((ann, "ann", "x"), (bob, "bob", "y")):
            told = ask(check, token, target="/a")[1]
            assert (told["x-cap-subject"], told["x-team"], told["x-cap-tenant"]) == (name, team, "")
        told = ask(check, ann, target="/b")[1]
        assert (told["x-cap-subject"], told["x-team"], told["x-cap-tenant"]) == ("ann", "b", "acme")
        assert ask(check, bob, target="/b")[0].status == 403


@pytest.mark.parametrize(
    "value", ["a\r\nX-Cap-Subject: root", "\x00", "\x1b[2J", "\u202eroot", "é", "\x7f", " a "]
)
def test_no_value_of_a_token_makes_a_header_or_a_line_of_the_log(value: str, tmp_path: Path) -> None:
    (tmp_path / "policy").write_text(
        'header("X-Who", $u) <- user($u); tenant($u) <- user($u); allow if true;'
    )
    kept = []

    class Kept:
        takes_allowed = True

        def offer(self, decision: Decision, original: Original, route: str) -> bool:
            kept.append((decision, original))
            return True

    check = make_check(RouteSettings(name="a", policy=str(tmp_path / "policy")), log=Kept())
    token = BiscuitBuilder("user({name})", {"name": value}).build(ROOT.private_key).to_base64()
    for _ in range(3):
        answer, told = ask(check, token)
        assert answer.status == 200
        names = ("x-cap-subject", "x-cap-tenant", "x-who")
        assert len({told[name] for name in names}) == 1
        assert all(" " <= letter <= "~" for name in names for letter in told[name])
        assert len(answer.headers) == 5
    decision, original = kept[-1]
    line = json.dumps(line_of(datetime.now(UTC), decision, original, "a"))
    assert line.isascii()
    assert line.isprintable()


@pytest.mark.parametrize("tells", [False, True])
def test_what_was_allowed_many_times_is_asked_again_each_time(tells: bool, tmp_path: Path) -> None:
    """The fastest way to a yes looks at revocations, at the time and at the request, as the longest does."""
    (tmp_path / "policy").write_text('operation("read") <- http_method("GET"); allow if operation($o);')
    if tells:
        with (tmp_path / "policy").open("a") as file:
            file.write('header("X-Who", $u) <- user($u);')
    now = [1_000_000.0]
    store = MemoryStore()
    route = RouteSettings(name="a", policy=str(tmp_path / "policy"))
    check = make_check(route, source=store, clock=lambda: now[0])
    end = datetime.fromtimestamp(now[0] + 60, UTC)
    short, long = mint(expires=end), mint('user("bob")')
    for _ in range(50):
        assert ask(check, short)[0].status == ask(check, long)[0].status == 200
    assert ask(check, short, "POST")[0].status == 403
    now[0] += 61
    assert (ask(check, short)[0].status, ask(check, long)[0].status) == (401, 200)
    store.revoke(Biscuit.from_base64(long, ROOT.public_key).canonical_revocation_ids[:1])
    assert ask(check, long)[0].status == 401
    other = mint('user("eve")')
    for _ in range(50):
        assert ask(check, other)[0].status == 200
    store.close()
    assert ask(check, other)[0].status == 503


@pytest.mark.parametrize("spelt", ["\ud800", "é", " ", "\n", "=", "%41"])
def test_a_text_that_is_not_quite_a_token_is_none(spelt: str) -> None:
    client = Client(DEFAULT)
    for token in (mint() + spelt, spelt + mint(), spelt):
        status, found = client.evaluate(question(token))
        assert (status, found["decision"]) == (200, False)


@pytest.mark.parametrize(
    "resource",
    ["/orders/../admin", "/orders/..", "/orders/./7", "../orders", "/orders/%2e%2E/admin", "/orders/.\\a"],
)
def test_a_resource_that_leaves_what_a_token_was_narrowed_to_is_none(resource: str) -> None:
    client, token = Client(DEFAULT), mint(resources=["/orders"])
    asked = {"type": "resource", "id": resource}
    assert client.evaluate(question(token, resource={**asked, "id": "/orders/..7/a..b"}))[1]["decision"]
    assert client.evaluate(question(token, resource=asked))[0] == 400


def test_a_log_that_nobody_reads_is_an_error_and_no_standstill(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device"):
        open_log(str(tmp_path / "pipe"))
    config = f'public_key = "{KEY}"\n[serve]\nlog = "pipe"\n[[serve.listen]]\naddress = "tcp:0"\n'
    with pytest.raises(AssertionError, match=r"serve\.log"), sidecar(tmp_path, config=config):
        pass
