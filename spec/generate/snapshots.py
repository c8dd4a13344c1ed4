"""Snapshots of authorizers, and of authorizer builders."""

import base64
from collections.abc import Iterator
from typing import Any

from spec.generate.datalog import STRICT_EQ, Check, Rule, Statement, Tables, Var, check, p, q, rule, sections
from spec.generate.protobuf import Field, message
from spec.generate.signing import ed25519
from spec.generate.vectors import AGREES, Vector

X = Var("x")
ALICE = ed25519("alice")
LIMITS = message((1, 1000), (2, 100), (3, 1_000_000))
AUTHORIZER = message((1, b""))


def origin(block: int) -> bytes:
    """Returns the origin of a block."""
    return message((2, block))


def snapshot_block(
    tables: Tables, *statements: Statement, version: int = 3, external: bytes | None = None
) -> bytes:
    """Returns a block of a snapshot; its symbols and keys are the world's."""
    fields: list[Field] = [(2, version), *sections(tables, statements, 3)]
    if external is not None:
        fields.append((7, external))
    return message(*fields)


def policy(tables: Tables, kind: int, query: Rule) -> bytes:
    """Returns a policy: kind 0 allows, 1 denies."""
    return message((1, tables.rule(query)), (2, kind))


def snapshot(
    tables: Tables,
    authorizer: bytes,
    policies: list[bytes],
    blocks: list[bytes] | None = None,
    generated: list[bytes] | None = None,
    version: int = 6,
    execution_time: int = 0,
    limits: bytes = LIMITS,
) -> bytes:
    """Returns a snapshot."""
    fields: list[Field] = [(1, version)]
    fields += [(2, symbol.encode()) for symbol in tables.symbols]
    fields += [(3, key.message()) for key in tables.keys]
    fields += [(4, block) for block in blocks or []]
    fields.append((5, authorizer))
    fields += [(6, entry) for entry in policies]
    fields += [(7, facts) for facts in generated or []]
    fields.append((8, 0))
    return message((1, limits), (2, execution_time), (3, message(*fields)))


def generated(tables: Tables, origins: list[bytes], *facts: Any) -> bytes:
    """Returns facts with their origin."""
    return message(
        *((1, entry) for entry in origins), *((2, message((1, tables.predicate(fact)))) for fact in facts)
    )


def vector(
    name: str,
    about: str,
    data: bytes,
    expect: str,
    *,
    builder: bool = False,
    peer: str | None = None,
    **more: Any,
) -> Vector:
    """Returns the vector of a snapshot that is loaded and then asked."""
    encoded = base64.urlsafe_b64encode(data).decode()
    out: Vector = {"name": name, "about": about, "kind": "snapshot", "snapshot": encoded, "builder": builder}
    out["expect"] = expect
    out.update(more)
    if peer is not None:
        out["peer"] = peer
    return out


def loaded() -> Iterator[Vector]:
    """Yields snapshots that load."""
    tables = Tables([], [])
    own = snapshot_block(tables, p("operation", "read"), check(p("right", "read")))
    authority = snapshot_block(tables, p("right", "read"))
    policies = [policy(tables, 0, q(p("right", X), p("operation", X)))]
    facts = [
        generated(tables, [AUTHORIZER], p("operation", "read")),
        generated(tables, [origin(0)], p("right", "read")),
    ]
    yield vector(
        "authorizer",
        "A token's block, the authorizer's, and a policy.",
        snapshot(tables, own, policies, [authority], facts),
        "allowed",
        policy=0,
        peer=AGREES,
    )
    tables = Tables([], [])
    own = snapshot_block(tables, p("right", "read"), check(p("operation", "read")))
    yield vector("builder", "A builder's snapshot has no blocks; without the operation its check fails.",
                 snapshot(tables, own, [policy(tables, 0, q((True,)))]), "denied", builder=True, policy=0,
                 failed=[[None, 0]], printed='right("read");\ncheck if operation("read");\nallow if true;\n',
                 peer=AGREES)  # fmt: skip
    tables = Tables([], [])
    own = snapshot_block(tables)
    policies = [policy(tables, 1, q(p("right", "write"))), policy(tables, 0, q((True,)))]
    authority = snapshot_block(tables, p("right", "read"), rule(p("right", "write"), p("right", "read")))
    facts = [generated(tables, [origin(0)], p("right", "read"))]
    yield vector("rules-run-again", "The rules run again, although the snapshot says that they have run.",
                 snapshot(tables, own, policies, [authority], facts, execution_time=5000), "denied", policy=0,
                 failed=[])  # fmt: skip
    tables = Tables([], [])
    authority = snapshot_block(tables, check(p("member", 1), scopes=[ALICE.public]), version=4)
    third = snapshot_block(tables, p("member", 1), version=5, external=ALICE.public.message())
    own, policies = snapshot_block(tables), [policy(tables, 0, q((True,)))]
    yield vector("third-party-block", "A block keeps the key of the third party that signed it.",
                 snapshot(tables, own, policies, [authority, third],
                          [generated(tables, [origin(1)], p("member", 1))]), "allowed", policy=0)  # fmt: skip
    tables = Tables([], [])
    own, policies = snapshot_block(tables), [policy(tables, 0, q(p("derived", 1)))]
    blocks = [snapshot_block(tables, p("n", 1)), snapshot_block(tables)]
    facts = [generated(tables, [origin(0), origin(1)], p("derived", 1))]
    yield vector(
        "generated-facts-keep-their-origin",
        "A fact that depends on an untrusted block stays invisible.",
        snapshot(tables, own, policies, blocks, facts),
        "denied",
        failed=[],
        peer=AGREES,
    )
    tables = Tables([], [])
    own = snapshot_block(tables, Check((q((1, 1, STRICT_EQ)),)))
    yield vector("deadline-is-not-enforced", "The deadline in a snapshot is kept and not enforced.",
                 snapshot(tables, own, [policy(tables, 0, q((True,)))],
                          limits=message((1, 1000), (2, 100), (3, 0))), "allowed", policy=0)  # fmt: skip


def refused() -> Iterator[Vector]:
    """Yields snapshots that do not load."""
    tables = Tables([], [])
    own, allow = snapshot_block(tables), [policy(tables, 0, q((True,)))]
    fact = p("right", "read")
    cases: list[tuple[str, str, bytes, str]] = [
        ("version-unknown", "A version that nobody has defined.", snapshot(tables, own, allow, version=7),
         "format.version"),
        ("version-old", "A version before the first that is read.", snapshot(tables, own, allow, version=2),
         "format.version"),
        ("truncated", "The last byte is missing.", snapshot(tables, own, allow)[:-1], "format.wire"),
        ("no-bytes", "A message without fields.", b"", "format.missing"),
        ("facts-without-origin", "A fact of no origin would be trusted by everyone.",
         snapshot(tables, own, allow, [own], [generated(tables, [], fact)]), "format.snapshot"),
        ("origin-not-there", "Facts of a block that is not there.",
         snapshot(tables, own, allow, [own], [generated(tables, [origin(1)], fact)]), "format.snapshot"),
        ("origin-empty", "An origin without content.",
         snapshot(tables, own, allow, [own], [generated(tables, [b""], fact)]), "format.snapshot"),
        ("authority-of-a-third-party", "An authority block with an external key.",
         snapshot(tables, own, allow, [snapshot_block(tables, version=5, external=ALICE.public.message())]),
         "format.snapshot"),
        ("policy-kind-unknown", "A policy that neither allows nor denies.",
         snapshot(tables, own, [policy(tables, 2, q((True,)))]), "format.kind"),
    ]  # fmt: skip
    for name, about, data, expect in cases:
        yield vector(f"snapshot-{name}", about, data, expect)


def vectors() -> Iterator[Vector]:
    """Yields all vectors of this topic."""
    yield from loaded()
    yield from refused()
