"""A gRPC server behind a guard, without generated code.

export CAP_PUBLIC_KEY=root.key.pub CAP_POLICY='allow if user($u)' CAP_STORE=none
python grpc_server.py 127.0.0.1:50051
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

from capability import Guard
from capability.integrations.grpc import CapInterceptor, current_grant


def item(request: bytes, context: grpc.ServicerContext) -> bytes:
    return f"item {request.decode()} for {current_grant().subject}".encode()


def make_server() -> grpc.Server:
    """Returns the server, with a guard by the environment."""
    interceptor = CapInterceptor(Guard.from_env(), {"/shop.Items/Get": "read"})
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[interceptor])
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Get": grpc.unary_unary_rpc_method_handler(item)
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("shop.Items", handlers)])
    return server


if __name__ == "__main__":
    running = make_server()
    running.add_insecure_port(sys.argv[1])
    running.start()
    running.wait_for_termination()
