"""Tokens of every kind, made by the chain alone with keys that never change."""

from capability import chain
from capability.datalog.parser import parse_block
from capability.keys import PrivateKey, PublicKey
from capability.wire.block import encode_block
from capability.wire.envelope import Envelope
from capability.wire.symbols import KeyTable, SymbolTable

ROOT, PARTY, *NEXT = (PrivateKey(f"ed25519-private/{digit * 64}") for digit in ("1", "2", "3", "4", "5", "6"))
P256 = PrivateKey(f"secp256r1-private/{'7' * 64}")
SOURCES = ['right("orders", "read");', 'check if operation("read");', "check if true; f(1);"]


class Tables:
    """Encodes the blocks of one token, one after another."""

    def __init__(self) -> None:
        self.symbols, self.keys = SymbolTable(), KeyTable()

    def encode(self, source: str) -> tuple[bytes, int]:
        encoded = encode_block(parse_block(source), None, self.symbols, self.keys)
        return encoded.payload, encoded.block.version


def first_party(
    sources: list[str], root: PrivateKey = ROOT, next_keys: list[PrivateKey] | None = None
) -> Envelope:
    tables, keys = Tables(), next_keys or NEXT
    envelope = chain.start(root, *tables.encode(sources[0]), next_key=keys[0])
    for source, key in zip(sources[1:], keys[1:], strict=False):
        envelope = chain.append(envelope, *tables.encode(source), next_key=key)
    return envelope


def external_payload(source: str) -> bytes:
    return encode_block(parse_block(source), None, SymbolTable(), KeyTable(), third_party=True).payload


def with_third_party(envelope: Envelope, party: PrivateKey = PARTY, source: str = "g(1);") -> Envelope:
    payload = external_payload(source)
    external = chain.sign_external(party, payload, envelope.blocks[-1].signature)
    return chain.append_external(envelope, payload, external, next_key=NEXT[3])


TOKEN = first_party(SOURCES)

TOKENS = {
    "one block": first_party(SOURCES[:1]),
    "three blocks": TOKEN,
    "sealed": chain.seal(TOKEN),
    "third party": with_third_party(first_party(SOURCES[:2])),
    "third party by P-256": with_third_party(first_party(SOURCES[:2]), P256),
    "sealed third party": chain.seal(with_third_party(first_party(SOURCES[:1]))),
    "version 6 first": first_party(["f(null);", *SOURCES]),
    "version 6 later": first_party([SOURCES[0], "reject if g(2);", SOURCES[2]]),
    "P-256 root": first_party(SOURCES, P256),
    "P-256 in the middle": first_party(SOURCES, ROOT, [NEXT[0], P256, NEXT[1]]),
    "P-256 at the end": first_party(SOURCES, ROOT, [NEXT[0], NEXT[1], P256]),
    "P-256 at the end, sealed": chain.seal(first_party(SOURCES, ROOT, [NEXT[0], NEXT[1], P256])),
}


def root_of(name: str) -> PublicKey:
    return (P256 if name == "P-256 root" else ROOT).public_key
