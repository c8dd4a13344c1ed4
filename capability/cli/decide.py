"""`cap verify`: what it takes, and who decides."""

from typing import Any

from capability.cli.declared import Option, declared
from capability.cli.inputs import Session
from capability.cli.options import (
    param_option,
    raw_option,
    request_options,
    revocations_options,
    root_options,
    store_option,
    token_argument,
)
from capability.cli.output import Result


@declared(
    "verify",
    "cap verify --operation read --application orders < token",
    "cap verify token --resource /orders/7 --policy policy.datalog --store sqlite:///cap.db",
    "cap verify token --operation read --sidecar unix:/run/cap/api.sock",
    "cap verify token --fact 'user(\"ann\")' --policy 'allow if user($u), right($u)' --json",
    argument=token_argument,
    options=(
        *request_options,
        Option(
            "--policy",
            name="policy",
            help="Who is let in: text, a file, or -.  [env var: CAP_POLICY; default: allow if true]",
            metavar="DATALOG",
        ),
        param_option,
        *root_options,
        raw_option,
        store_option,
        *revocations_options,
        Option(
            "--registered-only",
            name="only",
            help="Refuse what the store has no record of.  [env var: CAP_REGISTERED_ONLY]",
            is_flag=True,
        ),
        Option(
            "--min-revision",
            name="min_revision",
            help="Refuse a store that is behind this revision, as `cap revoke` printed it.",
            metavar="N",
        ),
        Option(
            "--sidecar",
            name="sidecar",
            help="Ask the API of a running `cap serve`: unix:/PATH, or tcp:PORT on this host.",
            metavar="ADDRESS",
        ),
    ),
)
def verify(session: Session, token: str | None, sidecar: str | None, **flags: Any) -> Result:
    """Decide whether TOKEN allows a request: exit code 0 if so, 1 if not, and one line that says why.

    TOKEN is a file, - for stdin, or what is piped in, or else $CAP_TOKEN. The options state the request;
    what a check of the token asks for and nobody states is denied. An option given twice asks twice, and all
    must be allowed.

    Without --policy the token's own checks decide: a genuine token that has none allows everything. A policy
    says what a token must hold besides.

    Revocations are read from the store that is configured, and if it cannot be read nothing is allowed (exit
    code 5). If none is configured, then from the one that `cap revoke` makes in your data folder, once it is
    there. Where the store is out of reach, --revocations names what `cap revoked export` has signed.

    With --sidecar a running `cap serve` decides, by its own keys, policy and revocations: that is the fastest
    way in a shell. It is told the operations, and application, resource and tenant where they are named.
    """
    if sidecar is not None:
        from capability.cli.asking import ask

        return ask(session, token, sidecar, **flags)
    from capability.cli.deciding import decide_here

    return decide_here(session, token, **flags)
