"""gRPC servers on asyncio: the interceptor of capability.integrations.grpc for grpc.aio.

server = grpc.aio.server(interceptors=[CapInterceptor(guard, {"/svc.Items/Get": "read"})])
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from capability.builders import Fact
from capability.errors import AuthorizationError
from capability.guard import Guard
from capability.integrations.extras import extra
from capability.integrations.gate import Refused
from capability.integrations.grpc import (
    GRANT,
    CallGate,
    Operations,
    current_grant,
    guarded,
    problem_of_raised,
    status_of,
    wrapped,
)

with extra("grpc"):
    import grpc
    import grpc.aio

__all__ = ["CapInterceptor", "current_grant"]


class CapInterceptor(grpc.aio.ServerInterceptor):
    """Decides each call as the interceptor for threads does; off the event loop where a store may be asked.

    Handlers are coroutines, asynchronous generators, or plain functions, which grpc.aio runs in threads.
    """

    def __init__(
        self,
        guard: Guard,
        operations: Operations,
        *,
        application: str | None = None,
        api_key: bool = False,
        facts: Callable[[str, Mapping[str, str | bytes]], Iterable[Fact]] | None = None,
    ) -> None:
        self._calls = CallGate(guard, operations, application=application, api_key=api_key, facts=facts)

    async def intercept_service(
        self, continuation: Any, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Returns the handler of a call, behind the decision."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method = handler_call_details.method
        behaviour = (
            handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        )
        if not (inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour)):
            return guarded(handler, self._calls, method)
        return wrapped(
            handler, lambda old: self._unary(old, method), lambda old: self._streaming(old, method)
        )

    def _unary(self, behaviour: Callable[..., Any], method: str) -> Callable[..., Any]:
        async def call(request: Any, context: Any) -> Any:
            try:
                await self._admit(method, context)
                return await behaviour(request, context)
            except (Refused, AuthorizationError) as error:
                await _abort(context, error)

        return call

    def _streaming(self, behaviour: Callable[..., Any], method: str) -> Callable[..., Any]:
        async def call(request: Any, context: Any) -> AsyncIterator[Any]:
            try:
                await self._admit(method, context)
                if inspect.isasyncgenfunction(behaviour):
                    async for message in behaviour(request, context):
                        yield message
                else:
                    await behaviour(request, context)  # it writes to the context itself
            except (Refused, AuthorizationError) as error:
                await _abort(context, error)

        return call

    async def _admit(self, method: str, context: Any) -> None:
        metadata = list(context.invocation_metadata() or ())
        if self._calls.gate.guard.blocking:
            grant = await asyncio.to_thread(self._calls.admit, method, metadata)
        else:
            grant = self._calls.admit(method, metadata)
        GRANT.set(grant)  # each call is a task, with a context of its own


async def _abort(context: Any, error: Refused | AuthorizationError) -> None:
    code, details, trailing = status_of(problem_of_raised(error))
    await context.abort(code, details, trailing)
