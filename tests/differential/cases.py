"""Random cases as source text: a token of one to five blocks, an authorizer, a query.

Facts have columns of known types, and most bodies are made from facts that are really there, so that rules
join and checks hold often enough for every outcome to come up.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tests.differential.expressions import KINDS, Expressions, Kind, Scope

EXTERNAL_KEYS: Final = (
    "ed25519-private/" + "22" * 32,
    "ed25519-private/" + "33" * 32,
    "secp256r1-private/" + "44" * 32,
)
PUBLIC_KEYS: Final = (
    "ed25519/a09aa5f47a6759802ff955f8dc2d2a14a5c99d23be97f864127ff9383455a4f0",
    "ed25519/17cb79fb2b4120f2b1ec65e4198d6e08b28e813feb01e4a400839b85e18080ce",
    "secp256r1/025b36890dacbd7c9a96bb74a1ee28b3d2d75b72e09a20ef25cf8e6fd8a9f0350d",
)
"""Of EXTERNAL_KEYS; a test holds the two together."""

Columns = tuple[Kind | None, ...]

SCHEMA: Final[dict[str, Columns]] = {
    "user": (Kind.STRING,),
    "right": (Kind.STRING, Kind.STRING),
    "operation": (Kind.STRING,),
    "resource": (Kind.STRING,),
    "time": (Kind.DATE,),
    "n": (Kind.INTEGER,),
    "edge": (Kind.INTEGER, Kind.INTEGER),
    "val": (None,),
    "tag": (Kind.STRING, None),
    "list": (Kind.ARRAY,),
    "dict": (Kind.MAP,),
    "members": (Kind.STRINGS,),
    "ids": (Kind.INTEGERS,),
    "digest": (Kind.BYTES,),
    "flag": (Kind.BOOL,),
    "ns:some_1": (Kind.NULL,),
}
DERIVED: Final[dict[str, Columns]] = {
    "path": (Kind.INTEGER, Kind.INTEGER),
    "may": (Kind.STRING,),
    "seen": (None,),
    "user": (Kind.STRING,),
    "n": (Kind.INTEGER,),
    "right": (Kind.STRING, Kind.STRING),
}
PATHS: Final = ("path($x, $y) <- edge($x, $y)", "path($x, $z) <- path($x, $y), edge($y, $z)")


@dataclass(frozen=True)
class Block:
    """Statements, and which of EXTERNAL_KEYS signs them, if any."""

    statements: tuple[str, ...]
    signer: int | None = None

    @property
    def source(self) -> str:
        return "".join(f"{statement};\n" for statement in self.statements)

    @property
    def has_clause(self) -> bool:
        """Whether a `trusting` stands at its head."""
        return any(statement.startswith("trusting ") for statement in self.statements)


@dataclass(frozen=True)
class Case:
    """One random case.

    `minted_here` says which engine makes the token, `printed` that the peer reads our print of the sources.
    """

    seed: int
    blocks: tuple[Block, ...]
    authorizer: Block
    query: str
    minted_here: bool
    printed: bool
    snapshots: bool
    p256_root: bool
    parameters: tuple[tuple[str, int | str | bool | bytes], ...] = ()

    @property
    def has_third_party(self) -> bool:
        return any(block.signer is not None for block in self.blocks)

    def describe(self) -> str:
        """Returns everything that is needed to see it again."""
        engine = "capability" if self.minted_here else "biscuit_auth"
        lines = [f"seed {self.seed}: minted by {engine}, root {'secp256r1' if self.p256_root else 'ed25519'}"]
        for index, block in enumerate(self.blocks):
            by = "" if block.signer is None else f", signed by {PUBLIC_KEYS[block.signer]}"
            lines.append(f"-- block {index}{by}\n{block.source}".rstrip())
        lines.append(
            f"-- authorizer{', printed by us for the peer' if self.printed else ''}\n{self.authorizer.source}"
        )
        if self.parameters:
            lines.append(f"-- parameters {dict(self.parameters)!r}")
        lines.append(f"-- query\n{self.query}")
        return "\n".join(lines)

    def smaller(self) -> Iterator["Case"]:
        """Yields cases with one thing less."""
        for index in range(len(self.blocks) - 1, 0, -1):
            yield replace(self, blocks=self.blocks[:index] + self.blocks[index + 1 :])
        for index, block in enumerate(self.blocks):
            for less in _without_one(block):
                yield replace(self, blocks=(*self.blocks[:index], less, *self.blocks[index + 1 :]))
            if block.signer is not None:
                less = replace(block, signer=None)
                yield replace(self, blocks=(*self.blocks[:index], less, *self.blocks[index + 1 :]))
        for less in _without_one(self.authorizer):
            yield replace(self, authorizer=less)
        if self.printed:
            yield replace(self, printed=False)
        if self.p256_root:
            yield replace(self, p256_root=False)


def _without_one(block: Block) -> Iterator[Block]:
    for index in range(len(block.statements)):
        yield replace(block, statements=block.statements[:index] + block.statements[index + 1 :])


@dataclass(frozen=True)
class _Fact:
    name: str
    columns: Columns
    terms: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.terms)})"


@dataclass
class _Generator:
    rng: random.Random
    eager: bool
    parameters: dict[str, int | str | bool | bytes] = field(default_factory=dict)

    def fact(self) -> _Fact:
        name = self.rng.choice(tuple(SCHEMA))
        columns = tuple(self.rng.choice(KINDS) if kind is None else kind for kind in SCHEMA[name])
        return _Fact(name, columns, tuple(self.value(kind) for kind in columns))

    def value(self, kind: Kind) -> str:
        return Expressions(self.rng, Scope()).constant(kind)

    def query(self, known: Sequence[_Fact], *, least: int = 0) -> tuple[str, Scope]:
        """Returns a body with its conditions and clause, and the variables that it binds."""
        rng = self.rng
        scope = Scope(eager=self.eager)
        body = [self.predicate(known, scope) for _ in range(max(least, rng.choice((0, 1, 1, 1, 2, 2, 3))))]
        count = rng.choice((0, 0, 1, 1, 2)) if body else 1
        writer = Expressions(rng, scope)
        conditions = [writer.condition() for _ in range(count)]
        if not body and rng.random() < 0.4:
            conditions = [rng.choice(("true", "true", "true", "false"))]
        items = body + conditions
        if rng.random() < 0.1:
            rng.shuffle(items)
        return ", ".join(items) + self.clause(0.12), scope

    def predicate(self, known: Sequence[_Fact], scope: Scope) -> str:
        rng = self.rng
        if known and rng.random() < 0.85:
            fact = rng.choice(known)
            terms = [
                self.abstract(kind, value, scope)
                for kind, value in zip(fact.columns, fact.terms, strict=True)
            ]
            return f"{fact.name}({', '.join(terms)})"
        name, columns = rng.choice((*SCHEMA.items(), *DERIVED.items()))
        terms = []
        for kind in columns:
            if rng.random() < 0.7:
                scope.variables.setdefault(variable := f"${rng.choice('xyz')}", kind)
                scope.witnesses.pop(variable, None)
                terms.append(variable)
            else:
                terms.append(self.value(kind or rng.choice(KINDS)))
        return f"{name}({', '.join(terms)})"

    def abstract(self, kind: Kind | None, value: str, scope: Scope) -> str:
        """Returns a variable that a known value can be bound to, or the value."""
        if self.rng.random() < 0.3:
            return value
        same = [name for name, bound in scope.witnesses.items() if bound == value]
        if same and self.rng.random() < 0.7:
            return self.rng.choice(same)
        variable = f"$v{len(scope.variables)}"
        scope.variables[variable] = kind
        scope.witnesses[variable] = value
        return variable

    def clause(self, chance: float) -> str:
        if self.rng.random() >= chance:
            return ""
        choices = ("authority", "authority", "previous", *PUBLIC_KEYS)
        return " trusting " + ", ".join(self.rng.sample(choices, self.rng.choice((1, 1, 2))))

    def rule(self, known: Sequence[_Fact]) -> str:
        rng = self.rng
        if rng.random() < 0.2:
            return rng.choice(PATHS)
        body, scope = self.query(known, least=1)
        name, columns = rng.choice(tuple(DERIVED.items()))
        return f"{name}({', '.join(self.head_term(kind, scope) for kind in columns)}) <- {body}"

    def head_term(self, kind: Kind | None, scope: Scope) -> str:
        fitting = [name for name, its in scope.variables.items() if kind in (its, None)]
        if fitting and self.rng.random() < 0.9:
            return self.rng.choice(fitting)
        return self.value(kind or self.rng.choice(KINDS))

    def check(self, known: Sequence[_Fact]) -> str:
        kind = self.rng.choice(("check if",) * 6 + ("check all", "check all", "reject if"))
        if kind == "reject if" and self.rng.random() < 0.7:
            known = ()
        return f"{kind} {self.alternatives(known)}"

    def alternatives(self, known: Sequence[_Fact]) -> str:
        return " or ".join(self.query(known)[0] for _ in range(self.rng.choice((1, 1, 1, 2))))

    def block(self, known: list[_Fact], facts: Sequence[int], checks: Sequence[int]) -> Block:
        """Returns a block; the facts that it states are added to `known`, which it may build on."""
        rng = self.rng
        own = [self.fact() for _ in range(rng.choice(facts))]
        known += own
        statements = [str(fact) for fact in own]
        statements += [self.rule(known) for _ in range(rng.choice((0, 0, 0, 1, 1, 2)))]
        statements += [self.check(known) for _ in range(rng.choice(checks))]
        return Block(tuple(statements))

    def policies(self, known: Sequence[_Fact]) -> list[str]:
        rng = self.rng
        kinds = rng.choices(("allow if", "deny if"), (4, 1), k=rng.choice((0, 1, 1, 2)))
        found = [f"{kind} {self.alternatives(known)}" for kind in kinds]
        if rng.random() < 0.7:
            found.append(rng.choices(("allow if true", "deny if true"), (5, 1))[0])
        return found

    def with_parameter(self, fact: _Fact) -> str:
        """Returns the fact with `{name}` for a first term of a type that Python has too."""
        values: dict[Kind, int | str | bool | bytes] = {
            Kind.INTEGER: self.rng.randrange(3),
            Kind.STRING: self.rng.choice(("a", 'a"b\\c\nd', "read")),
            Kind.BOOL: True,
            Kind.BYTES: b"\x00\xff",
        }
        if fact.columns[0] not in values:
            return str(fact)
        name = f"p{len(self.parameters)}"
        self.parameters[name] = values[fact.columns[0]]
        return str(replace(fact, terms=(f"{{{name}}}", *fact.terms[1:])))


def random_case(seed: int) -> Case:
    """Returns the case of a seed, the same one on every machine."""
    rng = random.Random(seed)
    minted_here = rng.random() < 0.5
    printed = rng.random() < 0.15
    generator = _Generator(rng, eager=minted_here and rng.random() < 0.5)
    authority: list[_Fact] = []
    blocks = [generator.block(authority, (0, 1, 2, 3, 4), (0, 0, 0, 1, 1, 2))]
    ambient = [generator.fact() for _ in range(rng.choice((0, 1, 2, 3)))]
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3, 4))):
        # What later blocks see is what the authority and the authorizer state, and what is their own.
        block = generator.block([*authority, *ambient], (0, 0, 1, 2), (0, 0, 1, 1, 2))
        if rng.random() < 0.3:
            block = replace(block, signer=rng.randrange(len(EXTERNAL_KEYS)))
        if minted_here and rng.random() < 0.06:
            # The peer's parser drops a clause at the head of a block; from a token it reads it.
            clause = generator.clause(1).strip()
            block = replace(block, statements=(clause, *block.statements))
        blocks.append(block)
    generator.eager = False
    known = authority + ambient
    own = generator.block(known, (0, 0, 1), (0, 0, 0, 1, 1))
    facts = [generator.with_parameter(fact) if rng.random() < 0.1 else str(fact) for fact in ambient]
    authorizer = Block((*facts, *own.statements, *generator.policies(known)))
    return Case(
        seed=seed,
        blocks=tuple(blocks),
        authorizer=authorizer,
        query=generator.rule(known),
        minted_here=minted_here,
        printed=printed,
        snapshots=rng.random() < 0.2,
        p256_root=rng.random() < 0.05,
        parameters=tuple(generator.parameters.items()),
    )
