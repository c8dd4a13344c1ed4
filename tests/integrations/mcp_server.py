"""An MCP server for the tests: on stdio when it is run, with the public key that its only argument is."""

import sys

from fastmcp import FastMCP
from fastmcp.server.auth import AuthProvider

from capability import Guard, PublicKey
from capability.integrations.mcp import CapMiddleware

POLICY = """
allow if user($u), operation("call"), tool($t), right($t);
allow if user($u), operation("read"), resource($r), right($r);
allow if user($u), operation("prompt"), prompt($p), right($p);
"""
RIGHTS = """
user("alice"); right("refund"); right("asks"); right("orders://7"); right("greet");
check if true;
"""


def make_server(guard: Guard, cap: CapMiddleware, auth: AuthProvider | None = None) -> FastMCP:
    mcp: FastMCP = FastMCP("orders", middleware=[cap], auth=auth)

    @mcp.tool
    def refund(order: int, reason: str = "none") -> str:
        return f"refunded {order}: {reason}"

    @mcp.tool
    def secret() -> str:
        return "the secret"

    @mcp.tool
    def asks() -> str:
        guard.require("nonsense")
        return "never"

    @mcp.resource("orders://7")
    def seventh() -> str:
        return "order 7"

    @mcp.prompt
    def greet(name: str) -> str:
        return f"hello {name}"

    return mcp


if __name__ == "__main__":
    stdio_guard = Guard(PublicKey(sys.argv[1]), POLICY)
    make_server(stdio_guard, CapMiddleware(stdio_guard)).run(transport="stdio", show_banner=False)
