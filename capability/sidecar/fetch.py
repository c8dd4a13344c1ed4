"""What a sidecar fetches over HTTPS: from where the operator said, and from nowhere else."""

import contextlib
import re
import socket
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, responses
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

TIMEOUT: Final = 5.0
"""Seconds for each step of a download."""

LONGEST: Final = 120.0
"""Seconds for all of a download: a server that sends a byte now and then is given up."""

_URL: Final = re.compile(r"[!-~]+")

_PIECE: Final = 1 << 16
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


class FetchFailed(Exception):
    """Nothing could be fetched; the message is a reason, in lower case, without the URL."""


class Fetched(NamedTuple):
    """What a server sent, None where it has nothing newer than `tag`; and the tag of what it has."""

    content: bytes | None
    tag: str | None


def check_url(url: str, what: str) -> None:
    """Raises ValueError for a URL that nothing is fetched from; `what` (in the plural) is what is meant.

    Plain `http://` is taken for the loopback only: who could change the answer on its way would choose it.
    """
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or _URL.fullmatch(url) is None:
        raise ValueError(f"the URL of the {what} is none")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"the URL of the {what} holds a password")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError(f"{what} are fetched over https, or over http from this host")


def shown(url: str) -> str:
    """Returns a URL without what follows its path, which may be what lets one in."""
    return url.partition("?")[0].partition("#")[0]


def fetch(
    url: str,
    max_bytes: int,
    *,
    tag: str | None = None,
    longest: float | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Fetched:
    """Returns what is at a URL that `check_url` takes, cut off after one byte more than `max_bytes`.

    With `tag`, the one of what was fetched before, a server need not send the same again. Raises FetchFailed,
    also after `longest` seconds (None: LONGEST), and when `stopped` says between two pieces that nobody wants
    it any more.
    """
    # Over plain HTTP the answer comes from this host, and not from a proxy that the environment names.
    direct = () if url.startswith("https:") else (urllib.request.ProxyHandler({}),)
    try:
        request = urllib.request.Request(url, headers={} if tag is None else {"If-None-Match": tag})
        with _Deadline(LONGEST if longest is None else longest) as deadline:
            opener = urllib.request.build_opener(_Redirects, *deadline.handlers(), *direct)
            with opener.open(request, timeout=TIMEOUT) as response:
                return Fetched(_content(response, max_bytes, stopped), response.headers.get("ETag"))
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 304 and tag is not None:
                return Fetched(None, tag)
            # not the phrase that came: it is logged, and may be anything
            raise FetchFailed(f"{error.code} {responses.get(error.code, '')}".strip().lower()) from error
    except HTTPException as error:  # a server that speaks no HTTP; the standard library's is no OSError
        raise FetchFailed("that was no answer") from error
    except OSError as error:
        raise FetchFailed(_reason(error).lower()) from error
    except ValueError as error:  # a name that is none, as the standard library finds out only now
        raise FetchFailed("that is no address") from error


def _reason(error: OSError) -> str:
    """Returns why a server cannot be read, in the system's words, which urllib keeps within its own error."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


def _content(response: HTTPResponse, max_bytes: int, stopped: Callable[[], bool]) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while size <= max_bytes:
        piece = response.read1(min(_PIECE, max_bytes + 1 - size))
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
        if stopped():
            raise FetchFailed("it was given up before all was there")
    if size <= max_bytes and response.length:
        # whoever cuts a connection needs no key, and the beginning of what is signed may be signed too
        raise FetchFailed("it ended before all was there")
    return b"".join(pieces)


class _Deadline:
    """Ends the connections that are made within it, `seconds` after it began."""

    def __init__(self, seconds: float) -> None:
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._passed = False

    def __enter__(self) -> "_Deadline":
        self._timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._timer.cancel()
        # the classes below keep this list until garbage is sought, and a socket its certificates, a megabyte
        self._sockets.clear()
        if self._passed:
            raise FetchFailed("it was given up before all was there")

    def _end(self) -> None:
        self._passed = True
        for each in self._sockets:
            with contextlib.suppress(OSError):
                # not SSLSocket's own, after which bytes would be read that nobody has authenticated
                socket.socket.shutdown(each, socket.SHUT_RDWR)

    def _holds(self, connected: socket.socket) -> None:
        """Ends a connection with the deadline, also one that was made when it had passed."""
        self._sockets.append(connected)
        if self._passed:
            self._end()

    def handlers(self) -> tuple[urllib.request.BaseHandler, ...]:
        """Returns what opens URLs within the deadline."""
        holds = self._holds

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                holds(self.sock)

        class Watched(ssl.SSLSocket):
            def do_handshake(self, block: bool = False) -> None:
                holds(self)  # it may last as long as the other side likes
                super().do_handshake(block)

        class OverPlain(urllib.request.HTTPHandler):
            def http_open(self, request: urllib.request.Request) -> HTTPResponse:
                return self.do_open(Plain, request)

        class OverSecure(urllib.request.HTTPSHandler):
            def https_open(self, request: urllib.request.Request) -> HTTPResponse:
                context = ssl.create_default_context()
                context.sslsocket_class = Watched
                return self.do_open(HTTPSConnection, request, context=context)

        return OverPlain(), OverSecure()


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, request: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Follows nowhere: what is fetched is where the operator said."""
        raise urllib.error.URLError("the server redirects, which is not followed")
