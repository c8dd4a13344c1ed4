"""The two engines under one interface: what a program written for either sees.

Both packages have the same names, so everything here takes the package as `api`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import biscuit_auth

import capability
from capability.datalog.parser import parse_block
from capability.datalog.printer import print_program
from tests.differential.cases import EXTERNAL_KEYS, Case

OURS: Final[Any] = capability
PEER: Final[Any] = biscuit_auth

_ROOTS: Final = ("ed25519-private/" + "11" * 32, "secp256r1-private/" + "11" * 32)
_REFUSED: Final = (
    biscuit_auth.DataLogError,
    biscuit_auth.BiscuitValidationError,
    biscuit_auth.BiscuitBuildError,
    biscuit_auth.BiscuitSerializationError,
    capability.DataLogError,
    capability.CapabilityError,
)
LIMIT: Final = "Reached Datalog execution limits"
EXECUTION: Final = "Datalog  execution failure: "


class Refused(Exception):
    """An engine did not take a source, a token or a snapshot; the message is its own."""


@dataclass(frozen=True)
class Report:
    """What a program can see of a decision, as text."""

    outcome: str
    """`allowed N`, or the text of the authorization error."""
    stated: str
    """The authorizer before it ran."""
    world: str
    """The authorizer after it ran; empty when it failed to."""
    answers: tuple[str, ...]
    """What the query finds, sorted, or the text of its error."""


def same(left: object, right: object = None) -> bool:
    """Serves as `.extern::same(...)`."""
    return left == right


def fails(left: object, right: object = None) -> bool:
    """Serves as `.extern::fails(...)`."""
    raise ValueError("on purpose")


_EXTERNS: Final = {"same": same, "fails": fails}


def key(api: Any, text: str) -> Any:
    return api.KeyPair.from_private_key(api.PrivateKey(text))


def root(api: Any, case: Case) -> Any:
    return key(api, _ROOTS[case.p256_root])


def mint(case: Case) -> bytes:
    """Returns the token that one of the engines makes of a case; raises Refused."""
    api = OURS if case.minted_here else PEER
    try:
        token = api.BiscuitBuilder(block_source(api, case, 0)).build(root(api, case).private_key)
        for index, block in enumerate(case.blocks[1:], start=1):
            built = api.BlockBuilder(block_source(api, case, index))
            if block.signer is None:
                token = token.append(built)
            else:
                signer = key(api, EXTERNAL_KEYS[block.signer])
                signed = token.third_party_request().create_block(signer.private_key, built)
                token = token.append_third_party(signer.public_key, signed)
        return bytes(token.to_bytes())
    except _REFUSED as error:
        raise Refused(str(error)) from error


def block_source(api: Any, case: Case, index: int) -> str:
    source = case.blocks[index].source
    return print_program(parse_block(source)) if case.printed and api is PEER else source


def read(api: Any, case: Case, data: bytes) -> Any:
    """Returns the verified token; raises Refused."""
    try:
        return api.Biscuit.from_bytes(data, root(api, case).public_key)
    except _REFUSED as error:
        raise Refused(str(error)) from error


def token_texts(token: Any) -> dict[str, Any]:
    """Returns what both engines tell of a token."""
    blocks = range(token.block_count())
    return {
        "revocation ids": token.revocation_ids,
        "external keys": [repr(token.block_external_key(index)) for index in blocks],
        "sources": [token.block_source(index) for index in blocks],
        "bytes": bytes(token.to_bytes()),
    }


def builder(api: Any, case: Case) -> Any:
    """Returns the authorizer's builder, with limits that a random case does not reach; raises Refused."""
    source = case.authorizer.source
    parameters: Mapping[str, object] = dict(case.parameters)
    try:
        if case.printed and api is PEER:
            source = print_program(capability.AuthorizerBuilder(source, parameters).program)
            parameters = {}
        made = api.AuthorizerBuilder(source, parameters)
    except _REFUSED as error:
        raise Refused(str(error)) from error
    limits = made.limits()
    limits.max_time = timedelta(seconds=20)
    limits.max_facts, limits.max_iterations = 5_000, 500
    if api is OURS:
        limits.max_steps = 50_000_000
    made.set_limits(limits)
    made.register_extern_funcs(_EXTERNS)
    return made


def query_of(api: Any, source: str) -> Any:
    """Returns the query; raises Refused."""
    try:
        return api.Rule(source)
    except _REFUSED as error:
        raise Refused(str(error)) from error


def report(authorizer: Any, query: Any) -> Report:
    """Runs an authorizer and tells what it said."""
    stated = repr(authorizer)
    decided = outcome(authorizer)
    world = "" if failed_to_run(decided) else repr(authorizer)
    try:
        answers = tuple(sorted({repr(fact) for fact in authorizer.query(query)}))
    except (biscuit_auth.AuthorizationError, capability.AuthorizationError) as error:
        answers = (str(error),)
    return Report(decided, stated, world, answers)


def outcome(authorizer: Any) -> str:
    try:
        return f"allowed {authorizer.authorize()}"
    except (biscuit_auth.AuthorizationError, capability.AuthorizationError) as error:
        return str(error)


def failed_to_run(told: str | tuple[str, ...]) -> bool:
    """Returns whether an outcome, or what a query answered, is an execution error."""
    return (told if isinstance(told, str) else "".join(told[:1])).startswith(EXECUTION)


def load(api: Any, snapshot: bytes, *, of_builder: bool) -> Any:
    """Returns the authorizer or the builder of a snapshot; raises Refused."""
    kind = api.AuthorizerBuilder if of_builder else api.Authorizer
    try:
        return kind.from_raw_snapshot(bytes(snapshot))
    except _REFUSED as error:
        raise Refused(str(error)) from error


def accepts(api: Any, case: Case) -> dict[str, bool]:
    """Returns which of the sources of a case an engine parses."""
    sources = {f"block {index}": (api.BlockBuilder, block.source) for index, block in enumerate(case.blocks)}
    sources["authorizer"] = (api.AuthorizerBuilder, case.authorizer.source)
    sources["query"] = (api.Rule, case.query)
    found = {}
    for name, (make, source) in sources.items():
        arguments = (source, dict(case.parameters)) if name == "authorizer" else (source,)
        try:
            make(*arguments)
        except _REFUSED:
            found[name] = False
        else:
            found[name] = True
    return found
