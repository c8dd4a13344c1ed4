"""ECDSA on secp256r1 with SHA-256, in its strict reading, on cryptography (FIPS 186-5, SEC1, RFC 6979)."""

from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from capability.errors import KeyFormatError, SignatureError

_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def generate() -> bytes:
    """Returns a new scalar from the operating system's randomness."""
    return scalar_bytes(ec.generate_private_key(ec.SECP256R1()))


def scalar_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Returns the scalar of a private key in 32 bytes, big-endian."""
    return key.private_numbers().private_value.to_bytes(32, "big")


def point_bytes(key: ec.EllipticCurvePublicKey) -> bytes:
    """Returns the compressed SEC1 form of a public key."""
    return key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


def load_scalar(scalar: bytes) -> ec.EllipticCurvePrivateKey:
    """Returns the private key of 32 bytes; raises KeyFormatError for a number out of range."""
    value = int.from_bytes(scalar, "big")
    if not 0 < value < _ORDER:
        raise KeyFormatError("a secp256r1 private key lies between 1 and the group's order")
    return ec.derive_private_key(value, ec.SECP256R1())


@lru_cache(maxsize=256)
def load_point(point: bytes) -> ec.EllipticCurvePublicKey:
    """Returns the public key of a compressed SEC1 point; raises KeyFormatError for any other form."""
    if len(point) != 33 or point[0] not in (2, 3):
        raise KeyFormatError("a secp256r1 public key is a compressed SEC1 point of 33 bytes")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError as error:
        raise KeyFormatError("the secp256r1 public key is not a point of the curve") from error


def sign(scalar: bytes, message: bytes) -> bytes:
    """Returns the deterministic signature of `message`, in its canonical form."""
    try:
        signature = load_scalar(scalar).sign(message, ec.ECDSA(SHA256(), deterministic_signing=True))
    except UnsupportedAlgorithm as error:
        raise SignatureError("deterministic ECDSA needs OpenSSL 3.2 or later") from error
    return canonical(signature)


def verify(point: bytes, message: bytes, signature: bytes) -> None:
    """Raises SignatureError unless `signature` is that of `message` under `point`."""
    _decode(signature)
    try:
        load_point(point).verify(signature, message, ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise SignatureError("the signature does not verify") from error


def canonical(signature: bytes) -> bytes:
    """Returns the DER of r and the smaller of s and n - s, which both verify."""
    r, s = _decode(signature)
    return encode_dss_signature(r, min(s, _ORDER - s))


def _decode(signature: bytes) -> tuple[int, int]:
    try:
        r, s = decode_dss_signature(signature)
    except ValueError as error:
        raise SignatureError("the ECDSA signature is not DER") from error
    in_range = 0 < r < _ORDER and 0 < s < _ORDER
    if not in_range or encode_dss_signature(r, s) != signature:
        raise SignatureError("the ECDSA signature is out of range, or not strict DER")
    return r, s
