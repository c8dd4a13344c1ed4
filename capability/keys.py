"""Signature keys: Ed25519 and secp256r1 (P-256), in text, raw, PEM and DER form.

The only module that imports `nacl` and `cryptography`. The latter is loaded when a P-256, PEM or DER
operation is asked for: a command that needs Ed25519 alone must not wait for it.

Reading is strict, whatever the libraries accept: no Ed25519 key or signature point that is not canonical or
is of small order (for such a key, signatures exist that fit any message), no `S` from the group order up (it
would be a second signature of the same message), P-256 points in compressed form only, ECDSA signatures in
strict DER. An ECDSA signature (r, s) has a twin (r, n - s) that verifies as well and that other engines
write, so both are accepted, and `PublicKey.canonical_signature` names the two by one form.
"""

from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

import nacl.bindings
from nacl.exceptions import BadSignatureError

from capability.datalog.program import KeyScope
from capability.errors import KeyFormatError, SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

_FIELD: Final = 2**255 - 19
_GROUP_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_Y_MASK: Final = 2**255 - 1
_ORDER_8_Y: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER_Y: Final = frozenset({0, 1, _FIELD - 1, _ORDER_8_Y, _FIELD - _ORDER_8_Y})
"""The y coordinates of the eight points whose order divides 8; a point and its negative share one."""
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Algorithm(IntEnum):
    """Signature algorithms, by their numbers on the wire."""

    Ed25519 = 0
    Secp256r1 = 1

    @property
    def label(self) -> str:
        """The name in the text form of keys: `ed25519`, `secp256r1`."""
        return self.name.lower()

    def __repr__(self) -> str:
        return f"Algorithm.{self.name}"

    __str__ = __repr__


class Signer(Protocol):
    """Whatever can sign for a key: a PrivateKey, or a key that stays in a KMS or HSM.

    A P-256 signature is the DER form of an ECDSA signature with SHA-256.
    """

    @property
    def public_key(self) -> "PublicKey":
        """The key that verifies what `sign` returns."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Returns the signature of `message`."""
        ...


class PublicKey:
    """A key that verifies.

    The constructor reads `ed25519/<64 hex>` or `secp256r1/<66 hex>`, the text that `repr` writes.
    Raises KeyFormatError (a ValueError) for anything but a usable key.
    """

    __slots__ = ("_algorithm", "_data")

    _algorithm: Algorithm
    _data: bytes

    def __init__(self, data: str) -> None:
        algorithm, raw = _parse_text(data, "")
        self._set(algorithm, raw)
        self._check_on_curve()

    @classmethod
    def from_bytes(cls, data: bytes, alg: Algorithm) -> "PublicKey":
        """Reads the raw form: 32 bytes for Ed25519, a compressed SEC1 point (33 bytes) for secp256r1."""
        key = cls.from_wire(_algorithm(alg), bytes(data))
        key._check_on_curve()
        return key

    @classmethod
    def from_wire(cls, algorithm: int, data: bytes) -> "PublicKey":
        """Reads a key of a token, with table look-ups only for Ed25519.

        That the point is on the curve is left to what the key verifies: one that is not verifies nothing.
        """
        key = cls.__new__(cls)
        key._set(_algorithm(algorithm), data)
        return key

    @classmethod
    def from_der(cls, der: bytes) -> "PublicKey":
        """Reads a SubjectPublicKeyInfo in DER (RFC 5480, RFC 8410)."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        try:
            return cls._from_library(load_der_public_key(der))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyFormatError("not a public key in DER form") from error

    @classmethod
    def from_pem(cls, pem: str) -> "PublicKey":
        """Reads a SubjectPublicKeyInfo in PEM."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        try:
            return cls._from_library(load_pem_public_key(pem.encode()))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise KeyFormatError("not a public key in PEM form") from error

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm of the key."""
        return self._algorithm

    @property
    def scope(self) -> KeyScope:
        """The key as `trusting` names it in Datalog."""
        return KeyScope(int(self._algorithm), self._data)

    def to_bytes(self) -> bytes:
        """Returns the raw form that `from_bytes` reads."""
        return self._data

    def to_der(self) -> bytes:
        """Returns the SubjectPublicKeyInfo in DER."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        der: bytes = self._to_library().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return der

    def to_pem(self) -> str:
        """Returns the SubjectPublicKeyInfo in PEM."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        pem: bytes = self._to_library().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return pem.decode()

    def verify(self, message: bytes, signature: bytes) -> None:
        """Raises SignatureError unless `signature` is this key's for `message`, read strictly."""
        if self._algorithm is Algorithm.Ed25519:
            _verify_ed25519(self._data, message, signature)
        else:
            _verify_p256(self._data, message, signature)

    def canonical_signature(self, signature: bytes) -> bytes:
        """Returns the one form under which a signature of this key is revoked.

        An Ed25519 signature has no other; an ECDSA one becomes the DER of r and the smaller of s, n - s.
        Raises SignatureError for an ECDSA signature that is not strict DER.
        """
        if self._algorithm is Algorithm.Ed25519:
            return signature
        return _low_s(signature)

    def __repr__(self) -> str:
        return f"{self._algorithm.label}/{self._data.hex()}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PublicKey):
            return NotImplemented
        return self._data == other._data and self._algorithm is other._algorithm

    def __hash__(self) -> int:
        return hash((self._algorithm, self._data))

    def _set(self, algorithm: Algorithm, data: bytes) -> None:
        if algorithm is Algorithm.Secp256r1:
            _load_p256_point(data)
        elif len(data) != 32:
            raise KeyFormatError(f"an Ed25519 public key has 32 bytes, not {len(data)}")
        elif _is_odd_point(data):
            raise KeyFormatError("the Ed25519 public key is of small order or not canonical")
        self._algorithm = algorithm
        self._data = data

    def _check_on_curve(self) -> None:
        if self._algorithm is Algorithm.Ed25519:
            try:
                nacl.bindings.crypto_core_ed25519_add(self._data, self._data)
            except RuntimeError as error:
                raise KeyFormatError("the Ed25519 public key is not a point of the curve") from error

    @classmethod
    def _from_library(cls, key: object) -> "PublicKey":
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        if isinstance(key, ed25519.Ed25519PublicKey):
            return cls.from_bytes(key.public_bytes_raw(), Algorithm.Ed25519)
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
            return cls.from_bytes(point, Algorithm.Secp256r1)
        raise KeyFormatError("neither an Ed25519 nor a secp256r1 public key")

    def _to_library(self) -> Any:
        if self._algorithm is Algorithm.Secp256r1:
            return _load_p256_point(self._data)
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        return Ed25519PublicKey.from_public_bytes(self._data)


class PrivateKey:
    """A key that signs.

    The constructor reads `ed25519-private/<64 hex>` or `secp256r1-private/<64 hex>`. `repr`, `str` and errors
    hide the secret, and pickling is refused: only `text`, `to_bytes`, `to_der` and `to_pem` give it out.
    Raises KeyFormatError (a ValueError) for anything but a usable key.
    """

    __slots__ = ("_algorithm", "_public", "_secret")

    _algorithm: Algorithm
    _secret: bytes
    _public: PublicKey

    def __init__(self, data: str) -> None:
        self._set(*_parse_text(data, "-private"))

    @classmethod
    def from_bytes(cls, data: bytes, alg: Algorithm) -> "PrivateKey":
        """Reads the 32 raw bytes: the seed for Ed25519 (RFC 8032), the big-endian scalar for secp256r1."""
        key = cls.__new__(cls)
        key._set(_algorithm(alg), bytes(data))
        return key

    @classmethod
    def generate(cls, algorithm: Algorithm = Algorithm.Ed25519) -> "PrivateKey":
        """Returns a new key from the operating system's randomness."""
        if algorithm is Algorithm.Ed25519:
            return cls.from_bytes(nacl.bindings.randombytes(32), algorithm)
        from cryptography.hazmat.primitives.asymmetric import ec

        return cls._from_library(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def from_der(cls, der: bytes) -> "PrivateKey":
        """Reads an unencrypted PKCS#8 key in DER (RFC 5958)."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_der_private_key

        try:
            return cls._from_library(load_der_private_key(der, password=None))
        except KeyFormatError:
            raise
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyFormatError("not an unencrypted private key in DER form") from error

    @classmethod
    def from_pem(cls, pem: str) -> "PrivateKey":
        """Reads an unencrypted PKCS#8 key in PEM."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            return cls._from_library(load_pem_private_key(pem.encode(), password=None))
        except KeyFormatError:
            raise
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyFormatError("not an unencrypted private key in PEM form") from error

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm of the key."""
        return self._algorithm

    @property
    def public_key(self) -> PublicKey:
        """The key that verifies what this one signs."""
        return self._public

    def text(self) -> str:
        """Returns the secret in text form, which the constructor reads."""
        return f"{self._algorithm.label}-private/{self._secret.hex()}"

    def to_bytes(self) -> bytes:
        """Returns the secret in the raw form that `from_bytes` reads."""
        return self._secret

    def to_der(self) -> bytes:
        """Returns the secret in unencrypted PKCS#8 DER."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        der: bytes = self._to_library().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        return der

    def to_pem(self) -> str:
        """Returns the secret in unencrypted PKCS#8 PEM."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        pem: bytes = self._to_library().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return pem.decode()

    def sign(self, message: bytes) -> bytes:
        """Returns the signature of `message`, always the same one (RFC 8032; RFC 6979 with the smaller s)."""
        if self._algorithm is Algorithm.Ed25519:
            return nacl.bindings.crypto_sign(message, self._secret + self._public.to_bytes())[:64]
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.hashes import SHA256

        try:
            return _low_s(self._to_library().sign(message, ec.ECDSA(SHA256(), deterministic_signing=True)))
        except UnsupportedAlgorithm as error:
            raise SignatureError("deterministic ECDSA needs OpenSSL 3.2 or later") from error

    def __repr__(self) -> str:
        return f"<PrivateKey of {self._public!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PrivateKey):
            return NotImplemented
        same = nacl.bindings.sodium_memcmp(self._secret, other._secret)
        return same and self._algorithm is other._algorithm

    def __hash__(self) -> int:
        return hash(self._public)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not pickled or copied; ask for its text() or bytes")

    def _set(self, algorithm: Algorithm, secret: bytes) -> None:
        if len(secret) != 32:
            raise KeyFormatError(f"a private key has 32 bytes, not {len(secret)}")
        self._algorithm = algorithm
        self._secret = secret
        if algorithm is Algorithm.Ed25519:
            public, _ = nacl.bindings.crypto_sign_seed_keypair(secret)
            self._public = PublicKey.from_wire(algorithm, public)
        elif 0 < int.from_bytes(secret, "big") < _P256_ORDER:
            self._public = PublicKey._from_library(self._to_library().public_key())
        else:
            raise KeyFormatError("a secp256r1 private key lies between 1 and the group's order")

    @classmethod
    def _from_library(cls, key: object) -> "PrivateKey":
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519

        if isinstance(key, ed25519.Ed25519PrivateKey):
            return cls.from_bytes(key.private_bytes_raw(), Algorithm.Ed25519)
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
            scalar = key.private_numbers().private_value.to_bytes(32, "big")
            return cls.from_bytes(scalar, Algorithm.Secp256r1)
        raise KeyFormatError("neither an Ed25519 nor a secp256r1 private key")

    def _to_library(self) -> Any:
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519

        if self._algorithm is Algorithm.Ed25519:
            return ed25519.Ed25519PrivateKey.from_private_bytes(self._secret)
        return ec.derive_private_key(int.from_bytes(self._secret, "big"), ec.SECP256R1())


class KeyPair:
    """A new private key and its public key; `KeyPair.from_private_key` for an existing one."""

    __slots__ = ("_private",)

    def __init__(self, algorithm: Algorithm = Algorithm.Ed25519) -> None:
        self._private = PrivateKey.generate(_algorithm(algorithm))

    @classmethod
    def from_private_key(cls, private_key: PrivateKey) -> "KeyPair":
        """Returns the pair of `private_key`."""
        pair = cls.__new__(cls)
        pair._private = private_key
        return pair

    @property
    def private_key(self) -> PrivateKey:
        """The key that signs."""
        return self._private

    @property
    def public_key(self) -> PublicKey:
        """The key that verifies."""
        return self._private.public_key

    def __repr__(self) -> str:
        return f"<KeyPair of {self.public_key!r}>"


def _algorithm(number: int) -> Algorithm:
    try:
        return Algorithm(number)
    except ValueError as error:
        raise KeyFormatError(f"unknown signature algorithm {number}") from error


def _parse_text(text: str, suffix: str) -> tuple[Algorithm, bytes]:
    if not isinstance(text, str):
        raise TypeError(f"a key's text is a str, not {type(text).__name__}")
    label, slash, digits = text.partition("/")
    for algorithm in Algorithm:
        if slash and label == algorithm.label + suffix:
            # bytes.fromhex alone would allow white space between the digits
            if not digits.isalnum():
                break
            try:
                return algorithm, bytes.fromhex(digits)
            except ValueError:
                break
    forms = " or ".join(f"{algorithm.label}{suffix}/<hex>" for algorithm in Algorithm)
    # INVARIANT: what was given is not quoted, it may be most of a private key
    raise KeyFormatError(f"a key's text is {forms}")


def _is_odd_point(encoded: bytes) -> bool:
    """Whether an Ed25519 point is of small order or not canonical; x = 0 with a sign bit is both."""
    y = int.from_bytes(encoded, "little") & _Y_MASK
    return y >= _FIELD or y in _SMALL_ORDER_Y


def _verify_ed25519(key: bytes, message: bytes, signature: bytes) -> None:
    if len(signature) != 64:
        raise SignatureError(f"an Ed25519 signature has 64 bytes, not {len(signature)}")
    if int.from_bytes(signature[32:], "little") >= _GROUP_ORDER or _is_odd_point(signature[:32]):
        raise SignatureError("the Ed25519 signature is not canonical, or its point is of small order")
    try:
        nacl.bindings.crypto_sign_open(signature + message, key)
    except BadSignatureError as error:
        raise SignatureError("the signature does not verify") from error


def _verify_p256(key: bytes, message: bytes, signature: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.hashes import SHA256

    _decode_der(signature)
    try:
        _load_p256_point(key).verify(signature, message, ec.ECDSA(SHA256()))
    except InvalidSignature as error:
        raise SignatureError("the signature does not verify") from error


@lru_cache(maxsize=256)
def _load_p256_point(data: bytes) -> "ec.EllipticCurvePublicKey":
    from cryptography.hazmat.primitives.asymmetric import ec

    if len(data) != 33 or data[0] not in (2, 3):
        raise KeyFormatError("a secp256r1 public key is a compressed SEC1 point of 33 bytes")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)
    except ValueError as error:
        raise KeyFormatError("the secp256r1 public key is not a point of the curve") from error


def _decode_der(signature: bytes) -> tuple[int, int]:
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

    try:
        r, s = decode_dss_signature(signature)
    except ValueError as error:
        raise SignatureError("the ECDSA signature is not DER") from error
    in_range = 0 < r < _P256_ORDER and 0 < s < _P256_ORDER
    if not in_range or encode_dss_signature(r, s) != signature:
        raise SignatureError("the ECDSA signature is not strict DER, or out of range")
    return r, s


def _low_s(signature: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    r, s = _decode_der(signature)
    return encode_dss_signature(r, min(s, _P256_ORDER - s))
