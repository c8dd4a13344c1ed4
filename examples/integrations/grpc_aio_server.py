"""A gRPC server on asyncio behind a guard, without generated code.

export CAP_PUBLIC_KEY=root.key.pub CAP_POLICY='allow if user($u)' CAP_STORE=none
python grpc_aio_server.py 127.0.0.1:50051
"""

import asyncio
import sys
from typing import Any

import grpc.aio

from capability import Guard
from capability.integrations.grpc_aio import CapInterceptor, current_grant


async def item(request: bytes, context: Any) -> bytes:
    return f"item {request.decode()} for {current_grant().subject}".encode()


def make_server() -> grpc.aio.Server:
    """Returns the server, with a guard by the environment; called within a running event loop."""
    interceptor = CapInterceptor(Guard.from_env(), {"/shop.Items/Get": "read"})
    server = grpc.aio.server(interceptors=[interceptor])
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Get": grpc.unary_unary_rpc_method_handler(item)
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("shop.Items", handlers)])
    return server


async def main(address: str) -> None:
    server = make_server()
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
