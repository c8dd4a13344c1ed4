"""Whom a block trusts: origins, scopes, third parties."""

from collections.abc import Iterator
from typing import Any

from spec.generate.authorization import first_party
from spec.generate.datalog import (
    AUTHORITY,
    PREVIOUS,
    Statement,
    Tokens,
    Var,
    block,
    check,
    p,
    rule,
)
from spec.generate.signing import Chain, Part, Signer, chain, ed25519, key_text, p256
from spec.generate.vectors import Vector, token_vector

X = Var("x")
ALICE = ed25519("alice")
BOB = p256("bob")


def with_third_party(
    before: list[tuple[Statement, ...]],
    signer: Signer,
    external: tuple[Statement, ...],
    after: tuple[Statement, ...] | None = None,
    **options: Any,
) -> Chain:
    """Returns a chain in which `signer` signs the block `external`."""
    tokens = Tokens()
    parts: list[Part | bytes] = [tokens.block(*statements, version=4) for statements in before]
    parts.append(Part(block(*external, version=5, **options), external=signer))
    if after is not None:
        parts.append(tokens.block(*after, version=4))
    return chain(*parts)


def origins() -> Iterator[Vector]:
    """Yields who sees which fact."""
    yield token_vector(
        "authority-check-does-not-see-a-later-block",
        "A fact that the holder adds does not satisfy a check of the authority.",
        first_party((check(p("user", "admin")),), (p("user", "admin"),)),
        "denied", policy=0, failed=[(0, 0)],
    )  # fmt: skip
    yield token_vector(
        "authorizer-does-not-see-a-later-block",
        "A fact that the holder adds does not make a policy match.",
        first_party((p("n", 1),), (p("right", "orders", "write"),)),
        "denied", authorizer='allow if right("orders", "write");',
    )  # fmt: skip
    yield token_vector(
        "block-sees-its-own-facts", "A block's check sees the block's own facts.",
        first_party((p("n", 1),), (p("m", 1), check(p("m", 1)))),
    )  # fmt: skip
    yield token_vector(
        "block-sees-the-authority", "A block's check sees the authority's facts.",
        first_party((p("n", 1),), (check(p("n", 1)),)),
    )  # fmt: skip
    yield token_vector(
        "block-does-not-see-its-sibling", "By default a block does not see the facts of the block before it.",
        first_party((p("n", 1),), (p("m", 1),), (check(p("m", 1)),)),
        "denied", policy=0, failed=[(2, 0)],
    )  # fmt: skip
    yield token_vector(
        "trusting-previous", "With `trusting previous` a block sees all blocks before it.",
        first_party((p("n", 1),), (p("m", 1),), (check(p("m", 1), scopes=[PREVIOUS]),), version=4),
        sources=["n(1);\n", "m(1);\n", "check if m(1) trusting previous;\n"],
    )  # fmt: skip
    yield token_vector(
        "trusting-previous-is-not-later", "`trusting previous` does not reach a later block.",
        first_party((p("n", 1),), (check(p("m", 1), scopes=[PREVIOUS]),), (p("m", 1),), version=4),
        "denied", policy=0, failed=[(1, 0)],
    )  # fmt: skip
    yield token_vector(
        "trusting-authority-drops-nothing-of-its-own",
        "Own block and authorizer stay trusted, whatever the clause names.",
        first_party((p("n", 1),), (p("m", 1), check(p("m", 1), p("n", 1), scopes=[AUTHORITY])), version=4),
    )  # fmt: skip
    yield token_vector(
        "trusting-previous-in-the-authorizer",
        "In the authorizer `trusting previous` trusts the authorizer alone.",
        first_party((p("n", 1),)),
        "denied", authorizer="allow if n(1) trusting previous;",
    )  # fmt: skip
    tokens = Tokens()
    yield token_vector(
        "block-level-trusting", "A clause at the head of a block holds for all its checks.",
        chain(
            tokens.block(p("n", 1)),
            tokens.block(p("m", 1)),
            tokens.block(check(p("m", 1)), version=4, scopes=[PREVIOUS]),
        ),
        sources=["n(1);\n", "m(1);\n", "trusting previous;\ncheck if m(1);\n"],
        peer_prints=False,
    )  # fmt: skip
    tokens = Tokens()
    yield token_vector(
        "own-clause-wins-over-the-block's", "A query's own clause replaces the clause of its block.",
        chain(
            tokens.block(p("n", 1)),
            tokens.block(p("m", 1)),
            tokens.block(check(p("m", 1), scopes=[AUTHORITY]), version=4, scopes=[PREVIOUS]),
        ),
        "denied", policy=0, failed=[(2, 0)],
    )  # fmt: skip
    yield token_vector(
        "derived-fact-carries-the-rule's-block",
        "What a later block's rule derives from the authority's facts is not the authority's.",
        first_party((p("n", 1), check(p("right", 1))), (rule(p("right", X), p("n", X)),)),
        "denied", policy=0, failed=[(0, 0)],
    )  # fmt: skip
    yield token_vector(
        "stating-a-fact-first-hides-nothing",
        "A holder's block that states a fact does not take the authority's own derivation of it away.",
        first_party((p("n", 1), rule(p("right", X), p("n", X))), (p("right", 1),)),
        authorizer="allow if right(1);",
    )  # fmt: skip
    yield token_vector(
        "trust-is-by-subset",
        "A fact derived from a trusted and an untrusted block is not visible.",
        first_party((p("n", 1),), (p("m", 1), rule(p("both", X), p("n", X), p("m", X)))),
        "denied", authorizer="allow if both(1);",
    )  # fmt: skip
    yield token_vector(
        "authority-check-uses-authorizer-facts", "A check of the authority sees the authorizer's facts.",
        first_party((check(p("operation", "read")),)),
        authorizer='operation("read"); allow if true;',
    )  # fmt: skip


def third_parties() -> Iterator[Vector]:
    """Yields what trusting a public key means."""
    alice, bob = key_text(ALICE.public), key_text(BOB.public)
    yield token_vector(
        "trusting-a-key", "A check that trusts a public key sees the block which that key signed.",
        with_third_party([(check(p("member", 1), scopes=[ALICE.public]),)], ALICE, (p("member", 1),)),
        sources=[f"check if member(1) trusting {alice};\n", "member(1);\n"],
        external_keys=[None, alice],
    )  # fmt: skip
    yield token_vector(
        "trusting-a-p256-key", "A third party may sign with P-256.",
        with_third_party([(check(p("member", 1), scopes=[BOB.public]),)], BOB, (p("member", 1),)),
        external_keys=[None, bob],
    )  # fmt: skip
    yield token_vector(
        "trusting-another-key", "A block signed by one key does not satisfy a check that trusts another.",
        with_third_party([(check(p("member", 1), scopes=[BOB.public]),)], ALICE, (p("member", 1),)),
        "denied", policy=0, failed=[(0, 0)],
    )  # fmt: skip
    yield token_vector(
        "trusting-a-key-drops-the-authority",
        "A clause that names a key alone does not trust the authority any more.",
        with_third_party([(p("n", 1),), (check(p("n", 1), p("member", 1), scopes=[ALICE.public]),)],
                         ALICE, (p("member", 1),)),
        "denied", policy=0, failed=[(1, 0)],
    )  # fmt: skip
    yield token_vector(
        "trusting-a-key-and-the-authority", "A clause may name several.",
        with_third_party([(p("n", 1),),
                          (check(p("n", 1), p("member", 1), scopes=[AUTHORITY, ALICE.public]),)],
                         ALICE, (p("member", 1),)),
        sources=["n(1);\n", f"check if n(1), member(1) trusting authority, {alice};\n", "member(1);\n"],
    )  # fmt: skip
    yield token_vector(
        "authorizer-trusts-a-key", "A policy may trust a third party's key.",
        with_third_party([(p("n", 1),)], ALICE, (p("member", 1),)),
        authorizer=f"allow if member(1) trusting {alice};",
    )  # fmt: skip
    yield token_vector(
        "third-party-facts-need-trust", "Facts of a third party are as invisible as any block's.",
        with_third_party([(p("n", 1),)], ALICE, (p("member", 1),)),
        "denied", authorizer="allow if member(1);",
    )  # fmt: skip
    yield token_vector(
        "third-party-checks-count", "A check in a third-party block is a check like any other.",
        with_third_party([(p("n", 1),)], ALICE, (check(p("absent", 1)),)),
        "denied", policy=0, failed=[(1, 0)],
    )  # fmt: skip
    yield token_vector(
        "third-party-symbols-are-its-own",
        "A block after a third party's goes on with the first-party symbols.",
        with_third_party([(p("alpha", 1),)], ALICE, (p("beta", 1), p("gamma", 1)), (check(p("alpha", 1)),)),
        sources=["alpha(1);\n", "beta(1);\ngamma(1);\n", "check if alpha(1);\n"],
    )  # fmt: skip
    yield token_vector(
        "third-party-keys-are-its-own",
        "The key index in a third-party block counts in that block's own table.",
        with_third_party(
            [(check((True,), scopes=[BOB.public]),)], ALICE,
            (check(p("member", 1), scopes=[ALICE.public]), p("member", 1)),
        ),
        sources=[f"check if true trusting {bob};\n", f"member(1);\ncheck if member(1) trusting {alice};\n"],
    )  # fmt: skip
    yield token_vector(
        "key-scope-reaches-later-blocks",
        "A key stands for every block that it signed, those after the check too.",
        with_third_party([(), (check(p("member", 1), scopes=[ALICE.public]),)], ALICE, (p("member", 1),)),
    )  # fmt: skip


def vectors() -> Iterator[Vector]:
    """Yields all vectors of this topic."""
    for topic in (origins, third_parties):
        yield from topic()
