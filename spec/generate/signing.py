"""Keys from fixed seeds, signed payloads and serialised chains, right and wrong ones."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from nacl.signing import SigningKey

from spec.generate.datalog import Key
from spec.generate.protobuf import Field, message

ED25519 = 0
SECP256R1 = 1
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519_ORDER = 2**252 + 27742317777372353535851937790883648493


class Signer(Protocol):
    """A key pair."""

    @property
    def public(self) -> Key: ...
    @property
    def secret(self) -> bytes: ...
    def sign(self, content: bytes) -> bytes: ...


@dataclass(frozen=True)
class Ed25519:
    """An Ed25519 key pair by its seed."""

    secret: bytes

    @property
    def public(self) -> Key:
        return Key(ED25519, bytes(SigningKey(self.secret).verify_key))

    def sign(self, content: bytes) -> bytes:
        return SigningKey(self.secret).sign(content).signature


@dataclass(frozen=True)
class P256:
    """A P-256 key pair by its scalar; signatures are DER, by RFC 6979, with the smaller s."""

    secret: bytes

    def _key(self) -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(int.from_bytes(self.secret, "big"), ec.SECP256R1())

    @property
    def public(self) -> Key:
        point = self._key().public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        return Key(SECP256R1, point)

    def sign(self, content: bytes) -> bytes:
        signature = self._key().sign(content, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        return low_s(signature)


def low_s(signature: bytes) -> bytes:
    """Returns the form of an ECDSA signature that has the smaller s."""
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, min(s, P256_ORDER - s))


def twin(signature: bytes) -> bytes:
    """Returns the other signature (r, n - s) that verifies whenever `signature` does."""
    r, s = decode_dss_signature(signature)
    return encode_dss_signature(r, P256_ORDER - s)


def _seed(name: str) -> bytes:
    return hashlib.sha256(f"capability vectors: {name}".encode()).digest()


def ed25519(name: str) -> Ed25519:
    """Returns the Ed25519 key pair called `name`."""
    return Ed25519(_seed(name))


def p256(name: str) -> P256:
    """Returns the P-256 key pair called `name`."""
    scalar = int.from_bytes(_seed(name), "big") % (P256_ORDER - 1) + 1
    return P256(scalar.to_bytes(32, "big"))


def key_text(key: Key) -> str:
    """Returns the text form of a public key."""
    return f"{('ed25519', 'secp256r1')[key.algorithm]}/{key.encoded.hex()}"


ROOT = ed25519("root")


@dataclass(frozen=True)
class External:
    """An external signature and the key that it is declared under."""

    signature: bytes
    key: Key


@dataclass(frozen=True)
class Link:
    """One signed block, as the wire has it."""

    payload: bytes
    next_key: Key
    signature: bytes
    external: External | None = None
    version: int | None = None

    def message(self) -> bytes:
        fields: list[Field] = [(1, self.payload), (2, self.next_key.message()), (3, self.signature)]
        if self.external:
            fields.append((4, message((1, self.external.signature), (2, self.external.key.message()))))
        if self.version is not None:
            fields.append((5, self.version))
        return message(*fields)


def algorithm_bytes(key: Key) -> bytes:
    return key.algorithm.to_bytes(4, "little")


def block_payload(
    payload: bytes, next_key: Key, version: int, previous: bytes | None, external: bytes | None
) -> bytes:
    """Returns the bytes that a block's signature covers."""
    if version == 0:
        return payload + (external or b"") + algorithm_bytes(next_key) + next_key.encoded
    out = b"\0BLOCK\0\0VERSION\0" + version.to_bytes(4, "little")
    out += b"\0PAYLOAD\0" + payload
    out += b"\0ALGORITHM\0" + algorithm_bytes(next_key) + b"\0NEXTKEY\0" + next_key.encoded
    if previous is not None:
        out += b"\0PREVSIG\0" + previous
    if external is not None:
        out += b"\0EXTERNALSIG\0" + external
    return out


def external_payload(payload: bytes, previous: bytes) -> bytes:
    """Returns the bytes that a third party signs."""
    return (
        b"\0EXTERNAL\0\0VERSION\0"
        + (1).to_bytes(4, "little")
        + b"\0PAYLOAD\0"
        + payload
        + b"\0PREVSIG\0"
        + previous
    )


def sign_external(signer: Signer, payload: bytes, previous: bytes) -> External:
    """Returns a third party's signature of a block that follows the signature `previous`."""
    return External(signer.sign(external_payload(payload, previous)), signer.public)


def link(
    signer: Signer,
    payload: bytes,
    next_key: Key,
    *,
    version: int = 0,
    previous: bytes | None = None,
    external: External | None = None,
) -> Link:
    """Returns `payload` signed by `signer`; version 0 is left out on the wire."""
    content = block_payload(payload, next_key, version, previous, external.signature if external else None)
    return Link(payload, next_key, signer.sign(content), external, version or None)


@dataclass(frozen=True)
class Part:
    """What a block is made of; a signature version only where it is not the lowest that fits."""

    payload: bytes
    external: Signer | None = None
    version: int | None = None
    next: Signer | None = None


@dataclass(frozen=True)
class Chain:
    """A signed chain and the secret that can append to it."""

    links: tuple[Link, ...]
    last: Signer

    def open(self, root_key_id: int | None = None) -> bytes:
        """Returns the serialised open token."""
        return envelope(self.links, message((1, self.last.secret)), root_key_id)

    def sealed(self, root_key_id: int | None = None) -> bytes:
        """Returns the serialised sealed token."""
        signature = self.last.sign(seal_payload(self.links[-1]))
        return envelope(self.links, message((2, signature)), root_key_id)

    @property
    def signatures(self) -> list[bytes]:
        return [entry.signature for entry in self.links]


def seal_payload(entry: Link) -> bytes:
    """Returns the bytes that the final signature covers."""
    return entry.payload + algorithm_bytes(entry.next_key) + entry.next_key.encoded + entry.signature


def chain(*parts: Part | bytes, root: Signer = ROOT) -> Chain:
    """Returns the chain of `parts`, each signed with the lowest version that fits."""
    signer = root
    links: list[Link] = []
    for index, given in enumerate(parts):
        part = given if isinstance(given, Part) else Part(given)
        next_signer = part.next or ed25519(f"next {index}")
        previous = links[-1].signature if links else None
        external = None
        if part.external:
            assert previous is not None
            external = sign_external(part.external, part.payload, previous)
        algorithms = {signer.public.algorithm, next_signer.public.algorithm}
        version = part.version
        if version is None:
            inherited = max((entry.version or 0 for entry in links), default=0)
            version = (
                1 if external or datalog_version(part.payload) >= 6 or algorithms != {ED25519} else inherited
            )
        links.append(
            link(
                signer,
                part.payload,
                next_signer.public,
                version=version,
                previous=previous,
                external=external,
            )
        )
        signer = next_signer
    return Chain(tuple(links), signer)


def datalog_version(payload: bytes) -> int:
    """Returns the version that a block declares, 0 if none; it is skipped to, field by field."""
    position = 0

    def read() -> int:
        nonlocal position
        number = shift = 0
        while True:
            byte = payload[position]
            position += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    while position < len(payload):
        tag = read()
        if tag & 7 == 2:
            length = read()
            position += length
        else:
            number = read()
            if tag >> 3 == 3:
                return number
    return 0


def envelope(links: Sequence[Link], proof: bytes | None, root_key_id: int | None = None) -> bytes:
    """Returns the serialised token of `links`."""
    fields: list[Field] = [] if root_key_id is None else [(1, root_key_id)]
    fields.append((2, links[0].message()))
    fields += [(3, entry.message()) for entry in links[1:]]
    if proof is not None:
        fields.append((4, proof))
    return message(*fields)


def text(token: bytes) -> str:
    """Returns the text form of a token."""
    return base64.urlsafe_b64encode(token).decode()
