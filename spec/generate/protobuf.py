"""Writes protobuf messages, field by field, exactly as told: also those that no library would write."""

from typing import TypeAlias

FieldValue: TypeAlias = int | bytes
Field: TypeAlias = tuple[int, FieldValue]


def varint(number: int) -> bytes:
    """Returns `number` as a varint; negative numbers as the ten bytes of their 64-bit complement."""
    number &= 2**64 - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def message(*fields: Field) -> bytes:
    """Returns the message of `fields` in the order given: ints as varints, bytes with their length."""
    out = b""
    for number, content in fields:
        if isinstance(content, bytes):
            out += varint(number << 3 | 2) + varint(len(content)) + content
        else:
            out += varint(number << 3) + varint(content)
    return out
