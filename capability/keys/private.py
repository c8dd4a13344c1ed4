"""Private keys, and whatever else can sign."""

from typing import NoReturn, Protocol

from capability.errors import KeyFormatError
from capability.keys import ed25519
from capability.keys.public import ALGORITHMS, Algorithm, PublicKey, parse_algorithm, parse_text


class Signer(Protocol):
    """Whatever can sign for a key: a PrivateKey, or a key that stays in a KMS or HSM.

    A P-256 signature is the DER form of an ECDSA signature with SHA-256.
    """

    @property
    def public_key(self) -> PublicKey:
        """The key that verifies what `sign` returns."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Returns the signature of `message`."""
        ...


class PrivateKey:
    """A key that signs.

    The constructor reads `ed25519-private/<64 hex>` or `secp256r1-private/<64 hex>`. `repr`, `str` and errors
    hide the secret, and pickling is refused: only `text`, `to_bytes`, `to_der` and `to_pem` give it out.
    Everything that reads a key raises KeyFormatError (a ValueError) for one that is not usable.
    """

    __slots__ = ("_algorithm", "_public", "_secret")

    _algorithm: Algorithm
    _secret: bytes
    _public: PublicKey

    def __init__(self, data: str) -> None:
        self._set(*parse_text(data, "-private"))

    @classmethod
    def from_bytes(cls, data: bytes, alg: Algorithm) -> "PrivateKey":
        """Reads the 32 raw bytes: the seed for Ed25519, the big-endian scalar for secp256r1."""
        key = cls.__new__(cls)
        key._set(parse_algorithm(alg), bytes(memoryview(data)))
        return key

    @classmethod
    def generate(cls, algorithm: Algorithm = Algorithm.Ed25519) -> "PrivateKey":
        """Returns a new key from the operating system's randomness."""
        if algorithm is Algorithm.Ed25519:
            return cls.from_bytes(ed25519.generate(), algorithm)
        from capability.keys import p256

        return cls.from_bytes(p256.generate(), algorithm)

    @classmethod
    def from_der(cls, der: bytes) -> "PrivateKey":
        """Reads an unencrypted PKCS#8 key in DER."""
        from capability.keys import forms

        label, raw = forms.read_private_der(bytes(memoryview(der)))
        return cls.from_bytes(raw, ALGORITHMS[label])

    @classmethod
    def from_pem(cls, pem: str) -> "PrivateKey":
        """Reads an unencrypted PKCS#8 key in PEM."""
        from capability.keys import forms

        label, raw = forms.read_private_pem(pem)
        return cls.from_bytes(raw, ALGORITHMS[label])

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm of the key."""
        return self._algorithm

    @property
    def public_key(self) -> PublicKey:
        """The key that verifies what this one signs."""
        return self._public

    def text(self) -> str:
        """Returns the secret in the text form that the constructor reads."""
        return f"{self._algorithm.label}-private/{self._secret.hex()}"

    def to_bytes(self) -> bytes:
        """Returns the secret in the raw form that `from_bytes` reads."""
        return self._secret

    def to_der(self) -> bytes:
        """Returns the secret in unencrypted PKCS#8 DER."""
        from capability.keys import forms

        return forms.write_private_der(self._algorithm.label, self._secret)

    def to_pem(self) -> str:
        """Returns the secret in unencrypted PKCS#8 PEM."""
        from capability.keys import forms

        return forms.write_private_pem(self._algorithm.label, self._secret)

    def sign(self, message: bytes) -> bytes:
        """Returns the signature of `message`, always the same one (RFC 8032; RFC 6979 with the smaller s)."""
        if self._algorithm is Algorithm.Ed25519:
            return ed25519.sign(self._secret, self._public.to_bytes(), message)
        from capability.keys import p256

        return p256.sign(self._secret, message)

    def __repr__(self) -> str:
        return f"<PrivateKey of {self._public!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PrivateKey):
            return NotImplemented
        return self._algorithm is other._algorithm and ed25519.same_secret(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self._public)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not pickled or copied; ask for its text() or bytes")

    def _set(self, algorithm: Algorithm, secret: bytes) -> None:
        if len(secret) != 32:
            raise KeyFormatError(f"a private key has 32 bytes, not {len(secret)}")
        if algorithm is Algorithm.Ed25519:
            public = ed25519.public_key(secret)
        else:
            from capability.keys import p256

            public = p256.point_bytes(p256.load_scalar(secret).public_key())
        self._algorithm = algorithm
        self._secret = secret
        self._public = PublicKey._derived(algorithm, public)


class KeyPair:
    """A new private key and its public key; `KeyPair.from_private_key` for an existing one."""

    __slots__ = ("_private",)

    def __init__(self, algorithm: Algorithm = Algorithm.Ed25519) -> None:
        self._private = PrivateKey.generate(parse_algorithm(algorithm))

    @classmethod
    def from_private_key(cls, private_key: PrivateKey) -> "KeyPair":
        """Returns the pair of `private_key`."""
        if not isinstance(private_key, PrivateKey):
            raise TypeError(f"argument 'private_key' must be a PrivateKey, not {type(private_key).__name__}")
        pair = cls.__new__(cls)
        pair._private = private_key
        return pair

    @classmethod
    def from_private_key_der(cls, der: bytes) -> "KeyPair":
        """Returns the pair of a private key in DER form; raises KeyFormatError."""
        return cls.from_private_key(PrivateKey.from_der(der))

    @classmethod
    def from_private_key_pem(cls, pem: str) -> "KeyPair":
        """Returns the pair of a private key in PEM form; raises KeyFormatError."""
        return cls.from_private_key(PrivateKey.from_pem(pem))

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
