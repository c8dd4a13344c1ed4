"""Ed25519 in its strict reading, on libsodium (RFC 8032).

Points are judged by look-ups on their encodings, which cost less than a microsecond; libsodium does the
arithmetic.
"""

import os
from typing import Final

import nacl.bindings
from nacl.exceptions import BadSignatureError

from capability.errors import KeyFormatError, SignatureError

_FIELD: Final = 2**255 - 19
_GROUP_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_Y_MASK: Final = 2**255 - 1
_ORDER_8_Y: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER_Y: Final = frozenset({0, 1, _FIELD - 1, _ORDER_8_Y, _FIELD - _ORDER_8_Y})
"""The y coordinates of the eight points whose order divides 8; a point and its negative share one."""


def generate() -> bytes:
    """Returns a new seed from the operating system's randomness."""
    return os.urandom(32)


def public_key(seed: bytes) -> bytes:
    """Returns the public key of a seed of 32 bytes."""
    public, _ = nacl.bindings.crypto_sign_seed_keypair(seed)
    return public


def check_encoding(key: bytes) -> None:
    """Raises KeyFormatError for a public key of the wrong length, of small order or not canonical."""
    if len(key) != 32:
        raise KeyFormatError(f"an Ed25519 public key has 32 bytes, not {len(key)}")
    if _is_odd_point(key):
        raise KeyFormatError("the Ed25519 public key is of small order or not canonical")


def check_on_curve(key: bytes) -> None:
    """Raises KeyFormatError for a public key that is not a point of the curve; the only costly check."""
    try:
        nacl.bindings.crypto_core_ed25519_add(key, key)
    except RuntimeError as error:
        raise KeyFormatError("the Ed25519 public key is not a point of the curve") from error


def sign(seed: bytes, key: bytes, message: bytes) -> bytes:
    """Returns the signature of `message` under `seed`, whose public key is `key`."""
    return nacl.bindings.crypto_sign(message, seed + key)[:64]


def verify(key: bytes, message: bytes, signature: bytes) -> None:
    """Raises SignatureError unless `signature` is that of `message` under a `key` that was checked."""
    if len(signature) != 64:
        raise SignatureError(f"an Ed25519 signature has 64 bytes, not {len(signature)}")
    if int.from_bytes(signature[32:], "little") >= _GROUP_ORDER or _is_odd_point(signature[:32]):
        raise SignatureError("the Ed25519 signature is not canonical, or its point is of small order")
    try:
        nacl.bindings.crypto_sign_open(signature + message, key)
    except BadSignatureError as error:
        raise SignatureError("the signature does not verify") from error


def same_secret(one: bytes, other: bytes) -> bool:
    """Returns whether two secrets of one length are equal, in a time that does not depend on them."""
    return nacl.bindings.sodium_memcmp(one, other)


def _is_odd_point(encoded: bytes) -> bool:
    """Whether a point is of small order or not canonical; one with x = 0 and a sign bit is both."""
    y = int.from_bytes(encoded, "little") & _Y_MASK
    return y >= _FIELD or y in _SMALL_ORDER_Y
