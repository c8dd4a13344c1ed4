"""Protobuf bytes to messages and back, strictly."""

from typing import TypeVar

from google.protobuf.message import DecodeError, EncodeError, Message

from capability.datalog.program import KeyScope
from capability.errors import BiscuitSerializationError, FormatError, KeyFormatError, SignatureError
from capability.keys import PublicKey
from capability.wire import schema

M = TypeVar("M", bound=Message)


def parse(kind: type[M], data: bytes) -> M:
    """Returns the message of `kind` in `data`; raises FormatError.

    Unknown fields are refused, since nobody can say what they were meant to restrict, and so is an encoding
    longer than need be (overlong numbers, a field given twice): protobuf accepts many spellings of a message.
    """
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise FormatError(f"not the protobuf message {kind.DESCRIPTOR.name}", code="format.wire") from error
    if not message.IsInitialized():
        raise FormatError(f"{kind.DESCRIPTOR.name}: a required field is missing", code="format.missing")
    message.DiscardUnknownFields()
    if message.ByteSize() != len(data):
        raise FormatError(
            f"{kind.DESCRIPTOR.name}: an unknown field, or an encoding that is not minimal",
            code="format.wire",
        )
    return message


def serialize(message: Message) -> bytes:
    """Returns the bytes of `message`; raises BiscuitSerializationError when a required field is missing."""
    try:
        return message.SerializeToString(deterministic=True)
    except EncodeError as error:
        raise BiscuitSerializationError(f"{message.DESCRIPTOR.name} cannot be written") from error


def text(data: bytes) -> str:
    """Returns the string in `data`; raises FormatError for invalid UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError("a string is not UTF-8", code="format.utf8") from error


def utf8(string: str) -> bytes:
    """Returns the bytes of `string`; raises BiscuitSerializationError for a lone surrogate."""
    try:
        return string.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BiscuitSerializationError("a string has no UTF-8 form") from error


def read_key(message: schema.PublicKey) -> PublicKey:
    """Returns a public key of a token; raises SignatureError for an unusable one."""
    try:
        return PublicKey.from_wire(message.algorithm, message.key)
    except KeyFormatError as error:
        raise SignatureError(
            f"a public key of the token is unusable: {error}", code="signature.key"
        ) from error


def write_key(key: PublicKey | KeyScope) -> schema.PublicKey:
    """Returns the message of a public key."""
    if isinstance(key, PublicKey):
        return schema.PublicKey(algorithm=key.algorithm, key=key.to_bytes())
    return schema.PublicKey(algorithm=key.algorithm, key=key.key)
