"""`cap third-party`: a block that somebody else signs, in three steps."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from capability.cli.failures import Exit, Failure
from capability.cli.group import LazyGroup, command
from capability.cli.inputs import Session, decode_text, edit_datalog, read_file
from capability.cli.keyfiles import private_key as find_private_key
from capability.cli.keyfiles import public_key as find_public_key
from capability.cli.options import param_option, private_key_option, raw_option, token_argument
from capability.cli.output import Result
from capability.cli.parameters import add_datalog
from capability.cli.results import token_result


@click.group(
    "third-party",
    cls=LazyGroup,
    lazy={
        "request": ("thirdparty", "request", "Ask for a block: print a request."),
        "sign": ("thirdparty", "sign", "Answer a request: print a signed block."),
        "append": ("thirdparty", "append", "Add a signed block to the token that asked."),
    },
)
def third_party() -> None:
    """Have someone else sign a block for a token.

    The holder sends a request, which tells nothing of the token; the third party signs a block for it; the
    holder appends it. Checks that say `trusting` and the third party's key can rely on its facts.
    """


@command("request", "cap third-party request token > request")
@token_argument
@raw_option
@click.pass_obj
def request(session: Session, token: str | None, raw: bool) -> Result:
    """Print a request for a block that fits TOKEN as it is now.

    TOKEN is a file, - for stdin, or what is piped in, or else $CAP_TOKEN. With --raw, TOKEN and request are
    bytes.
    """
    from capability.tokens import UnverifiedBiscuit

    made = UnverifiedBiscuit.from_base64(session.read_token(token, raw=raw)).third_party_request()
    text = made.to_base64()
    return Result(text, {"request": text}, raw=made.to_bytes() if raw else None)


@command(
    "sign",
    "cap third-party sign request --block 'member(\"ann\");' --private-key partner.key > block",
)
@click.argument("request")
@click.option(
    "--block",
    "blocks",
    multiple=True,
    metavar="DATALOG",
    help="What to state: text, a file, or -; repeatable.",
)
@private_key_option
@param_option
@click.option("--raw", is_flag=True, help="Request and block are bytes, not base64.")
@click.pass_obj
def sign(
    session: Session,
    request: str,
    blocks: tuple[str, ...],
    private_key: str | None,
    params: tuple[str, ...],
    raw: bool,
) -> Result:
    """Sign a block of your own for the token that REQUEST (a file, or - for stdin) speaks of.

    The block only fits that token. Whoever trusts your key trusts the facts in it.
    """
    from capability.builders import BlockBuilder
    from capability.third_party import ThirdPartyRequest

    content = _read(session, request, "request")
    with _parsing("request", "make one of the token with `cap third-party request`"):
        asked = (
            ThirdPartyRequest.from_bytes(content)
            if raw
            else ThirdPartyRequest.from_base64(_text(content, "request"))
        )
    block = BlockBuilder()
    add_datalog(block, [session.read_datalog(each) for each in blocks] or [edit_datalog("the block")], params)
    signed = asked.create_block(find_private_key(session, private_key), block)
    text = signed.to_base64()
    return Result(text, {"block": text}, raw=signed.to_bytes() if raw else None)


@command(
    "append",
    "cap third-party append token --block block --external-key partner.key.pub > narrower",
)
@token_argument
@click.option("--block", required=True, metavar="FILE", help="The signed block: a file, or - for stdin.")
@click.option("--external-key", required=True, metavar="KEY|FILE", help="The third party's public key.")
@click.option("--raw", is_flag=True, help="Token and block are bytes, not base64.")
@click.pass_obj
def append(session: Session, token: str | None, block: str, external_key: str, raw: bool) -> Result:
    """Append a block that a third party signed to TOKEN, and print the narrower token.

    TOKEN is a file, - for stdin, or what is piped in, or else $CAP_TOKEN. It must be the token that the
    request was made from.
    """
    from capability.errors import BiscuitBuildError
    from capability.third_party import ThirdPartyBlock
    from capability.tokens import UnverifiedBiscuit

    key = find_public_key(external_key)
    content = _read(session, block, "block")
    with _parsing("block", "pass what `cap third-party sign` printed; the token itself is the argument"):
        signed = (
            ThirdPartyBlock.from_bytes(content)
            if raw
            else ThirdPartyBlock.from_base64(_text(content, "block"))
        )
    asking = UnverifiedBiscuit.from_base64(session.read_token(token, raw=raw))
    try:
        return token_result(asking.append_third_party(key, signed), raw=raw, prefix=session.token_prefix)
    except BiscuitBuildError as error:
        raise Failure(
            Exit.TOKEN_OR_KEY,
            error.code,
            str(error),
            "the block must be signed by that key, for this very token: narrow before asking, not after",
        ) from error


@contextmanager
def _parsing(what: str, hint: str) -> Iterator[None]:
    """Says what was meant to be read: a hint about tokens would mislead who passed one."""
    from capability.errors import CapabilityError

    try:
        yield
    except CapabilityError as error:
        message = str(error)
        if what not in message:
            message = f"that is no {what}: {message}"
        raise Failure(Exit.TOKEN_OR_KEY, error.code, message, hint) from error


def _read(session: Session, source: str, what: str) -> bytes:
    content = session.read_stdin(what) if source == "-" else read_file(source, what)
    if not content.strip():
        raise Failure(
            Exit.TOKEN_OR_KEY,
            "format.empty",
            f"the {what} is empty",
            "pass it whole, as `cap third-party` prints it",
        )
    return content


def _text(content: bytes, what: str) -> str:
    failure = Failure(
        Exit.TOKEN_OR_KEY, "format.text", f"the {what} is not text", "pass --raw if it is bytes"
    )
    return decode_text(content, what, failure).strip()
