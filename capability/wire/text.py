"""Tokens as text: URL-safe base64, padded."""

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from typing import Final

from capability.errors import FormatError

PREFIX: Final = "biscuit:"
"""May stand before a token's text, where the context does not tell what it is."""

_TO_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")
# INVARIANT: the letters of the other alphabet become ones of neither, so that they are refused
_FROM_URL_SAFE: Final = bytes.maketrans(b"-_+/", b"+/!!")


def to_text(data: bytes) -> str:
    """Returns `data` as URL-safe base64 with padding."""
    return b2a_base64(data, newline=False).translate(_TO_URL_SAFE).decode("ascii")


def from_text(text: str) -> bytes:
    """Reads what `to_text` writes; the padding may be missing as a whole, and the prefix may be there.

    Each token has one text but for that: another alphabet, white space and trailing bits that are not zero
    would be other spellings of the same token, and raise FormatError.
    """
    try:
        encoded = text.removeprefix(PREFIX).encode("ascii").translate(_FROM_URL_SAFE)
        padded = encoded if encoded.endswith(b"=") else encoded + b"=" * (-len(encoded) % 4)
        data = a2b_base64(padded, strict_mode=True)
    except (UnicodeEncodeError, Base64Error) as error:
        raise FormatError("the text is not URL-safe base64", code="format.text") from error
    if b2a_base64(data, newline=False) != padded:
        raise FormatError("the text is not the base64 of any bytes", code="format.text")
    return data
