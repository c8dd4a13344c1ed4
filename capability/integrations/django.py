"""Django: a middleware that decides every request, and `requires` for views.

    MIDDLEWARE = [..., "capability.integrations.django.CapMiddleware"]
    CAP_GUARD = Guard.from_env()

    @requires("refund")
    def refund(request): return HttpResponse(f"for {grant_of(request).subject}")

Settings: CAP_GUARD is a Guard, or the dotted path of one or of a function that returns one; CAP_PUBLIC the
paths that need no token; CAP_APPLICATION and CAP_REALM as everywhere; CAP_FACTS a function of the request;
CAP_API_KEY is True where X-API-Key may hold a token too.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, cast

from capability.errors import AuthorizationError
from capability.guard import Guard
from capability.http.bearer import API_KEY, AUTHORIZATION
from capability.http.problems import Problem, problem_of_error
from capability.integrations.extras import extra
from capability.integrations.gate import Gate, Grant, Refused, check_path, checked_public, is_public

with extra("django"):
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.http import HttpRequest, HttpResponse
    from django.http.response import HttpResponseBase
    from django.utils.module_loading import import_string

__all__ = ["CapMiddleware", "admit", "gate", "grant_of", "requires"]

_View = TypeVar("_View", bound=Callable[..., Any])
_ATTRIBUTE = "cap"
_HEADERS = ((AUTHORIZATION, "HTTP_AUTHORIZATION"), (API_KEY, "HTTP_X_API_KEY"))
"""Where a token may be. A second one of the same name was joined to the first by the server, with a comma."""

_CACHED = "_cache_update_cache"
"""By this, Django's caches know whether to keep an answer; one inside of the decision sets it anew."""


@functools.lru_cache(1)
def _gate_of(configured: object, application: str | None, realm: str, api_key: bool) -> Gate:
    found = import_string(configured) if isinstance(configured, str) else configured
    if callable(found):
        found = found()
    if not isinstance(found, Guard):
        raise ImproperlyConfigured("CAP_GUARD is a Guard, or the dotted path of one or of what returns one")
    return Gate(guard=found, application=application, realm=realm, api_key=api_key)


def gate() -> Gate:
    """Returns what decides, by the settings; raises ImproperlyConfigured."""
    api_key = getattr(settings, "CAP_API_KEY", False)
    if not isinstance(api_key, bool):
        raise ImproperlyConfigured("CAP_API_KEY is True or False: whether X-API-Key may hold a token")
    return _gate_of(
        getattr(settings, "CAP_GUARD", None),
        getattr(settings, "CAP_APPLICATION", None),
        getattr(settings, "CAP_REALM", "cap"),
        api_key,
    )


def admit(request: HttpRequest, operations: Sequence[str] = ()) -> Grant:
    """Decides a request, which then has the grant; raises Refused.

    The resource is the path that is routed, without SCRIPT_NAME, which a proxy may have from the client. A
    cache of Django's that stands outside of the decision does not keep the answer: it would give it to
    whoever asks for the same path.
    """
    setattr(request, _ATTRIBUTE, None)
    setattr(request, _CACHED, False)
    sent = ((header, request.META.get(name)) for header, name in _HEADERS)
    facts = getattr(settings, "CAP_FACTS", None)
    grant = gate().admit(
        [(header, value) for header, value in sent if value is not None],
        method=request.method or "",
        path=request.path_info,
        operations=operations,
        facts=() if facts is None else facts(request),
    )
    setattr(request, _ATTRIBUTE, grant)
    return grant


def grant_of(request: HttpRequest) -> Grant:
    """Returns the grant of a request; raises RuntimeError where nothing was asked, as on a public path."""
    grant = getattr(request, _ATTRIBUTE, None)
    if not isinstance(grant, Grant):
        raise RuntimeError("nothing was decided about this request")
    return grant


def answer(request: HttpRequest, problem: Problem) -> HttpResponse:
    """Returns the answer that tells a problem."""
    content = b"" if request.method == "HEAD" else problem.body()
    return HttpResponse(content, status=problem.status, headers=dict(problem.headers(gate().realm)))


class CapMiddleware:
    """Decides every request by the operation of its method, before any view sees it; sync and async.

    Answers refusals, and any AuthorizationError of a view, by a problem document.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        self._public = checked_public(getattr(settings, "CAP_PUBLIC", ()))
        gate()  # a mistake in the settings is told when the server starts
        self._async = asyncio.iscoroutinefunction(get_response)
        if self._async:
            from asgiref.sync import markcoroutinefunction

            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self._async:
            return self._answer_async(request)
        return self._refusal(request) or self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answers what a view raised, if it is about tokens."""
        problem = _problem(error)
        return None if problem is None else answer(request, problem)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        refusal = await _off_the_loop(self._refusal, request)
        return refusal or await cast(Awaitable[HttpResponseBase], self._get_response(request))

    def _refusal(self, request: HttpRequest) -> HttpResponse | None:
        try:
            if is_public(request.path_info, self._public):
                check_path(request.path_info)
            else:
                admit(request)
        except Refused as error:
            return answer(request, error.problem)
        return None


def requires(*operations: str) -> Callable[[_View], _View]:
    """Lets a view, sync or async, run only when each of `operations` is allowed; none: that of the method.

    Needs no middleware, and answers as it does. On a class it is
    `method_decorator(requires("read"), "dispatch")`.
    """
    if not all(isinstance(operation, str) for operation in operations):
        raise TypeError('name the operations that are needed: @requires("read")')

    def decorate(view: _View) -> _View:
        if asyncio.iscoroutinefunction(view):

            @functools.wraps(view)
            async def asynchronous(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                try:
                    await _off_the_loop(admit, request, operations)
                    return await view(request, *args, **kwargs)
                except (Refused, AuthorizationError) as error:
                    return answer(request, _told(error))

            return cast(_View, asynchronous)

        @functools.wraps(view)
        def synchronous(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            try:
                admit(request, operations)
                return view(request, *args, **kwargs)
            except (Refused, AuthorizationError) as error:
                return answer(request, _told(error))

        return cast(_View, synchronous)

    return decorate


def _problem(error: Exception) -> Problem | None:
    return _told(error) if isinstance(error, Refused | AuthorizationError) else None


def _told(error: Refused | AuthorizationError) -> Problem:
    return error.problem if isinstance(error, Refused) else problem_of_error(error)


async def _off_the_loop(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function that decides: in a thread where the guard may wait for a store."""
    if not gate().guard.blocking:
        return function(*args)
    return await asyncio.to_thread(function, *args)
