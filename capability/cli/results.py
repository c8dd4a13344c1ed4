"""Results that several commands have."""

from typing import TYPE_CHECKING, Any, Final

from capability.cli.output import Result

if TYPE_CHECKING:
    from capability.tokens import Biscuit, UnverifiedBiscuit

LARGE: Final = 6 * 1024
"""Characters of a token from which on it may not fit where tokens travel: servers take 8 KiB of headers."""


def token_result(
    token: "Biscuit | UnverifiedBiscuit", *, raw: bool, prefix: str, record: str | None = None
) -> Result:
    """Returns a token as the result of a command, with the id of its record if it has one.

    `prefix` stands before its text; bytes have none.

    Nothing but this prints a token.
    """
    text = prefix + token.to_base64()
    data: dict[str, Any] = {
        "token": text,
        "size": len(text),
        "blocks": token.block_count(),
        "sealed": token.sealed,
        "revocation_ids": token.revocation_ids,
    }
    if record is not None:
        data["id"] = record
    return Result(text=text, data=data, raw=token.to_bytes() if raw else None, notes=size_notes(text))


def size_notes(text: str) -> tuple[str, ...]:
    """Returns a warning when a token is too large for many headers."""
    if len(text) <= LARGE:
        return ()
    return (f"the token has {len(text)} characters, and many servers take no more than 8192 in all headers",)
