"""The form of a vector: one scenario as plain JSON values."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from spec.generate.signing import ROOT, Chain, Signer, key_text, text

Vector: TypeAlias = dict[str, Any]
FailedCheck: TypeAlias = tuple[int | None, int]

AGREES = "agrees"
CANNOT = "cannot"


def token_vector(
    name: str,
    about: str,
    token: Chain | bytes | str,
    expect: str = "allowed",
    *,
    authorizer: str = "allow if true;",
    policy: int | None = None,
    failed: Sequence[FailedCheck] = (),
    sources: Sequence[str] | None = None,
    root: Signer = ROOT,
    peer: str | None = AGREES,
    **more: Any,
) -> Vector:
    """Returns the vector of a token that is verified with `root` and then authorized.

    `policy` is the index of the policy that matches, `failed` the failed checks as (block, index), where None
    stands for the authorizer. `peer` says whether the Rust engine gives the same outcome: "agrees", "cannot"
    (it has no way to be asked) or "differs: <name in DIFFERENCES.md>"; None where it is not recorded.
    """
    vector: Vector = {"name": name, "about": about, "kind": "token", "root": key_text(root.public)}
    if isinstance(token, Chain):
        vector["token"] = text(token.open())
        vector["revocation_ids"] = [signature.hex() for signature in token.signatures]
    else:
        vector["token"] = text(token) if isinstance(token, bytes) else token
    if sources is not None:
        vector["sources"] = list(sources)
    vector["authorizer"] = authorizer
    vector["expect"] = expect
    if expect == "allowed" and policy is None:
        policy = 0
    if policy is not None:
        vector["policy"] = policy
    if expect in ("denied", "expired"):
        vector["failed"] = [list(check) for check in failed]
    vector.update(more)
    if peer is not None:
        vector["peer"] = peer
    return vector


def refused(name: str, about: str, token: bytes | str, expect: str, **more: Any) -> Vector:
    """Returns the vector of a token that must be refused before anything in it runs."""
    vector = token_vector(name, about, token, expect, peer=None, **more)
    del vector["authorizer"]
    return vector


def parse_vector(
    name: str, about: str, source: str, expect: str = "ok", *, form: str = "program", **more: Any
) -> Vector:
    """Returns the vector of a source: what it prints as, or the place of its first error."""
    return {
        "name": name,
        "about": about,
        "kind": "parse",
        "form": form,
        "source": source,
        "expect": expect,
        **more,
    }
