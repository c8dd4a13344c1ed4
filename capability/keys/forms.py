"""Keys in PEM and DER: private ones in PKCS#8 (RFC 5958), public ones in SubjectPublicKeyInfo (RFC 5280).

A key is exchanged with the rest of the package as the name of its algorithm and its raw bytes.
"""

from collections.abc import Callable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
    load_pem_private_key,
    load_pem_public_key,
)

from capability.errors import KeyFormatError
from capability.keys import p256

RawKey = tuple[str, bytes]


def read_public_der(der: bytes) -> RawKey:
    """Returns the public key in a SubjectPublicKeyInfo; raises KeyFormatError."""
    return _raw_public(_load(lambda: load_der_public_key(der)))


def read_public_pem(pem: str) -> RawKey:
    """Returns the public key in a PEM text; raises KeyFormatError."""
    data = _pem_bytes(pem)
    return _raw_public(_load(lambda: load_pem_public_key(data)))


def read_private_der(der: bytes) -> RawKey:
    """Returns the private key in an unencrypted PKCS#8 structure; raises KeyFormatError."""
    return _raw_private(_load(lambda: load_der_private_key(der, password=None)))


def read_private_pem(pem: str) -> RawKey:
    """Returns the private key in an unencrypted PEM text; raises KeyFormatError."""
    data = _pem_bytes(pem)
    return _raw_private(_load(lambda: load_pem_private_key(data, password=None)))


def write_public_der(label: str, raw: bytes) -> bytes:
    """Returns a public key as SubjectPublicKeyInfo in DER."""
    return _public(label, raw).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def write_public_pem(label: str, raw: bytes) -> str:
    """Returns a public key as SubjectPublicKeyInfo in PEM."""
    return _public(label, raw).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def write_private_der(label: str, raw: bytes) -> bytes:
    """Returns a private key as unencrypted PKCS#8 in DER."""
    return _private(label, raw).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def write_private_pem(label: str, raw: bytes) -> str:
    """Returns a private key as unencrypted PKCS#8 in PEM."""
    return _private(label, raw).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _public(label: str, raw: bytes) -> Ed25519PublicKey | EllipticCurvePublicKey:
    return Ed25519PublicKey.from_public_bytes(raw) if label == "ed25519" else p256.load_point(raw)


def _private(label: str, raw: bytes) -> Ed25519PrivateKey | EllipticCurvePrivateKey:
    return Ed25519PrivateKey.from_private_bytes(raw) if label == "ed25519" else p256.load_scalar(raw)


def _pem_bytes(pem: str) -> bytes:
    if not isinstance(pem, str):
        raise TypeError(f"a PEM text is a str, not {type(pem).__name__}")
    return pem.encode("utf-8", "replace")


def _load(load: Callable[[], object]) -> object:
    try:
        return load()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # a TypeError is how an encrypted key without a password is reported
        raise KeyFormatError("not an unencrypted key in PEM or DER form") from error


def _raw_public(key: object) -> RawKey:
    if isinstance(key, Ed25519PublicKey):
        return "ed25519", key.public_bytes_raw()
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return "secp256r1", p256.point_bytes(key)
    raise KeyFormatError("neither an Ed25519 nor a secp256r1 public key")


def _raw_private(key: object) -> RawKey:
    if isinstance(key, Ed25519PrivateKey):
        return "ed25519", key.private_bytes_raw()
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return "secp256r1", p256.scalar_bytes(key)
    raise KeyFormatError("neither an Ed25519 nor a secp256r1 private key")
