"""Authorization: checks, policies, origins, trust, order and determinism."""

from collections.abc import Iterator

from spec.generate.datalog import (
    ADD,
    ANY,
    CONTAINS,
    DIV,
    EQ,
    GE,
    GT,
    LE,
    STRICT_EQ,
    TRY_OR,
    Check,
    Closure,
    Date,
    Set,
    Statement,
    Tokens,
    Var,
    check,
    lazy,
    p,
    q,
    rule,
)
from spec.generate.signing import Chain, chain, ed25519, p256
from spec.generate.vectors import Vector, token_vector

A, B, C, X, Y, Z, T = (Var(name) for name in ("a", "b", "c", "x", "y", "z", "t"))
ALICE = ed25519("alice")
BOB = p256("bob")
ERROR = (1, 0, DIV, 0, STRICT_EQ)
CHECK_ALL = 1
REJECT = 2


def first_party(*blocks: tuple[Statement, ...], version: int = 3) -> Chain:
    """Returns the chain of first-party blocks that share one set of tables."""
    tokens = Tokens()
    return chain(*(tokens.block(*statements, version=version) for statements in blocks))


def checks() -> Iterator[Vector]:
    """Yields the forms of a check."""
    yield token_vector(
        "check-if-one-match-suffices",
        "A check holds when any binding satisfies its expressions.",
        first_party((p("n", 1), p("n", 2), check(p("n", X), (X, 2, STRICT_EQ)))),
        sources=["n(1);\nn(2);\ncheck if n($x), $x === 2;\n"],
    )
    yield token_vector(
        "check-if-no-match",
        "A check without a fact that fits its predicate fails.",
        first_party((check(p("n", X)),)),
        "denied",
        policy=0,
        failed=[(0, 0)],
    )
    yield token_vector(
        "check-or-branches",
        "A check of several queries holds when one of them has a match.",
        first_party((p("n", 2), Check((q(p("m", X)), q(p("n", X)))))),
        sources=["n(2);\ncheck if m($x) or n($x);\n"],
    )
    yield token_vector(
        "check-or-stops-at-first-match",
        "A branch after the one that matches is not run, so its failure is not met.",
        first_party((Check((q((True,)), q(ERROR))),)),
    )
    yield token_vector(
        "check-or-failure-before-match",
        "A branch that fails is met when it stands before the one that would match.",
        first_party((Check((q(ERROR), q((True,)))),)),
        "execution.division_by_zero",
    )
    yield token_vector(
        "check-all-every-match",
        "`check all` holds when every binding satisfies the expressions.",
        first_party((p("n", 1), p("n", 2), check(p("n", X), (X, 0, GT), kind=CHECK_ALL)), version=4),
        sources=["n(1);\nn(2);\ncheck all n($x), $x > 0;\n"],
    )
    yield token_vector(
        "check-all-one-match-fails",
        "`check all` fails when one of several bindings does not satisfy the expressions.",
        first_party((p("n", 1), p("n", 2), check(p("n", X), (X, 1, GT), kind=CHECK_ALL)), version=4),
        "denied",
        policy=0,
        failed=[(0, 0)],
    )
    yield token_vector(
        "check-all-no-match",
        "`check all` fails when its predicates match nothing at all.",
        first_party((check(p("n", X), (X, 0, GT), kind=CHECK_ALL),), version=4),
        "denied",
        policy=0,
        failed=[(0, 0)],
    )
    yield token_vector(
        "reject-if-no-match",
        "`reject if` holds when its query has no match.",
        first_party((check(p("blocked", X), kind=REJECT),), version=6),
        sources=["reject if blocked($x);\n"],
    )
    yield token_vector(
        "reject-if-match",
        "`reject if` fails when its query has a match.",
        first_party((p("blocked", 1), check(p("blocked", X), kind=REJECT)), version=6),
        "denied",
        policy=0,
        failed=[(0, 0)],
    )
    yield token_vector(
        "reject-if-second-query-matches",
        "`reject if` fails when any of its queries matches, not the first alone.",
        first_party((p("blocked", 1), Check((q(p("other", X)), q(p("blocked", X))), REJECT)), version=6),
        "denied",
        policy=0,
        failed=[(0, 0)],
        peer="differs: reject-if-alternatives",
    )
    yield token_vector(
        "check-several-expressions",
        "All expressions of a query must be true.",
        first_party((check((True,), (False,)),)),
        "denied",
        policy=0,
        failed=[(0, 0)],
        sources=["check if true, false;\n"],
    )
    yield token_vector(
        "expressions-stop-at-first-false",
        "An expression after a false one is not run.",
        first_party((check((False,), ERROR),)),
        "denied",
        policy=0,
        failed=[(0, 0)],
    )
    yield token_vector(
        "repeated-variable-joins",
        "A variable that stands twice takes one value.",
        first_party((p("edge", 1, 2), p("edge", 3, 3), check(p("edge", X, X), (X, 3, STRICT_EQ)))),
    )
    yield token_vector(
        "types-never-meet-in-a-join",
        "An integer, a boolean and a date of the same number are three different terms.",
        first_party((p("n", 1), p("b", True), p("d", Date(1)), check(p("n", X), p("b", X)))),
        "denied",
        policy=0,
        failed=[(0, 0)],
    )
    yield token_vector(
        "constant-of-another-type-does-not-match",
        "The constant true in a predicate does not match the fact that holds 1.",
        first_party((p("n", 1), check(p("n", True)))),
        "denied",
        policy=0,
        failed=[(0, 0)],
    )
    yield token_vector(
        "arity-is-part-of-the-name",
        "A predicate with two terms does not match a fact with one.",
        first_party((p("n", 1), check(p("n", X, Y)))),
        "denied",
        policy=0,
        failed=[(0, 0)],
    )
    yield token_vector(
        "set-order-on-the-wire-is-irrelevant",
        "A set that was written in another order, with a member twice, is the same term.",
        first_party((p("s", Set([3, 1, 2, 1])), check(p("s", Set([1, 2, 3]))))),
        sources=["s({1, 2, 3});\ncheck if s({1, 2, 3});\n"],
    )
    yield token_vector(
        "failed-checks-of-all-blocks",
        "Every failed check is reported, the authorizer's included, with the policy that matched.",
        first_party((check((False,)), check((True,))), (check((True,)), check((False,)))),
        "denied",
        authorizer="check if missing(1); allow if true;",
        policy=0,
        failed=[(None, 0), (0, 0), (1, 1)],
    )


def policies() -> Iterator[Vector]:
    """Yields what policies decide."""
    plain = first_party((p("right", "orders", "read"),))
    yield token_vector(
        "first-matching-policy-wins",
        "The first policy that matches decides; those after it are not looked at.",
        plain,
        authorizer='deny if right("orders", "write"); allow if right("orders", "read"); deny if true;',
        policy=1,
    )
    yield token_vector(
        "deny-policy", "A deny policy that matches first denies.", plain, "denied",
        authorizer='deny if right("orders", "read"); allow if true;', policy=0,
    )  # fmt: skip
    yield token_vector(
        "no-policy-matches", "Without a matching policy the answer is no.", plain, "denied",
        authorizer="allow if false;",
    )  # fmt: skip
    yield token_vector(
        "no-policy-at-all", "An authorizer without policies allows nothing.", plain, "denied", authorizer="",
    )  # fmt: skip
    yield token_vector(
        "policy-or-branches", "A policy of several queries matches when one of them does.", plain,
        authorizer='allow if missing(1) or right("orders", $op);',
    )  # fmt: skip
    yield token_vector(
        "policy-stops-at-first-match", "A policy after the matching one is not run.", plain,
        authorizer="allow if true; deny if 1 / 0 === 0;",
    )  # fmt: skip
    yield token_vector(
        "policy-that-fails", "A policy that fails is an execution error, whatever the next would say.", plain,
        "execution.division_by_zero", authorizer="deny if 1 / 0 === 0; allow if true;",
    )  # fmt: skip
    yield token_vector(
        "failure-in-a-later-check-beats-deny",
        "A check that fails to run outranks a deny policy, even from a later block.",
        first_party((p("n", 1),), (check(ERROR),)),
        "execution.division_by_zero",
        authorizer="deny if true;",
    )
    yield token_vector(
        "failure-beats-match",
        "Where one binding fails and another matches, the outcome is the failure, always.",
        first_party((p("n", 0), p("n", 1), check(p("n", X), (1, X, DIV, 1, STRICT_EQ)))),
        "execution.division_by_zero",
        peer="differs: error-beats-match",
    )
    yield token_vector(
        "failure-in-a-rule",
        "A rule that fails to run is an execution error although nothing uses what it derives.",
        first_party((p("n", 0), rule(p("m", X), p("n", X), (1, X, DIV, 1, STRICT_EQ)))),
        "execution.division_by_zero",
    )
    yield token_vector(
        "unbound-variable-in-a-check",
        "A variable that no predicate binds loads from the wire and fails when the check runs.",
        first_party((check((X, 1, STRICT_EQ)),)),
        "execution.unknown_variable",
        sources=["check if $x === 1;\n"],
        reparses=False,
    )
    yield token_vector(
        "unbound-variable-in-a-rule-head",
        "A rule whose head has a variable that its body does not bind loads, and cannot be authorized.",
        first_party((p("n", 0), rule(p("m", Y), p("n", X)))),
        "language.block",
        sources=["n(0);\nm($y) <- n($x);\n"],
        reparses=False,
    )
    yield token_vector(
        "fact-with-a-variable",
        "A fact that holds a variable loads and matches nothing.",
        first_party((p("n", X), check(p("n", 1)))),
        "denied",
        policy=0,
        failed=[(0, 0)],
        reparses=False,
    )


def rules() -> Iterator[Vector]:
    """Yields what rules derive."""
    edges = [p("edge", n, n + 1) for n in range(5)]
    closure = [
        rule(p("path", X, Y), p("edge", X, Y)),
        rule(p("path", X, Z), p("path", X, Y), p("edge", Y, Z)),
    ]
    yield token_vector(
        "transitive-closure", "A recursive rule runs to its fixpoint.",
        first_party((*edges, *closure)),
        authorizer="allow if path(0, 5);",
    )  # fmt: skip
    yield token_vector(
        "transitive-closure-rules-in-another-order", "The order of facts and rules does not matter.",
        first_party((*reversed(closure), *reversed(edges))),
        authorizer="allow if path(0, 5);",
    )  # fmt: skip
    yield token_vector(
        "cyclic-rules-end", "Rules that derive each other's facts reach a fixpoint.",
        first_party((p("a", 1), rule(p("b", X), p("a", X)), rule(p("a", X), p("b", X)))),
        authorizer="allow if b(1);",
    )  # fmt: skip
    yield token_vector(
        "rule-with-expression", "A rule derives only from the bindings that satisfy its expressions.",
        first_party((p("n", 1), p("n", 5), rule(p("big", X), p("n", X), (X, 3, GT)), check(p("big", 1)))),
        "denied", policy=0, failed=[(0, 0)],
        sources=["n(1);\nn(5);\nbig($x) <- n($x), $x > 3;\ncheck if big(1);\n"],
    )  # fmt: skip
    yield token_vector(
        "rule-of-the-authorizer", "A rule of the authorizer sees the authority's facts.",
        first_party((p("right", "orders", "read"),)),
        authorizer='can($op) <- right("orders", $op); allow if can("read");',
    )  # fmt: skip
    yield token_vector(
        "any-over-a-fact", "A closure sees the variables of its query.",
        first_party((p("list", [1, 2]), p("n", 2),
                     check(p("list", A), p("n", B), (A, Closure(("c",), (C, B, EQ)), ANY))), version=6),
        sources=["list([1, 2]);\nn(2);\ncheck if list($a), n($b), $a.any($c -> $c == $b);\n"],
    )  # fmt: skip
    yield token_vector(
        "date-window", "A check on the ambient time holds inside its window.",
        first_party((check(p("time", T), (T, Date(1_700_000_000), GE), (T, Date(1_800_000_000), LE)),)),
        authorizer="time(2025-01-01T00:00:00Z); allow if true;",
        sources=["check if time($t), $t >= 2023-11-14T22:13:20Z, $t <= 2027-01-15T08:00:00Z;\n"],
    )  # fmt: skip
    yield token_vector(
        "expired", "A check on the ambient time fails after its last second.",
        first_party((), (check(p("time", T), (T, Date(1_700_000_000), LE), kind=CHECK_ALL),), version=4),
        "expired", authorizer="time(2023-11-14T22:13:21Z); allow if true;", policy=0, failed=[(1, 0)],
    )  # fmt: skip
    yield token_vector(
        "authority-states-the-operation", "The authority may state ambient facts itself.",
        first_party((p("operation", "read"), check(p("operation", "read")))),
    )  # fmt: skip


def limits() -> Iterator[Vector]:
    """Yields evaluations that stop at a limit: neither allowed nor denied."""
    numbers = [p("n", value) for value in range(12)]
    yield token_vector(
        "fact-limit", "More facts than the limit.", first_party(tuple(numbers)), "limit.facts",
        limits={"max_facts": 10}, peer="cannot",
    )  # fmt: skip
    edges = [p("edge", value, value + 1) for value in range(12)]
    closure = [
        rule(p("path", X, Y), p("edge", X, Y)),
        rule(p("path", X, Z), p("path", X, Y), p("edge", Y, Z)),
    ]
    yield token_vector(
        "iteration-limit", "More rounds of rules than the limit.", first_party((*edges, *closure)),
        "limit.iterations", limits={"max_iterations": 5}, peer="cannot",
    )  # fmt: skip
    cross = check(*(p("n", Var(name)) for name in "abcdef"), (Var("a"), 99, STRICT_EQ))
    yield token_vector(
        "step-limit-inside-a-join", "A cross join of twelve facts six times is stopped inside the join.",
        first_party((*numbers, cross)), "limit.steps", limits={"max_steps": 5000}, peer="cannot",
    )  # fmt: skip
    yield token_vector(
        "limit-is-not-a-denial", "A limit outranks a check that failed before it and a deny policy.",
        first_party((check((False,)), *numbers, cross)), "limit.steps", authorizer="deny if true;",
        limits={"max_steps": 5000}, peer="cannot",
    )  # fmt: skip
    inner = lazy(Set([1]), Closure(("a",), ([2] * 200, Closure(("b",), (B, 9, EQ)), ANY)), ANY)
    yield token_vector(
        "try-or-does-not-catch-a-limit", "`try_or` recovers from failures, never from a limit.",
        first_party((check((inner, True, TRY_OR)),), version=6), "limit.steps",
        limits={"max_steps": 100}, peer="cannot",
    )  # fmt: skip
    text = "x" * 6_400
    yield token_vector(
        "long-strings-are-charged", "Concatenating long strings costs steps by their length.",
        first_party((p("s", text), check(p("s", X), (X, X, ADD, "y", CONTAINS)))), "limit.steps",
        limits={"max_steps": 90}, peer="cannot",
    )  # fmt: skip
    yield token_vector(
        "string-too-long", "A string past 64 KiB cannot be built.",
        first_party((p("s", text), check(p("s", X), (X, *(X, ADD) * 10, "y", CONTAINS)))),
        "execution.string_too_long", peer="cannot",
    )  # fmt: skip


def vectors() -> Iterator[Vector]:
    """Yields all vectors of this topic."""
    for topic in (checks, policies, rules, limits):
        yield from topic()
