"""Root keys from an issuer's URL: whatever answers there, the sidecar goes on with the keys that it has."""

import gc
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from capability import KeyPair, KeySet
from capability.sidecar import keysource
from capability.sidecar.fetch import FetchFailed, fetch
from capability.sidecar.keysource import KeySource, KeysUnavailable, check_place
from tests.sidecar.processes import TIMEOUT

KEYS = KeySet.from_keys({None: KeyPair().public_key})


def answer(keys: KeySet) -> bytes:
    body = keys.to_json().encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@pytest.fixture(autouse=True)
def without_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives servers of this process the time that they need where it stands still."""
    monkeypatch.setattr("capability.sidecar.fetch.TIMEOUT", TIMEOUT)


@contextmanager
def server(
    said: Iterable[bytes], *, pause: float = 0.0, context: ssl.SSLContext | None = None
) -> Iterator[int]:
    """Yields the port of a server that says this to one client, whatever that asks for, piece by piece."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(TIMEOUT)

        def run() -> None:
            try:
                client, _ = listening.accept()
            except OSError:
                return  # nobody came
            with client, suppress(OSError):
                if context is not None:
                    client = context.wrap_socket(client, server_side=True)
                with client:
                    client.recv(65536)
                    for each in said:
                        client.sendall(each)
                        time.sleep(pause)

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
    with server([said]) as port, pytest.raises(KeysUnavailable, match=f"127.0.0.1:{port}"):
        KeySource(f"http://127.0.0.1:{port}/keys").read()


@pytest.mark.parametrize("end", [b"content-length: 9", b"transfer-encoding: chunked"])
def test_what_was_cut_off_is_not_taken_for_all(end: bytes) -> None:
    """What is signed may end in several places, and be an older list where it does."""
    body = b"6\r\nsigned" if end.endswith(b"chunked") else b"signed"
    with server([b"HTTP/1.1 200 OK\r\n" + end + b"\r\n\r\n" + body]) as port, pytest.raises(FetchFailed):
        fetch(f"http://127.0.0.1:{port}/list", 1000)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"503 \x1b[2J secret", "503 service unavailable"),
        (b"599 \x1b[2J", "599"),
        (b"302 Found\r\nlocation: file:///\x1b[2J", "302 found"),
    ],
)
def test_no_word_of_a_server_stands_in_a_warning(said: bytes, told: str) -> None:
    answered = b"HTTP/1.1 " + said + b"\r\ncontent-length: 0\r\n\r\n"
    with server([answered]) as port, pytest.raises(FetchFailed) as failed:
        fetch(f"http://127.0.0.1:{port}/keys", 1000)
    assert str(failed.value) == told


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_no_proxy_answers_for_this_host(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys over plain HTTP are those of this host: through a proxy, the way there would choose them."""
    for other in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(other, raising=False)
    foreign = KeySet.from_keys({None: KeyPair().public_key})
    with server([answer(foreign)]) as proxy, server([answer(KEYS)]) as port:
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        assert KeySource(f"http://127.0.0.1:{port}/keys").read() == KEYS


@pytest.mark.parametrize(
    ("scheme", "begun"),
    [
        ("http", b"HTTP/1.1 200 OK\r\nx: "),
        ("http", b"HTTP/1.1 200 OK\r\n\r\n["),
        pytest.param("https", b"\x16\x03\x03\x3f\x00", id="within the handshake"),
    ],
)
def test_a_byte_now_and_then_holds_nobody_up(
    scheme: str, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reloads wait for the keys, and a policy that is stricter would wait with them."""
    monkeypatch.setattr(keysource, "LONGEST", 0.3)
    said = iter([begun, *([b" "] * 400)])
    with server(said, pause=0.02) as port:
        with pytest.raises(KeysUnavailable, match="given up"):
            KeySource(f"{scheme}://127.0.0.1:{port}/keys").read()
        assert next(said, None) is not None


def test_a_connection_that_comes_late_is_given_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline may pass before there is anything that it could end."""
    monkeypatch.setattr(keysource, "LONGEST", 0.0)
    connect = socket.create_connection

    def late(*where: Any, **how: Any) -> socket.socket:
        time.sleep(0.2)
        return connect(*where, **how)

    monkeypatch.setattr(socket, "create_connection", late)
    said = iter([b"HTTP/1.1 200 OK\r\n\r\n[", *([b" "] * 400)])
    with server(said, pause=0.02) as port:
        with pytest.raises(KeysUnavailable, match="given up"):
            KeySource(f"http://127.0.0.1:{port}/keys").read()
        assert next(said, None) is not None


@pytest.mark.parametrize(
    "place",
    [
        *("file:///etc/passwd", "ftp://127.0.0.1/keys", "http://issuer.example/keys", "https:///keys"),
        *("http://127.0.0.1@issuer.example/", "http://127.0.0.1:1\\@issuer.example/", "http://[::1"),
        *("http://127.0.0.1:99999/", "http://127.0.0.1:x/", "https://issuer.example/\u00e4", "https://a/b c"),
        "https://a/b\r\nHost: c",
    ],
)
def test_places_that_keys_are_not_fetched_from(place: str) -> None:
    with pytest.raises(ValueError, match="keys"):
        check_place(place)
    with pytest.raises(KeysUnavailable):
        KeySource(place).read()


def test_a_path_that_is_none_is_no_surprise() -> None:
    with pytest.raises(KeysUnavailable):
        KeySource("a\0b").read()


def test_what_stands_in_the_query_of_a_url_is_not_shown() -> None:
    with server([b""]) as port, pytest.raises(KeysUnavailable) as refused:
        KeySource(f"http://127.0.0.1:{port}/keys?secret=hunter2").read()
    assert "hunter2" not in str(refused.value)
    assert KeySource("https://issuer.example/keys?secret=hunter2").shown == "https://issuer.example/keys"


def test_why_a_server_cannot_be_read_is_told_in_words() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens there
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/keys"
        with pytest.raises(KeysUnavailable) as refused:
            KeySource(url).read()
    assert str(refused.value) == f"{url!r} cannot be read: connection refused"


def test_the_server_of_the_keys_has_a_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(self_signed())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    for trusted, said, longest, fails in (
        (True, [answer(KEYS)], TIMEOUT, None),
        (True, [b"HTTP/1.1 200 OK\r\n\r\n[", *([b" "] * 400)], 0.5, "given up"),
        (False, [answer(KEYS)], TIMEOUT, "certificate"),
    ):
        monkeypatch.setattr(keysource, "LONGEST", longest)
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        else:
            monkeypatch.delenv("SSL_CERT_FILE")
        with server(said, pause=0.02, context=context) as port:
            source = KeySource(f"https://localhost:{port}/keys")
            if fails is None:
                assert source.read() == KEYS
            else:
                with pytest.raises(KeysUnavailable, match=fails):
                    source.read()


def test_the_certificates_that_were_looked_at_are_freed_with_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(self_signed())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    gc.collect()
    gc.disable()
    try:
        before = contexts()
        with server([answer(KEYS)], context=context) as port:
            assert KeySource(f"https://localhost:{port}/keys").read() == KEYS
        assert contexts() == before
    finally:
        gc.enable()


def contexts() -> int:
    return sum(isinstance(each, ssl.SSLContext) for each in gc.get_objects())


def self_signed() -> bytes:
    """Returns a key and a certificate for localhost, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    return secret + certificate.public_bytes(pem)
