"""MCP clients: FastMCP's, with a token of its own for each call; and the same for any other client.

    async with CapClient("server.py", token=token) as client:
        await client.call_tool("refund", {"order": 7})

Any other client sends `call_token(token, "refund", {"order": 7})` in the `_meta` of the call:

    await session.call_tool("refund", arguments, meta={META_KEY: call_token(token, "refund", arguments)})
"""

from datetime import timedelta
from typing import Any

from capability.integrations.extras import extra
from capability.integrations.mcp_calls import META_KEY, SECONDS, call_token, prompt_token, resource_token
from capability.integrations.narrowing import TokenSource

with extra("mcp"):
    from fastmcp import Client
    from fastmcp.client.progress import ProgressHandler
    from mcp_types import CallToolResult, GetPromptResult, ReadResourceResult
    from pydantic import AnyUrl

__all__ = ["META_KEY", "CapClient", "call_token", "prompt_token", "resource_token"]


class CapClient(Client[Any]):
    """Sends with each request a token that is narrowed to it: this tool, these arguments, 60 seconds.

    So it does with prompts and resources; lists and the handshake take no token along. A server that was
    tricked, or its logs, hold nothing that is good for more. `token` is a token, or a function that is asked
    for one each time; the other arguments are those of `fastmcp.Client`.
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
        own = call_token(self._token(), name, arguments, version=_version(meta), expires=self._cap_expires)
        return await super().call_tool_mcp(name, arguments, progress_handler, timeout, _with(meta, own))

    async def read_resource_mcp(
        self, uri: AnyUrl | str, meta: dict[str, Any] | None = None
    ) -> ReadResourceResult:
        """Reads a resource as `fastmcp.Client.read_resource_mcp` does."""
        own = resource_token(self._token(), str(uri), version=_version(meta), expires=self._cap_expires)
        return await super().read_resource_mcp(uri, _with(meta, own))

    async def get_prompt_mcp(
        self, name: str, arguments: dict[str, Any] | None = None, meta: dict[str, Any] | None = None
    ) -> GetPromptResult:
        """Gets a prompt as `fastmcp.Client.get_prompt_mcp` does."""
        own = prompt_token(self._token(), name, arguments, version=_version(meta), expires=self._cap_expires)
        return await super().get_prompt_mcp(name, arguments, _with(meta, own))

    def _token(self) -> Any:
        return self._cap_token() if callable(self._cap_token) else self._cap_token


def _with(meta: dict[str, Any] | None, token: str) -> dict[str, Any]:
    return {**(meta or {}), META_KEY: token}


def _version(meta: dict[str, Any] | None) -> str | None:
    """Returns the version that FastMCP's client asks for by `version=`."""
    return ((meta or {}).get("fastmcp") or {}).get("version")
