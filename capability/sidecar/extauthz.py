"""Envoy's external authorization over gRPC (envoy.service.auth.v3): the same check, asked in another way.

What Envoy sends becomes the request that the check reads over HTTP, and its answer what Envoy expects; here
nothing is decided. Envoy sends header names in lower case, and values of one name joined by commas, so that
two tokens in one request are refused as two tokens in one header are. The client is the one that Envoy names.
"""

import asyncio
import os
from typing import Final

import grpc

from capability.sidecar.addresses import Tcp, Unix
from capability.sidecar.extauthz_pb2 import (
    CheckRequest,
    CheckResponse,
    HeaderValue,
    HeaderValueOption,
    HttpRequest,
)
from capability.sidecar.messages import Answer, Handler, Headers

OK: Final = 0
PERMISSION_DENIED: Final = 7
UNAUTHENTICATED: Final = 16

MAX_MESSAGE: Final = 128 * 1024
"""Bytes of a question: headers, and no body, which Envoy is not to send."""

MAX_STREAMS: Final = 1024
"""Questions that are asked at once; more are refused."""

SERVICE: Final = "envoy.service.auth.v3.Authorization"
_OVERWRITE: Final = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


class Server:
    """Serves one address in the event loop that runs, by `handler`, which may be replaced meanwhile.

    On asyncio rather than in threads: here that answers twice as many questions in the same time, and what
    the handler counts is counted by one thread. Several workers may serve the same TCP address.
    """

    def __init__(self, address: Tcp | Unix, handler: Handler) -> None:
        self.handler = handler
        self._address = address
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Begins to serve; raises OSError for an address that cannot be bound."""
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE),
                ("grpc.max_concurrent_streams", MAX_STREAMS),
                ("grpc.so_reuseport", 1),
            ],
            maximum_concurrent_rpcs=MAX_STREAMS,
        )
        check = grpc.unary_unary_rpc_method_handler(
            self._check,
            request_deserializer=CheckRequest.FromString,
            response_serializer=CheckResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Check": check}),))
        address = self._address
        before = os.umask(0o777 & ~address.mode) if isinstance(address, Unix) else None
        try:
            server.add_insecure_port(str(address).removeprefix("tcp:"))
        except RuntimeError as error:
            raise OSError(f"cannot serve gRPC at {address}") from error
        finally:
            if before is not None:
                os.umask(before)
        await server.start()
        self._server = server

    async def stop(self, grace: float) -> None:
        """Takes no more questions, and lets those that have begun end within `grace` seconds."""
        if self._server is not None:
            await self._server.stop(grace)

    async def _check(self, request: CheckRequest, context: object) -> CheckResponse:
        handler = self.handler
        attributes = request.attributes
        http = attributes.request.http
        peer = attributes.source.address.socket_address.address or None
        # Envoy writes the query into the path; what stood beside it would be served, and not decided about
        target = "" if http.query or http.fragment else http.path
        arguments = (http.method, target, headers_of(http), b"", peer)
        if handler.blocking:
            return response(await asyncio.to_thread(handler.handle, *arguments))
        return response(handler.handle(*arguments))


def response(answer: Answer) -> CheckResponse:
    """Returns an answer as Envoy reads it.

    On a yes every header replaces what the client sent under its name, and what a program behind Envoy might
    take for one of them, the name with `_` for `-`, is removed.
    """
    found = CheckResponse()
    if answer.status == 200:
        found.status.code = OK
        found.ok_response.headers.extend(_options(answer))
        found.ok_response.headers_to_remove.extend(
            name.replace(b"-", b"_").decode() for name, _ in answer.headers if b"-" in name
        )
        return found
    found.status.code = UNAUTHENTICATED if answer.status == 401 else PERMISSION_DENIED
    found.denied_response.status.code = answer.status
    found.denied_response.headers.extend(_options(answer))
    found.denied_response.body = answer.body.decode()
    return found


def _options(answer: Answer) -> list[HeaderValueOption]:
    return [
        HeaderValueOption(
            header=HeaderValue(key=name.decode(), value=value.decode("latin-1")),
            append_action=_OVERWRITE,
            keep_empty_value=True,
        )
        for name, value in answer.headers
    ]


def headers_of(http: HttpRequest) -> Headers:
    """Returns the client's headers; the host is that of the request line, whatever else was said."""
    found: Headers = [(b"host", http.host.encode())]
    if http.HasField("header_map") and http.header_map.headers:
        pairs = [
            (each.key.encode(), each.raw_value or each.value.encode()) for each in http.header_map.headers
        ]
    else:
        pairs = [(name.encode(), value.encode()) for name, value in http.headers.items()]
    return found + [(name, value) for name, value in pairs if name[:1] != b":" and name.lower() != b"host"]
