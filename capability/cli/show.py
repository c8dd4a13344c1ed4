"""`cap inspect`."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from capability.cli.failures import Exit, Failure, failure_of
from capability.cli.group import command
from capability.cli.inputs import Session
from capability.cli.keyfiles import public_keys
from capability.cli.moments import in_words, rfc_3339
from capability.cli.options import raw_option, root_options, token_argument
from capability.cli.output import Result, one_line
from capability.cli.results import size_notes

if TYPE_CHECKING:
    from capability.inspection import Remaining
    from capability.tokens import Biscuit, UnverifiedBiscuit


@command(
    "inspect",
    "cap inspect token",
    "cap attenuate token --expires 1h | cap inspect",
    "cap inspect --json token",
)
@token_argument
@root_options
@raw_option
@click.pass_obj
def inspect(
    session: Session, token: str | None, public_key: str | None, keys: str | None, raw: bool
) -> Result:
    """Show what TOKEN still allows, until when, and what its blocks say. The token itself is not printed.

    TOKEN is a file, - for stdin, or what is piped in, or else $CAP_TOKEN.

    Without a public key nothing is verified, and what is shown may be anybody's words. What is listed as
    allowed is read off the checks that `cap attenuate` makes and others like them; any further check can
    only narrow it.
    """
    from capability.errors import BiscuitValidationError
    from capability.inspection import remaining
    from capability.tokens import UnverifiedBiscuit

    text = session.read_token(token, raw=raw)
    found = UnverifiedBiscuit.from_base64(text)
    root = public_keys(session, public_key, keys)
    verified: Biscuit | None = None
    failure: Failure | None = None
    if root is not None:
        try:
            verified = found.verify(root)
        except BiscuitValidationError as error:
            failure = failure_of(error)
    left = remaining(block.program for block in found.blocks)
    now = datetime.now(UTC)
    data = _data(found, verified, failure, left, now, len(text))
    return Result(
        "\n".join(_lines(found, verified, failure, left, now, len(text))),
        data,
        exit=Exit.DONE if failure is None else Exit.TOKEN_OR_KEY,
        notes=size_notes(text),
        failure=failure,
    )


def _data(
    token: "UnverifiedBiscuit",
    verified: "Biscuit | None",
    failure: Failure | None,
    left: "Remaining",
    now: datetime,
    size: int,
) -> dict[str, Any]:
    from capability.inspection import subject

    return {
        "verified": None if verified is None and failure is None else verified is not None,
        "root_key": None if verified is None else repr(verified.root_key),
        "key_id": token.root_key_id(),
        "sealed": token.sealed,
        "subject": subject(token.block(0).program),
        "expires": None if left.expires is None else rfc_3339(left.expires),
        "expired": left.expires is not None and left.expires < now,
        "not_before": None if left.not_before is None else rfc_3339(left.not_before),
        "applications": left.applications,
        "operations": left.operations,
        "resources": left.resources,
        "tenants": left.tenants,
        "size": size,
        "revocation_ids": _ids(token, verified),
        "blocks": [
            {
                "index": index,
                "source": token.block_source(index),
                "context": block.context,
                "version": block.version,
                "external_key": None if key is None else repr(key),
                "revocation_id": identifier,
            }
            for index, (block, key, identifier) in enumerate(
                zip(token.blocks, token.external_keys, _ids(token, verified), strict=True)
            )
        ],
    }


def _lines(
    token: "UnverifiedBiscuit",
    verified: "Biscuit | None",
    failure: Failure | None,
    left: "Remaining",
    now: datetime,
    size: int,
) -> Iterable[str]:
    from capability.inspection import subject

    key_id = token.root_key_id()
    yield from _row(
        "valid for", _validity(verified, failure) + ("" if key_id is None else f" (key id {key_id})")
    )
    yield from _row("sealed", "yes, it cannot be narrowed" if token.sealed else "no, it can be narrowed")
    yield from _row("expires", _expiry(left.expires, now))
    if left.not_before is not None:
        yield from _row("begins", f"{in_words(left.not_before, now)} ({rfc_3339(left.not_before)})")
    name = subject(token.block(0).program)
    if name is not None:
        yield from _row("subject", name)
    for label, values in (
        ("applications", left.applications),
        ("operations", left.operations),
        ("resources", left.resources),
        ("tenants", left.tenants),
    ):
        yield from _row(label, "any" if values is None else ", ".join(values) or "none")
    yield from _row("size", f"{size} characters")
    for index, identifier in enumerate(_ids(token, verified)):
        block, key = token.block(index), token.block_external_key(index)
        signer = "the issuer" if index == 0 else "a holder" if key is None else f"a third party, {key!r}"
        yield ""
        yield f"block {index}, by {signer}"
        yield f"  revocation id {identifier}"
        if block.context is not None:
            yield f"  context {one_line(block.context)}"
        for line in token.block_source(index).rstrip("\n").split("\n"):
            yield f"  {one_line(line)}"


def _row(label: str, value: str) -> Iterable[str]:
    yield f"{label:<13}{one_line(value)}"


def _validity(verified: "Biscuit | None", failure: Failure | None) -> str:
    if verified is not None:
        return repr(verified.root_key)
    return "not verified: no public key was given" if failure is None else f"NOT VALID: {failure.message}"


def _expiry(expires: datetime | None, now: datetime) -> str:
    if expires is None:
        return "never"
    return f"{in_words(expires, now)} ({rfc_3339(expires)})"


def _ids(token: "UnverifiedBiscuit", verified: "Biscuit | None") -> list[str]:
    if verified is None:
        return token.revocation_ids
    return [each.hex() for each in verified.canonical_revocation_ids]
