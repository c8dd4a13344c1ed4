"""`cap verify` in this process: keys, policy and revocations are read, and a guard decides."""

import os
import re
import warnings
from typing import TYPE_CHECKING, Final

from capability.cli.failures import Exit, Failure, hint_for, usage
from capability.cli.inputs import Session, datalog_in
from capability.cli.keyfiles import required_public_keys
from capability.cli.output import Result, one_line
from capability.cli.parameters import check_used, parse_parameters
from capability.cli.stores import AtLeast, no_store, revocation_source
from capability.datalog.program import Expression, Policy, PolicyKind, Program, Query, Value
from capability.datalog.terms import TRUE

if TYPE_CHECKING:
    from capability.decision import Decision
    from capability.revocation import RevocationSource

TOKEN_DECIDES: Final = Program(
    policies=(Policy(PolicyKind.ALLOW, (Query((), (Expression((Value(TRUE),)),)),)),)
)
"""The policy when there is none, `allow if true`: what the checks of a genuine token let pass is allowed.

It is no text, so that no parser has to be loaded for it.
"""


def decide_here(
    session: Session,
    token: str | None,
    applications: tuple[str, ...],
    operations: tuple[str, ...],
    resources: tuple[str, ...],
    tenants: tuple[str, ...],
    facts: tuple[str, ...],
    policy: str | None,
    params: tuple[str, ...],
    public_key: str | None,
    keys: str | None,
    raw: bool,
    store: str | None,
    revocations: str | None,
    revocations_key: str | None,
    revocations_name: str | None,
    only: bool,
    min_revision: str | None,
) -> Result:
    """Returns the decision about TOKEN as a result; the arguments are the options of `cap verify`."""
    root = required_public_keys(session, public_key, keys)
    source = _demanding(
        revocation_source(
            session,
            store,
            revocations,
            revocations_key,
            revocations_name,
            root,
            registered_only=_only(session, only),
        ),
        min_revision,
    )
    parameters = parse_parameters(params)
    written = _policy(session, policy)
    rules = TOKEN_DECIDES
    if written is not None:
        from capability.datalog.parser import parse_program

        rules = parse_program(written)

    from capability.builders import Fact
    from capability.guard import CacheLimits, Guard

    check_used(parameters, [rules])
    stated = [Fact(each) for each in facts]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            guard = Guard(
                root,
                rules,
                source,
                cache=CacheLimits(max_tokens=0),  # nothing is prepared for a second time
                parameters=parameters.terms,
                scope_parameters=parameters.keys,
            )
        except ValueError as error:
            hint = "leave that out of the policy"
            raise Failure(Exit.PROGRAM, "language.policy", str(error), hint) from error
    named = {"application": applications, "operation": operations, "resource": resources, "tenant": tenants}
    asked = {name: values or None for name, values in named.items()}
    try:
        decision = guard.check(session.read_token(token, raw=raw), facts=stated, **asked)
    except ValueError as error:
        raise usage(str(error), "see the examples in `cap verify --help`") from error
    return _result(decision, tuple(one_line(str(warning.message)) for warning in caught))


def _policy(session: Session, flag: str | None) -> str | None:
    """Returns the policy's Datalog: by the flag, else by $CAP_POLICY, else by cap.toml."""
    written = flag if flag is not None else os.environ.get("CAP_POLICY") or None
    if written is not None:
        return session.read_datalog(written)
    return None if session.config.policy is None else datalog_in(session.config.policy)


def _only(session: Session, flag: bool) -> bool:
    from capability.configuration import registered_only
    from capability.errors import ConfigurationError

    try:
        return flag or registered_only(os.environ, session.config)
    except ConfigurationError as error:
        raise usage(str(error), error.hint, error.code) from error


def _demanding(source: "RevocationSource | None", min_revision: str | None) -> "RevocationSource | None":
    if min_revision is None:
        return source
    if not re.fullmatch("[0-9]{1,18}", min_revision):
        raise usage("--min-revision: that is no number from 0 up", "write it as `cap revoke` printed it")
    if source is None:
        raise no_store()
    return AtLeast(source, int(min_revision))


def _result(decision: "Decision", notes: tuple[str, ...]) -> Result:
    """Returns a yes or a no as a result; and what is neither as a failure."""
    data = {**decision.to_dict(), "revocation_checked": decision.revocation_revision is not None}
    line = one_line(decision.reason)
    if decision.exit_code in (Exit.DONE, Exit.DENIED):
        word = decision.outcome.value
        text = line if line.startswith(word) else f"{word}: {line}"
        return Result(text, data, exit=decision.exit_code, notes=notes)
    failure = Failure(Exit(decision.exit_code), decision.code, line, hint_for(decision.code))
    return Result("", data, exit=decision.exit_code, notes=notes, failure=failure)
