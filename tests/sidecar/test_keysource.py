"""Root keys from an issuer's URL: whatever answers there, the sidecar goes on with the keys that it has."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from capability import KeyPair, KeySet
from capability.sidecar.keysource import KeySource, KeysUnavailable

KEYS = KeySet.from_keys({None: KeyPair().public_key})


def answer(keys: KeySet) -> bytes:
    body = keys.to_json().encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@contextmanager
def server(said: bytes) -> Iterator[int]:
    """Yields the port of a server that says this to one client, whatever that asks for."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)

        def run() -> None:
            try:
                client, _ = listening.accept()
            except OSError:
                return  # nobody came
            with client:
                client.recv(65536)
                client.sendall(said)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield int(listening.getsockname()[1])
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"garbage\r\n\r\n", id="no-http"),
        pytest.param(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", id="chunks"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200 + b"\r\n[]", id="headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n[1]", id="no-keys"),
        pytest.param(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\n\r\n", id="redirect"),
        pytest.param(b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n", id="error"),
    ],
)
def test_what_is_no_answer_leaves_the_keys_unavailable(said: bytes) -> None:
    with server(said) as port, pytest.raises(KeysUnavailable, match=f"127.0.0.1:{port}"):
        KeySource(f"http://127.0.0.1:{port}/keys").read()


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_no_proxy_answers_for_this_host(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys over plain HTTP are those of this host: through a proxy, the way there would choose them."""
    for other in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(other, raising=False)
    foreign = KeySet.from_keys({None: KeyPair().public_key})
    with server(answer(foreign)) as proxy, server(answer(KEYS)) as port:
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        assert KeySource(f"http://127.0.0.1:{port}/keys").read() == KEYS
