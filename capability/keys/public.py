"""Public keys, and what both kinds of keys share: algorithms and the text form."""

from enum import IntEnum
from typing import Final

from capability.datalog.program import KeyScope
from capability.errors import KeyFormatError
from capability.keys import ed25519


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


ALGORITHMS: Final = {algorithm.label: algorithm for algorithm in Algorithm}
_BY_NUMBER: Final = {int(algorithm): algorithm for algorithm in Algorithm}


class PublicKey:
    """A key that verifies.

    The constructor reads `ed25519/<64 hex>` or `secp256r1/<66 hex>`, the text that `repr` writes. Everything
    that reads a key raises KeyFormatError (a ValueError) for one that is not usable.
    """

    __slots__ = ("_algorithm", "_data")

    _algorithm: Algorithm
    _data: bytes

    def __init__(self, data: str) -> None:
        self._set(*parse_text(data, ""))
        self._check_on_curve()

    @classmethod
    def from_bytes(cls, data: bytes, alg: Algorithm) -> "PublicKey":
        """Reads the raw form: 32 bytes for Ed25519, a compressed SEC1 point (33 bytes) for secp256r1."""
        key = cls.from_wire(alg, bytes(memoryview(data)))
        key._check_on_curve()
        return key

    @classmethod
    def from_wire(cls, algorithm: int, data: bytes) -> "PublicKey":
        """Reads a key of a token, for Ed25519 without any arithmetic.

        That the point is on the curve is left to what the key verifies: one that is not verifies nothing.
        """
        key = cls.__new__(cls)
        key._set(parse_algorithm(algorithm), data)
        return key

    @classmethod
    def _derived(cls, algorithm: Algorithm, data: bytes) -> "PublicKey":
        """Returns the key that was computed from a private one, which is thereby sound."""
        key = cls.__new__(cls)
        key._algorithm = algorithm
        key._data = data
        return key

    @classmethod
    def from_der(cls, der: bytes) -> "PublicKey":
        """Reads a SubjectPublicKeyInfo in DER."""
        from capability.keys import forms

        label, raw = forms.read_public_der(bytes(memoryview(der)))
        return cls.from_bytes(raw, ALGORITHMS[label])

    @classmethod
    def from_pem(cls, pem: str) -> "PublicKey":
        """Reads a SubjectPublicKeyInfo in PEM."""
        from capability.keys import forms

        label, raw = forms.read_public_pem(pem)
        return cls.from_bytes(raw, ALGORITHMS[label])

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
        from capability.keys import forms

        return forms.write_public_der(self._algorithm.label, self._data)

    def to_pem(self) -> str:
        """Returns the SubjectPublicKeyInfo in PEM."""
        from capability.keys import forms

        return forms.write_public_pem(self._algorithm.label, self._data)

    def verify(self, message: bytes, signature: bytes) -> None:
        """Raises SignatureError unless `signature` is this key's for `message`, read strictly."""
        if self._algorithm is Algorithm.Ed25519:
            ed25519.verify(self._data, message, signature)
        else:
            from capability.keys import p256

            p256.verify(self._data, message, signature)

    def canonical_signature(self, signature: bytes) -> bytes:
        """Returns the one form under which a signature of this key is revoked.

        An Ed25519 signature has no other; an ECDSA one becomes the DER of r and the smaller of s, n - s.
        Raises SignatureError for an ECDSA signature that is not strict DER.
        """
        if self._algorithm is Algorithm.Ed25519:
            return signature
        from capability.keys import p256

        return p256.canonical(signature)

    def __repr__(self) -> str:
        return f"{self._algorithm.label}/{self._data.hex()}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PublicKey):
            return NotImplemented
        return self._data == other._data and self._algorithm is other._algorithm

    def __hash__(self) -> int:
        return hash((self._algorithm, self._data))

    def _set(self, algorithm: Algorithm, data: bytes) -> None:
        if algorithm is Algorithm.Ed25519:
            ed25519.check_encoding(data)
        else:
            from capability.keys import p256

            p256.load_point(data)
        self._algorithm = algorithm
        self._data = data

    def _check_on_curve(self) -> None:
        # a P-256 point cannot be loaded at all when it is not
        if self._algorithm is Algorithm.Ed25519:
            ed25519.check_on_curve(self._data)


def parse_algorithm(number: int) -> Algorithm:
    """Returns the algorithm with a number on the wire; raises KeyFormatError."""
    # with its arguments swapped, a call would show a secret in the error below
    if not isinstance(number, int):
        raise TypeError(f"an algorithm is an Algorithm, not {type(number).__name__}")
    algorithm = _BY_NUMBER.get(number)
    if algorithm is None:
        raise KeyFormatError(f"unknown signature algorithm {number}")
    return algorithm


def parse_text(text: str, suffix: str) -> tuple[Algorithm, bytes]:
    """Returns what `<label><suffix>/<hex>` says; raises KeyFormatError.

    A line end after it is allowed, since keys are read from files. What was given is not quoted in the error:
    it may be most of a private key.
    """
    if not isinstance(text, str):
        raise TypeError(f"a key's text is a str, not {type(text).__name__}")
    name, _, digits = text.removesuffix("\n").removesuffix("\r").partition("/")
    algorithm = ALGORITHMS.get(name.removesuffix(suffix))
    # bytes.fromhex alone would allow white space between the digits
    if algorithm is not None and name.endswith(suffix) and digits.isalnum():
        try:
            return algorithm, bytes.fromhex(digits)
        except ValueError:
            pass
    raise KeyFormatError(f"a key's text is {' or '.join(f'{label}{suffix}/<hex>' for label in ALGORITHMS)}")
