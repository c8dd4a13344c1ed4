"""MCP clients: FastMCP's, with a token of its own for each call; and the same for any other client.

    async with CapClient("server.py", token=token) as client:
        await client.call_tool("refund", {"order": 7})

Any other client sends `call_token(token, "refund", {"order": 7})` in the `_meta` of the call:

    await session.call_tool("refund", arguments, meta={META_KEY: call_token(token, "refund", arguments)})
"""

from datetime import timedelta
from typing import Any

from capability.integrations.extras import extra
from capability.integrations.mcp_calls import META_KEY, SECONDS, call_token
from capability.integrations.narrowing import Narrowing, TokenSource, narrowed

with extra("mcp"):
    from fastmcp import Client
    from fastmcp.client.progress import ProgressHandler
    from mcp_types import CallToolResult, GetPromptResult, ReadResourceResult
    from pydantic import AnyUrl

__all__ = ["META_KEY", "CapClient", "call_token"]


class CapClient(Client[Any]):
    """Sends with each call a token that is narrowed to it: this tool, these arguments, 60 seconds.

    A server that was tricked, or its logs, hold nothing that is good for more. `token` is a token, or a
    function that is asked for one each time; the other arguments are those of `fastmcp.Client`.
    """

    def __init__(
        self, transport: Any, *, token: TokenSource, expires: float = SECONDS, **client: Any
    ) -> None:
        super().__init__(transport, **client)
        self._cap_token = token
        self._cap_expires = expires

    async def call_tool_mcp(
        self,
        name: str,
        arguments: dict[str, Any],
        progress_handler: ProgressHandler | None = None,
        timeout: timedelta | float | int | None = None,
        meta: dict[str, Any] | None = None,
    ) -> CallToolResult:
        """Calls a tool as `fastmcp.Client.call_tool_mcp` does."""
        own = call_token(self._token(), name, arguments, expires=self._cap_expires)
        return await super().call_tool_mcp(
            name, arguments, progress_handler, timeout, {**(meta or {}), META_KEY: own}
        )

    async def read_resource_mcp(
        self, uri: AnyUrl | str, meta: dict[str, Any] | None = None
    ) -> ReadResourceResult:
        """Reads a resource as `fastmcp.Client.read_resource_mcp` does."""
        words: Narrowing = {"operation": "read", "resource": str(uri), "expires": self._cap_expires}
        return await super().read_resource_mcp(uri, self._meta(meta, words))

    async def get_prompt_mcp(
        self, name: str, arguments: dict[str, Any] | None = None, meta: dict[str, Any] | None = None
    ) -> GetPromptResult:
        """Gets a prompt as `fastmcp.Client.get_prompt_mcp` does."""
        words: Narrowing = {"operation": "prompt", "expires": self._cap_expires}
        return await super().get_prompt_mcp(name, arguments, self._meta(meta, words))

    def _token(self) -> Any:
        return self._cap_token() if callable(self._cap_token) else self._cap_token

    def _meta(self, meta: dict[str, Any] | None, words: Narrowing) -> dict[str, Any]:
        return {**(meta or {}), META_KEY: narrowed(self._token(), words).to_base64()}
