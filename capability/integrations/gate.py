"""From the credentials of a request to a Grant, or to a refusal: what all integrations for HTTP share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NoReturn, Unpack

from capability.builders import Fact
from capability.decision import Decision
from capability.guard import Guard
from capability.http.bearer import MalformedRequest, request_token
from capability.http.problems import NO_TOKEN, Problem, checked_realm, malformed, problem_of
from capability.http.requests import is_ambiguous, operations_of
from capability.integrations.narrowing import Narrowing, narrowed
from capability.prefixes import split_prefix
from capability.tokens import Biscuit, UnverifiedBiscuit

__all__ = ["Gate", "Grant", "Refused"]

AMBIGUOUS_PATH: Final = malformed("the path can be read in more than one way")


class Refused(Exception):
    """A request that may not be; `problem` is what its sender is told."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(f"{problem.status} {problem.name}")


@dataclass(frozen=True, slots=True)
class Grant:
    """A yes: the decision, and the token that it was about, to narrow and hand on.

    `operations` are those that were asked for. Whoever has `token` can do what its holder can.
    """

    decision: Decision
    token: str = field(repr=False)
    operations: tuple[str, ...] = ()

    @property
    def subject(self) -> str | None:
        """Whom the token names, by the word of its issuer; not what any header says."""
        return self.decision.subject

    @property
    def expires_at(self) -> datetime | None:
        """The earliest expiry that any block of the token asks for."""
        return self.decision.expires_at

    @property
    def revocation_ids(self) -> tuple[str, ...]:
        """An id for each block (hex): who revokes one revokes this token."""
        return self.decision.revocation_ids

    @property
    def decision_id(self) -> str:
        """The id of the decision, to find it in logs."""
        return self.decision.decision_id

    def attenuate(self, **narrowing: Unpack[Narrowing]) -> Biscuit | UnverifiedBiscuit:
        """Returns a narrower token; raises SealedError, and what `narrowed` raises."""
        return narrowed(self.token, narrowing)

    def delegate(self, **narrowing: Unpack[Narrowing]) -> str:
        """Returns the text of a narrower token, for another service to act with; raises as `attenuate`.

        Raises ValueError when nothing is named: the token as it is would hand on all that its holder may.
        """
        if not narrowing:
            raise ValueError("name what is delegated: operation=, resource=, expires=, ...")
        return self.attenuate(**narrowing).to_base64()

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> NoReturn:
        """Keeps FastAPI from reading a grant out of a request's body, or writing its token into an answer."""
        raise TypeError("a Grant is no part of a request or an answer: write Annotated[Grant, Security(cap)]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A guard, and what it states about every request: the application, if the service has a name.

    `realm` stands in WWW-Authenticate. With `api_key` a token may come in X-API-Key too; a request that has
    both headers is malformed.
    """

    guard: Guard
    application: str | None = None
    realm: str = "cap"
    api_key: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.guard, Guard):
            raise TypeError(f"argument 'guard' must be a Guard, not {type(self.guard).__name__}")
        if not isinstance(self.api_key, bool):
            raise TypeError("argument 'api_key' is True or False: whether X-API-Key may hold a token")
        checked_realm(self.realm)

    def admit(
        self,
        headers: Iterable[tuple[str, str]],
        *,
        method: str,
        path: str,
        operations: Sequence[str] = (),
        resource: str | None = None,
        facts: Iterable[Fact] = (),
    ) -> Grant:
        """Returns the grant of an HTTP request; raises Refused.

        Each of `operations` must be allowed; where none is named, the method says which it is. The resource
        is the path, unless another is given.
        """
        token = self.token(headers)
        if resource is None:
            check_path(path)
            resource = path
        return self.decide(token, tuple(operations) or operations_of(method), resource=resource, facts=facts)

    def token(self, headers: Iterable[tuple[str, str]]) -> str:
        """Returns the token of a request; raises Refused for none, and for more than one."""
        try:
            token = request_token(headers, api_key=self.api_key)
        except MalformedRequest as error:
            raise Refused(malformed(str(error))) from error
        if token is None:
            raise Refused(NO_TOKEN)
        return token

    def decide(
        self, token: str, operations: Sequence[str], *, resource: str | None, facts: Iterable[Fact] = ()
    ) -> Grant:
        """Returns the grant for `token` to do all of `operations`; raises Refused."""
        decision = self.guard.check(
            token,
            operation=list(operations),
            application=self.application,
            resource=resource,
            facts=facts,
        )
        if not decision.allowed:
            raise Refused(problem_of(decision, operations))
        _, bare = split_prefix(token, self.guard.prefixes)
        return Grant(decision, bare, tuple(operations))


def check_path(path: str) -> None:
    """Raises Refused for a path that can be read in two ways."""
    if is_ambiguous(path):
        raise Refused(AMBIGUOUS_PATH)


def is_public(path: str, public: Iterable[str]) -> bool:
    """True when `path` is one of `public`, or is below one of them that ends in a slash.

    "/" is the root alone: whoever lists the front page does not mean the whole site.
    """
    return any(
        path == each or (each != "/" and each.endswith("/") and path.startswith(each)) for each in public
    )


def checked_public(public: Iterable[str]) -> tuple[str, ...]:
    """Returns the paths that need no token; raises for a lone string, and for what is no path."""
    if isinstance(public, str):
        raise TypeError("argument 'public' is a list of paths; write [...] around a single one")
    paths = tuple(public)
    for path in paths:
        if not path.startswith("/"):
            raise ValueError(f"a public path begins with /, and {path!r} does not")
    return paths
