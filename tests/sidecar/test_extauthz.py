"""Envoy's ext_authz over gRPC: asked by a real client of a real `cap serve`."""

import asyncio
import json
import threading
from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest

from capability.sidecar.addresses import Tcp
from capability.sidecar.extauthz import MAX_MESSAGE, SERVICE, Server, headers_of
from capability.sidecar.extauthz_pb2 import CheckRequest, CheckResponse
from capability.sidecar.messages import Answer, Headers
from tests.servers import free_port
from tests.sidecar.processes import TIMEOUT, Sidecar, put, sidecar, wait_until
from tests.sidecar.tokens import ROOT, mint

KEY = repr(ROOT.public_key)
OVERWRITE = 2


def request(
    token: str | None = None,
    method: str = "GET",
    path: str = "/orders/7",
    headers: Mapping[str, str] | None = None,
    peer: str = "192.0.2.1",
) -> CheckRequest:
    """Returns what Envoy asks about a request."""
    found = CheckRequest()
    found.attributes.source.address.socket_address.address = peer
    http = found.attributes.request.http
    http.method, http.path, http.host = method, path, "api.example.com:8443"
    http.headers.update({":authority": http.host, ":path": path, **(headers or {})})
    if token is not None:
        http.headers["authorization"] = f"Bearer {token}"
    return found


class Client:
    """A client of one listener."""

    def __init__(self, address: str) -> None:
        # a connection of its own
        own = [("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.insecure_channel(address.removeprefix("tcp:"), own)
        self._check = self.channel.unary_unary(
            f"/{SERVICE}/Check",
            request_serializer=CheckRequest.SerializeToString,
            response_deserializer=CheckResponse.FromString,
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exception: object) -> None:
        self.channel.close()

    def ask(self, asked: CheckRequest) -> CheckResponse:
        return self._check(asked, timeout=TIMEOUT, wait_for_ready=True)

    def status(self, asked: CheckRequest) -> tuple[int, int]:
        """Returns the status of gRPC and that of HTTP, 200 for a yes."""
        found = self.ask(asked)
        http = found.denied_response.status.code if found.HasField("denied_response") else 200
        return found.status.code, http


def client(server: Sidecar, at: int = 0) -> Client:
    return Client(server.addresses[at])


def test_a_yes_overwrites_every_identity_header(tmp_path: Path) -> None:
    with sidecar(tmp_path, "--public-key", KEY, "--grpc", "tcp:0") as server, client(server) as asking:
        found = asking.ask(request(mint(), headers={"x-cap-subject": "root"}))
    assert found.status.code == 0
    told = {each.header.key: each.header.value for each in found.ok_response.headers}
    assert told["x-cap-subject"] == "ann"
    assert set(told) == {"x-cap-subject", "x-cap-tenant", "x-cap-revocation-id", "x-cap-decision-id"}
    assert {each.append_action for each in found.ok_response.headers} == {OVERWRITE}
    assert told["x-cap-tenant"] == ""
    assert all(each.keep_empty_value for each in found.ok_response.headers)
    assert "x_cap_subject" in found.ok_response.headers_to_remove


def test_each_no_has_its_status_a_challenge_and_a_problem(tmp_path: Path) -> None:
    token = mint(operations=["read"], resources=["/orders"])
    two = {"authorization": f"Bearer {token},Bearer {token}"}
    with sidecar(tmp_path, "--public-key", KEY, "--grpc", "tcp:0") as server, client(server) as asking:
        assert asking.status(request(token)) == (0, 200)
        assert asking.status(request()) == (16, 401)
        assert asking.status(request("nonsense")) == (16, 401)
        assert asking.status(request(token, "POST")) == (7, 403)
        assert asking.status(request(token, path="/admin")) == (7, 403)
        assert asking.status(request(token, path="/orders/../admin")) == (7, 400)
        assert asking.status(request(headers=two)) == (7, 400)
        assert asking.status(request(token, headers={"x_cap_subject": "root"})) == (7, 400)
        assert asking.status(request(token, headers={"Authorization": "Bearer x"})) == (7, 400)
        denied = asking.ask(request(token, "POST")).denied_response
        assert server.stop() == 0
    told = {each.header.key: each.header.value for each in denied.headers}
    assert "insufficient_scope" in told["www-authenticate"]
    assert json.loads(denied.body)["type"] == "urn:cap:problem:denied"


def test_the_policy_reads_what_envoy_says_and_not_what_the_client_says(tmp_path: Path) -> None:
    (tmp_path / "policy.datalog").write_text(
        'allow if client_ip("192.0.2.1"), http_host("api.example.com"), http_query("a", "b");'
    )
    forged = {
        "x-forwarded-for": "192.0.2.1",
        "host": "api.example.com",
        "x-forwarded-host": "api.example.com",
    }
    config = f'public_key = "{KEY}"\n[serve]\npolicy = "policy.datalog"\n'
    listen = '[[serve.listen]]\naddress = "tcp:0"\nserves = "grpc"\nbehind = "envoy"\n'
    with sidecar(tmp_path, config=config + listen) as server, client(server) as asking:
        assert asking.status(request(mint(), path="/?a=b")) == (0, 200)
        assert asking.status(request(mint(), path="/?a=b", headers=forged, peer="203.0.113.9")) == (7, 403)
        other = request(mint(), path="/?a=b", headers=forged)
        other.attributes.request.http.host = "other.example"
        assert asking.status(other) == (7, 403)


def test_raw_headers_are_read_one_by_one() -> None:
    asked = request().attributes.request.http
    for value in (b"Bearer a", b"Bearer b"):
        asked.header_map.headers.add(key="authorization", raw_value=value)
    assert headers_of(asked)[1:] == [(b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")]


def test_behind_a_unix_socket_and_with_several_workers(tmp_path: Path) -> None:
    path = tmp_path / "cap.sock"
    with sidecar(tmp_path, "--public-key", KEY, "--grpc", f"unix:{path}") as server, client(server) as asking:
        assert asking.status(request(mint())) == (0, 200)
        assert path.stat().st_mode & 0o777 == 0o660
        assert server.stop() == 0
    assert not path.exists()
    flags = ("--public-key", KEY, "--grpc", "tcp:0", "--workers", "2")
    with sidecar(tmp_path, *flags) as server, client(server) as asking:
        assert asking.status(request(mint())) == (0, 200)
        assert server.stop() == 0
    with (
        pytest.raises(AssertionError, match="tcp: address"),
        sidecar(tmp_path, "--public-key", KEY, "--grpc", f"unix:{path}", "--workers", "2"),
    ):
        pass


def test_what_a_request_does_not_say_or_says_twice_is_no_yes(tmp_path: Path) -> None:
    token = mint(resources=["/orders"])
    with sidecar(tmp_path, "--public-key", KEY, "--grpc", "tcp:0") as server, client(server) as asking:
        assert asking.status(request(token)) == (0, 200)
        assert asking.status(CheckRequest()) == (7, 400)
        for path in ("orders/7", "", "*", "//orders/7", "/orders/7#/x", "/orders/7?a#b", "/\u00f6", "/a\0"):
            assert asking.status(request(token, path=path)) == (7, 400), path
        for name in ("query", "fragment"):
            beside = request(token)
            setattr(beside.attributes.request.http, name, "a=b")
            assert asking.status(beside) == (7, 400)
        for method in ("", "get", "GET ", "GET\0", "\u00e9"):
            assert asking.status(request(token, method)) == (7, 403), method
        for host in ("a b", "\u00f6.example", "a@b", "a..b"):
            odd = request(token)
            odd.attributes.request.http.host = host
            assert asking.status(odd) == (7, 400), host
        # a map of headers is all of them, and what stands beside it is not read
        both = request(token)
        both.attributes.request.http.header_map.headers.add(key="x-other", raw_value=b"a")
        assert asking.status(both) == (16, 401)
        assert asking.status(request(token, path="/orders/" + "a" * 20_000)) == (7, 400)


def test_a_small_message_that_unpacks_to_a_large_one_is_refused(tmp_path: Path) -> None:
    with sidecar(tmp_path, "--public-key", KEY, "--grpc", "tcp:0") as server, client(server) as asking:
        large = request(mint(), headers={"x": "a" * 10_000_000})
        with pytest.raises(grpc.RpcError) as refused:
            asking._check(large, timeout=TIMEOUT, compression=grpc.Compression.Gzip)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert asking.status(request(mint())) == (0, 200)


def test_a_policy_that_changes_holds_and_a_port_is_taken_once(tmp_path: Path) -> None:
    policy = tmp_path / "policy.datalog"
    policy.write_text("allow if true")
    flags = ("--public-key", KEY, "--policy", "policy.datalog")
    with sidecar(tmp_path, *flags, "--grpc", "tcp:0") as server, client(server) as asking:
        assert asking.status(request(mint())) == (0, 200)
        put(policy, 'allow if user("bob")')
        assert wait_until(lambda: asking.status(request(mint())) == (7, 403))
        with (
            pytest.raises(AssertionError, match="cannot serve"),
            sidecar(tmp_path, *flags, "--grpc", server.addresses[0]),
        ):
            pass


def test_what_is_too_large_is_refused(tmp_path: Path) -> None:
    with sidecar(tmp_path, "--public-key", KEY, "--grpc", "tcp:0") as server, client(server) as asking:
        with pytest.raises(grpc.RpcError) as refused:
            asking.ask(request(mint(), headers={"x": "a" * MAX_MESSAGE}))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("workers", [1, 2])
def test_at_the_end_every_question_that_was_decided_is_answered(tmp_path: Path, workers: int) -> None:
    listen = '[[serve.listen]]\naddress = "tcp:0"\nserves = "grpc"\n'
    body = f'workers = {workers}\nlog = "log"\ndecisions = "all"\n'
    answered: list[int] = []
    connected: list[Client] = []
    ends: list[grpc.StatusCode] = []
    with sidecar(tmp_path, config=f'public_key = "{KEY}"\n[serve]\n{body}{listen}') as server:
        token = mint()

        def ask_on() -> None:
            with client(server) as asking:
                asking.ask(request(token))
                answered.append(0)
                connected.append(asking)
                while not ends:
                    try:
                        answered.append(asking._check(request(token), timeout=TIMEOUT).status.code)
                    except grpc.RpcError as error:
                        ends.append(error.code())

        asking_on = [threading.Thread(target=ask_on) for _ in range(4)]
        for each in asking_on:
            each.start()
        # who came too late would wait for a server that has gone
        assert wait_until(lambda: len(connected) == len(asking_on) and len(answered) > 200)
        assert server.stop() == 0
        for each in asking_on:
            each.join()
    assert set(answered) == {0}
    assert set(ends) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    # those that were cancelled had not been looked at
    assert len((tmp_path / "log").read_text().splitlines()) == len(answered)


def test_a_question_that_waits_for_a_store_is_answered_before_the_end() -> None:
    begun, may_end = threading.Event(), threading.Event()

    class Slow:
        blocking = True
        max_body = 0

        def handle(self, method: str, target: str, headers: Headers, body: bytes, peer: str | None) -> Answer:
            begun.set()
            may_end.wait(TIMEOUT)
            return Answer(200)

    async def serve() -> tuple[CheckResponse, grpc.StatusCode]:
        port = free_port()
        server = Server(Tcp("127.0.0.1", port), Slow())
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            ask = channel.unary_unary(
                f"/{SERVICE}/Check",
                request_serializer=CheckRequest.SerializeToString,
                response_deserializer=CheckResponse.FromString,
            )
            asked = asyncio.ensure_future(ask(request(), timeout=TIMEOUT, wait_for_ready=True))
            await asyncio.to_thread(begun.wait, TIMEOUT)
            stopping = asyncio.create_task(server.stop(TIMEOUT))
            await asyncio.sleep(0)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await ask(request(), timeout=TIMEOUT)
            assert not asked.done()
            may_end.set()
            await stopping
            return await asked, refused.value.code()

    answer, code = asyncio.run(serve())
    assert answer.status.code == 0
    assert code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
