"""An MCP server on stdio whose tools an agent calls with a token that is narrowed to each call.

CAP_PUBLIC_KEY=root.key.pub CAP_POLICY='allow if user($u)' CAP_STORE=none python mcp_server.py
"""

from fastmcp import FastMCP

from capability import Guard
from capability.integrations.mcp import CapMiddleware


def make_server() -> FastMCP:
    """Returns the server, with a guard by the environment."""
    mcp: FastMCP = FastMCP("shop", middleware=[CapMiddleware(Guard.from_env())])

    @mcp.tool
    def refund(order: int, amount: int) -> str:
        """Pays back an amount of an order."""
        return f"refunded {amount} of order {order}"

    return mcp


if __name__ == "__main__":
    make_server().run(transport="stdio", show_banner=False)
