"""Signature keys: Ed25519 and secp256r1 (P-256), in text, raw, PEM and DER form.

The only package that imports `nacl` and `cryptography`. The modules that need the latter, `p256` and `forms`,
are loaded when such an operation is asked for: a command that needs Ed25519 alone must not wait for them.

Reading is strict, whatever the libraries accept: no Ed25519 key or signature point that is not canonical or
is of small order (for such a key, signatures exist that fit any message), no `S` from the group order up (it
would be a second signature of the same message), P-256 points in compressed form only, ECDSA signatures in
strict DER. An ECDSA signature (r, s) has a twin (r, n - s) that verifies as well and that other engines
write, so both are accepted, and `PublicKey.canonical_signature` names the two by one form.
"""

from capability.keys.private import KeyPair, PrivateKey, Signer
from capability.keys.public import Algorithm, PublicKey

__all__ = ["Algorithm", "KeyPair", "PrivateKey", "PublicKey", "Signer"]
