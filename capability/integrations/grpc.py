"""gRPC servers of threads: an interceptor that decides each call. For grpc.aio see grpc_aio.

    server = grpc.server(executor, interceptors=[CapInterceptor(guard, {"/svc.Items/Get": "read"})])

The token is in the call's metadata, as `authorization: Bearer ...`, with `api_key=True` also as `x-api-key`.
A method that is not listed is refused.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, NoReturn

from capability.builders import Fact
from capability.errors import AuthorizationError
from capability.guard import Guard
from capability.http.problems import Problem, problem_of_error
from capability.integrations.extras import extra
from capability.integrations.gate import Gate, Grant, Refused

with extra("grpc"):
    import grpc

__all__ = ["CapInterceptor", "current_grant"]

Operations = Mapping[str, str | Sequence[str] | None]
"""By the full name of a method, the operations that it needs; None for one that needs no token."""

_STATUS: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    503: grpc.StatusCode.UNAVAILABLE,
}

GRANT: ContextVar[Grant | None] = ContextVar("capability_grant", default=None)


def current_grant() -> Grant:
    """Returns the grant of the call that is being served; raises RuntimeError outside one."""
    grant = GRANT.get()
    if grant is None:
        raise RuntimeError("nothing was decided about this call")
    return grant


class CallGate:
    """What both kinds of servers share: the decision about a call, and its refusal as a status."""

    def __init__(
        self,
        guard: Guard,
        operations: Operations,
        *,
        application: str | None = None,
        api_key: bool = False,
        facts: Callable[[str, Mapping[str, str | bytes]], Iterable[Fact]] | None = None,
    ) -> None:
        self.gate = Gate(guard=guard, application=application, api_key=api_key)
        self._operations = {
            method: None if needed is None else ((needed,) if isinstance(needed, str) else tuple(needed))
            for method, needed in operations.items()
        }
        for method, needed in self._operations.items():
            if not method.startswith("/") or method.count("/") != 2:
                raise ValueError(f"a method is named as in /package.Service/Method, and {method!r} is not")
            if needed is not None and not needed:
                raise ValueError(f"{method} names no operations; None says that it needs no token")
        self._facts = facts

    def admit(self, method: str, metadata: Iterable[tuple[str, str | bytes]] | None) -> Grant | None:
        """Returns the grant for a call, None for a public method; raises Refused.

        The resource is the method's name.
        """
        if method in self._operations and self._operations[method] is None:
            return None
        sent = list(metadata or ())
        token = self.gate.token([(name, value) for name, value in sent if isinstance(value, str)])
        needed = self._operations.get(method)
        if needed is None:
            raise Refused(NOT_LISTED)
        facts = () if self._facts is None else self._facts(method, dict(sent))
        return self.gate.decide(token, needed, resource=method, facts=facts)


NOT_LISTED: Final = Problem(
    name="denied",
    status=403,
    title="The method is not open",
    detail="the service lists no operation for this method",
    error="insufficient_scope",
)


def status_of(problem: Problem) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """Returns what a problem is in gRPC: the code, the details, and trailing metadata."""
    trailing = [("cap-problem", problem.type)]
    if problem.decision_id is not None:
        trailing.append(("cap-decision-id", problem.decision_id))
    return _STATUS[problem.status], problem.detail, tuple(trailing)


def problem_of_raised(error: Refused | AuthorizationError) -> Problem:
    """Returns the problem of what a decision or a handler raised."""
    return error.problem if isinstance(error, Refused) else problem_of_error(error)


def wrapped(handler: Any, unary: Callable[..., Any], streaming: Callable[..., Any]) -> Any:
    """Returns a handler of the same streaming kind, whose behaviour is `unary` or `streaming` of the old one.

    INVARIANT: the kind stays: a server that is answered by another one hangs or fails on the wire.
    """
    kinds = {
        (False, False): (grpc.unary_unary_rpc_method_handler, handler.unary_unary, unary),
        (False, True): (grpc.unary_stream_rpc_method_handler, handler.unary_stream, streaming),
        (True, False): (grpc.stream_unary_rpc_method_handler, handler.stream_unary, unary),
        (True, True): (grpc.stream_stream_rpc_method_handler, handler.stream_stream, streaming),
    }
    make, behaviour, wrap = kinds[bool(handler.request_streaming), bool(handler.response_streaming)]
    return make(wrap(behaviour), handler.request_deserializer, handler.response_serializer)


class CapInterceptor(grpc.ServerInterceptor):
    """Decides each call before its handler reads anything, in the thread that serves the call.

    `operations` names what each method needs; a method that is not listed is refused, and one that is listed
    with None needs no token. `facts(method, metadata)` states more. A stream is decided when it begins.
    An AuthorizationError of a handler is answered the same way.
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

    def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Returns the handler of a call, behind the decision."""
        handler = continuation(handler_call_details)
        if handler is None:
            return None
        return guarded(handler, self._calls, handler_call_details.method)


def guarded(handler: Any, calls: CallGate, method: str) -> Any:
    """Returns a handler of threads behind a decision."""

    def unary(behaviour: Callable[..., Any]) -> Callable[..., Any]:
        def call(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                GRANT.set(calls.admit(method, context.invocation_metadata()))
                return behaviour(request, context)
            except (Refused, AuthorizationError) as error:
                _abort(context, problem_of_raised(error))
            finally:
                GRANT.set(None)

        return call

    def streaming(behaviour: Callable[..., Any]) -> Callable[..., Any]:
        def call(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            try:
                GRANT.set(calls.admit(method, context.invocation_metadata()))
                yield from behaviour(request, context)
            except (Refused, AuthorizationError) as error:
                _abort(context, problem_of_raised(error))
            finally:
                GRANT.set(None)

        return call

    return wrapped(handler, unary, streaming)


def _abort(context: grpc.ServicerContext, problem: Problem) -> NoReturn:
    code, details, trailing = status_of(problem)
    context.set_trailing_metadata(trailing)
    context.abort(code, details)
