"""The guards of the API: about what is asked, about who asks, and about what a token is."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from capability.datalog.errors import DatalogError
from capability.datalog.printer import print_program
from capability.guard import Guard
from capability.keys import PublicKey
from capability.keyset import KeySet
from capability.policy_review import PolicyWarning
from capability.revocation import RevocationSource
from capability.sidecar.authzen import DEFAULT_POLICY
from capability.sidecar.guards import read_policy
from capability.sidecar.oauth import CALLERS_POLICY
from capability.sidecar.settings import RouteSettings, Serves, Settings, SettingsError

_GENUINE: Final = "allow if true"


@dataclass(frozen=True, slots=True)
class APIGuards:
    """`known` is what the configuration says of application and tenant; `source` are the policies."""

    evaluation: Guard
    callers: Guard
    tokens: Guard
    known: Mapping[str, str]
    source: str

    def __iter__(self) -> Iterator[Guard]:
        return iter((self.evaluation, self.callers, self.tokens))


def build_api(
    settings: Settings,
    keys: KeySet | PublicKey,
    revocations: RevocationSource | None,
    *,
    clock: Callable[[], float] | None = None,
    warn: Callable[[str, str], None] = lambda route, warning: None,
) -> APIGuards | None:
    """Returns the guards, None where no listener serves the API.

    Evaluations are decided by the policy of [serve.api], else by that of the routes, which must then be one:
    what the check would refuse must not be allowed here for want of a policy. Raises SettingsError.
    """
    if not any(each.serves is Serves.API for each in settings.listen):
        return None
    api = settings.api
    decides = _of_all(settings.routes) if api.policy is None else RouteSettings(name="api", policy=api.policy)
    application, tenant = api.application or decides.application, api.tenant or decides.tenant
    programs = (
        read_policy("api", decides.policy, decides.source or DEFAULT_POLICY, application, tenant),
        read_policy("api callers", api.callers, CALLERS_POLICY),
        read_policy("api tokens", None, _GENUINE),
    )
    guards = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PolicyWarning)
        for program in programs:
            try:
                guards.append(Guard(keys, program, revocations, clock, prefixes=settings.prefixes))
            except (DatalogError, ValueError) as error:
                raise SettingsError(f"serve.api: {error}") from error
    for warning in caught:
        warn("api", str(warning.message))
    named = {"application": application, "tenant": tenant}
    evaluation, callers, tokens = guards
    return APIGuards(
        evaluation=evaluation,
        callers=callers,
        tokens=tokens,
        known={name: value for name, value in named.items() if value is not None},
        source="\n".join(print_program(program) for program in programs),
    )


def _of_all(routes: Sequence[RouteSettings]) -> RouteSettings:
    first = routes[0]
    alike = {(each.policy, each.source, each.application, each.tenant) for each in routes}
    if len(alike) > 1:
        raise SettingsError("serve.api.policy: the routes differ, so say which policy decides evaluations")
    return first
