"""Python source for what is left of an authorization when only the request is unknown.

The generated function takes the token's table (its constants, and what it and the policy derive without the
request) and the request's values, bare. It answers `(policy, failed)`: the number of the first policy that
matches or -1, and a bit for each check that failed. It is a fast path, not a second semantics: where types
are not known it raises Unsure, and the engine decides. Nothing that it runs can loop: rules that depend on
the request must not be recursive, and the work is bounded beforehand (see bounds.py), so it counts no
steps.
"""

from collections.abc import Callable
from typing import Any, Final

from capability.datalog.inline import HELPERS, Expressions, Item, same
from capability.datalog.lifting import scalar
from capability.datalog.origins import AUTHORIZER
from capability.datalog.program import CheckKind, Closure, Expression, Op, Predicate, Value
from capability.datalog.shapes import (
    Code,
    Constant,
    RequestFact,
    Room,
    Rows,
    Shape,
    ShapedQuery,
    ShapedRule,
    Stated,
    StaticResult,
    TableSlot,
    Unsupported,
)
from capability.datalog.terms import (
    ARRAY,
    BOOL,
    BYTES,
    DATE,
    INTEGER,
    INTEGER_MAX,
    INTEGER_MIN,
    SET,
    STRING,
    VARIABLE,
    Term,
)

MAX_ALTERNATIVES: Final = 16
"""How many copies of a body may be written for bodies that several facts of the request fit."""

MAX_NESTING: Final = 16
"""How deep blocks of the generated code may nest; Python itself allows 20 loops."""
MAX_LINES: Final = 2000
_TYPES: Final = {INTEGER: "int", STRING: "str", DATE: "int", BYTES: "bytes", BOOL: "bool"}


class Generator:
    """Writes the function for one shape."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._lines: list[str] = []
        self._indent = 1
        self._table: list[TableSlot] = []
        self._slots: dict[TableSlot, int] = {}
        self._expressions = Expressions(self._constant)
        self._names = 0
        self._copies = 0
        self._derived: dict[tuple[str, int], str] = {}
        self._arguments: list[tuple[RequestFact, tuple[Item, ...]]] = []
        self._tables: list[tuple[RequestFact, str]] = []
        self._answers = ", answers" if any(rule.answers for rule in shape.rules) else ""

    def generate(self) -> Code:
        """Returns the code; raises Unsupported when the shape has no generated form."""
        parameters = self._request()
        if self._answers:
            self._emit("answers = {}")
        for number, rule in enumerate(self._shape.rules):
            self._rule(number, rule)
        self._emit("failed = 0")
        for number, (kind, queries) in enumerate(self._shape.checks):
            holds = self._any("check", number, queries, every=kind is CheckKind.ALL)
            condition = holds if kind is CheckKind.REJECT else f"not {holds}"
            self._emit(f"if {condition}: failed |= {1 << number}")
        for number, queries in enumerate(self._shape.policies):
            holds = self._any("policy", number, queries, every=False)
            self._emit(f"if {holds}: return {number}, failed{self._answers}")
        self._emit(f"return -1, failed{self._answers}")
        source = f"def run({', '.join(parameters)}):\n" + "\n".join(self._lines) + "\n"
        namespace: dict[str, Any] = dict(HELPERS)
        exec(compile(source, "<policy>", "exec"), namespace)
        # taken out: what refers to itself would outlive the policy until somebody looks for such garbage
        return Code(namespace.pop("run"), tuple(self._table), source)

    def _request(self) -> list[str]:
        """Writes the tests that a request is what the code was made for; returns the parameters."""
        parameters = ["T"]
        texts: list[str] = []
        guards: list[str] = []
        for fact in self._shape.request:
            if not all(scalar(kind) for kind in fact.kinds):
                raise Unsupported("a request fact that is not of scalars")
            if fact.several:
                parameters.append(self._name("q"))
                self._tables.append((fact, parameters[-1]))
                continue
            names = [self._name("r") for _ in fact.kinds or "_"]
            parameters += names
            if not fact.kinds:
                continue
            texts += [name for kind, name in zip(fact.kinds, names, strict=True) if kind in (STRING, BYTES)]
            guards += _guards(fact, names)
            items = tuple(Item((kind, None), name) for kind, name in zip(fact.kinds, names, strict=True))
            self._arguments.append((fact, items))
        text = " + ".join(f"len({name})" for name in texts)
        long = any(kind in (STRING, BYTES) for fact, _ in self._tables for kind in fact.kinds)
        for line in guards:
            self._emit(line)
        if long:
            self._emit(f"text = {text or 0}")
        for fact, rows in self._tables:
            self._rows_of_request(fact, rows)
        if long or text:
            self._emit(f"if {'text' if long else text} > {self._slot(Room('text'))}: unsure()")
        return parameters

    def _rows_of_request(self, fact: RequestFact, rows: str) -> None:
        """Writes the tests of rows, whose types nobody has looked at; many requests have none."""
        self._emit(f"if {rows}:")
        self._indent += 1
        self._emit(f"if len({rows}) > {self._slot(Room('rows'))}: unsure()")
        row = self._name("x")
        names = [self._name("x") for _ in fact.kinds]
        self._emit(f"for {row} in {rows}:")
        self._indent += 1
        self._emit(f"if type({row}) is not tuple or len({row}) != {len(names)}: unsure()")
        self._emit(f"{', '.join(names)}, = {row}")
        others = [f"type({name}) is not {_TYPES[kind]}" for kind, name in zip(fact.kinds, names, strict=True)]
        self._emit(f"if {' or '.join(others)}: unsure()")
        for line in _guards(fact, names):
            self._emit(line)
        texts = [
            f"len({name})" for kind, name in zip(fact.kinds, names, strict=True) if kind in (STRING, BYTES)
        ]
        if texts:
            self._emit(f"text += {' + '.join(texts)}")
        self._indent -= 2

    def _emit(self, line: str) -> None:
        if self._indent > MAX_NESTING or len(self._lines) > MAX_LINES:
            raise Unsupported("too large")
        self._lines.append(" " * self._indent + line)

    def _name(self, prefix: str) -> str:
        self._names += 1
        return f"{prefix}{self._names}"

    def _slot(self, slot: TableSlot) -> str:
        if slot not in self._slots:
            self._slots[slot] = len(self._table)
            self._table.append(slot)
        return f"T[{self._slots[slot]}]"

    def _constant(self, term: Term) -> Item:
        index, type_ = term[1]
        if scalar(type_[0]) or type_[0] in (SET, ARRAY):
            return Item(type_, self._slot(Constant(index, bare=True)))
        return Item(None, self._slot(Constant(index, bare=False)))

    def _any(self, owner: str, number: int, queries: tuple[ShapedQuery, ...], *, every: bool) -> str:
        """Writes code that finds whether any of `queries` holds; returns the name of the result."""
        holds = self._name("m")
        start = self._indent
        for position, query in enumerate(queries):
            if position:
                self._emit(f"if not {holds}:")
                self._indent += 1
            if query.static:
                self._emit(f"{holds} = {self._slot(StaticResult((owner, number, position)))}")
            else:
                self._query(query, (owner, number, position), holds, every=every)
        self._indent = start
        return holds

    def _query(self, query: ShapedQuery, owner: tuple[str, int, int], holds: str, *, every: bool) -> None:
        """Writes code that finds whether a binding holds, or, with `every`, all of at least one."""
        begun, start = len(self._lines), self._indent
        self._emit(f"{holds} = False")
        self._copies = 0
        fails = self._name("v")
        if every:
            self._emit(f"{fails} = False")
        leaves: list[tuple[int, str]] = []

        def leaf(env: dict[str, Item], _origins: list[str]) -> None:
            found = " and ".join(self._conditions(query.query.expressions, env))
            leaves.append((self._indent, found or "True"))
            if every:
                self._emit(f"{holds} = True")
                if found:
                    self._emit(f"if not ({found}): {fails} = True")
            else:
                self._emit(f"if {found}: {holds} = True" if found else f"{holds} = True")

        self._body(query, owner, leaf, head=None)
        if leaves and leaves == [(start, leaves[0][1])]:
            # one binding, whatever the request: then its conditions are all there is
            del self._lines[begun:]
            self._emit(f"{holds} = {leaves[0][1]}")
        elif every:
            self._emit(f"if {fails}: {holds} = False")

    def _rule(self, number: int, rule: ShapedRule) -> None:
        key = (rule.head.name, len(rule.head.terms))
        if key not in self._derived:
            self._derived[key] = self._name("d")
            self._emit(f"{self._derived[key]} = {{}}")
        facts = self._derived[key]
        self._copies = 0

        def derive(env: dict[str, Item], origins: list[str]) -> None:
            terms = []
            for term in rule.head.terms:
                if term[0] == VARIABLE and term[1] not in env:
                    raise Unsupported("unsafe rule")
                item = env[term[1]] if term[0] == VARIABLE else self._constant(term)
                terms.append(item.term())
            stores = []
            if rule.read:
                origin = " | ".join(dict.fromkeys([str(rule.origin), *origins]))
                stores.append(f"{facts}[{', '.join([*terms, origin])}] = None")
            if rule.answers:
                stores.append(f"answers[{', '.join([repr(rule.head.name), *terms])}] = None")
            # what nobody reads is not kept, but its expressions may fail
            self._when(rule.body.query.expressions, env, "; ".join(stores) or "pass")

        self._body(rule.body, ("rule", number, 0), derive, head=rule.head)

    def _body(
        self,
        shaped: ShapedQuery,
        owner: tuple[str, int, int],
        leaf: Callable[[dict[str, Item], list[str]], None],
        head: Predicate | None,
    ) -> None:
        """Writes the loops over a body, with `leaf` inside;
        what a leaf needs of static atoms comes from the table.
        """
        query = shaped.query
        changing = [atom for atom in query.body if self._changes(atom)]
        static = [atom for atom in query.body if not self._changes(atom)]
        needed = _variables(changing) | _expression_variables(query.expressions)
        if head is not None:
            needed |= _variables([head])
        start = self._indent

        def rows(env: dict[str, Item], origins: list[str]) -> None:
            self._copies += 1
            if self._copies > MAX_ALTERNATIVES:
                raise Unsupported("too many alternatives")
            here = self._indent
            if static:
                env, origins = self._static(static, needed, owner, env, origins, with_origin=head is not None)
            leaf(env, origins)
            self._indent = here

        def atoms(left: list[Predicate], env: dict[str, Item], origins: list[str]) -> None:
            if not left:
                rows(env, origins)
                return
            atom, rest = left[0], left[1:]
            here = self._indent
            for fact, items in self._arguments:
                if fact.name == atom.name and len(items) == len(atom.terms):
                    bound = self._match(atom, items, env)
                    if bound is not None:
                        atoms(rest, bound, [*origins, str(AUTHORIZER)])
                    self._indent = here
            for fact, table in self._tables:
                if fact.name == atom.name and len(fact.kinds) == len(atom.terms):
                    names = [self._name("x") for _ in atom.terms]
                    self._emit(f"for {', '.join(names)}, in {table}:")
                    self._indent += 1
                    items = tuple(
                        Item((kind, None), name) for kind, name in zip(fact.kinds, names, strict=True)
                    )
                    bound = self._match(atom, items, env)
                    if bound is None:
                        self._emit("break")
                    else:
                        atoms(rest, bound, [*origins, str(AUTHORIZER)])
                    self._indent = here
            for source in self._loops(atom):
                names = [self._name("x") for _ in atom.terms]
                origin = self._name("o")
                self._emit(f"for {', '.join([*names, origin])} in {source}:")
                self._indent += 1
                self._emit(f"if {origin} & {~shaped.trusted}: continue")
                bound = self._match(atom, tuple(Item(None, name) for name in names), env)
                if bound is not None:
                    atoms(rest, bound, [*origins, origin])
                self._indent = here

        atoms(changing, {}, [])
        self._indent = start

    def _changes(self, atom: Predicate) -> bool:
        key = (atom.name, len(atom.terms))
        return key in self._derived or any(
            (fact.name, len(fact.kinds)) == key for fact in self._shape.request
        )

    def _loops(self, atom: Predicate) -> list[str]:
        key = (atom.name, len(atom.terms))
        sources = []
        if key in self._shape.stated:
            sources.append(self._slot(Stated(*key)))
        if key in self._derived:
            sources.append(self._derived[key])
        return sources

    def _match(
        self, atom: Predicate, items: tuple[Item, ...], env: dict[str, Item]
    ) -> dict[str, Item] | None:
        """Writes the tests that `items` fit `atom`; returns what is bound then, None when they never fit."""
        bound = dict(env)
        tests = []
        for term, item in zip(atom.terms, items, strict=True):
            if term[0] == VARIABLE and term[1] not in bound:
                bound[term[1]] = item
                continue
            other = bound[term[1]] if term[0] == VARIABLE else self._constant(term)
            test = same(item, other)
            if test is None:
                return None
            tests.append(test)
        if tests:
            self._emit(f"if {' and '.join(tests)}:")
            self._indent += 1
        return bound

    def _static(
        self,
        atoms: list[Predicate],
        needed: set[str],
        owner: tuple[str, int, int],
        env: dict[str, Item],
        origins: list[str],
        *,
        with_origin: bool,
    ) -> tuple[dict[str, Item], list[str]]:
        """Writes the look-up of what the static atoms are bound to."""
        names = sorted(_variables(atoms))
        key = tuple((name, _bare_kind(env[name])) for name in names if name in env)
        values = tuple(name for name in names if name in needed and name not in env)
        slot = self._slot(Rows(owner, key, values, with_origin))
        codes = [env[name].code for name, _ in key]
        wanted = codes[0] if len(codes) == 1 else f"({', '.join(codes)})"
        bound = dict(env)
        columns = [self._name("s") for _ in values]
        bound |= {name: Item(None, column) for name, column in zip(values, columns, strict=True)}
        if with_origin:
            columns.append(self._name("o"))
            origins = [*origins, columns[-1]]
        if columns:
            source = f"{slot}.get({wanted}, ())" if key else slot
            self._emit(f"for {', '.join(columns)}, in {source}:")
        else:
            self._emit(f"if {wanted} in {slot}:" if key else f"if {slot}:")
        self._indent += 1
        return bound, origins

    def _conditions(self, expressions: tuple[Expression, ...], env: dict[str, Item]) -> list[str]:
        return [self._expressions.condition(expression, env) for expression in expressions]

    def _when(self, expressions: tuple[Expression, ...], env: dict[str, Item], statement: str) -> None:
        conditions = self._conditions(expressions, env)
        self._emit(f"if {' and '.join(conditions)}: {statement}" if conditions else statement)


def _guards(fact: RequestFact, names: list[str]) -> list[str]:
    """Returns the tests that values of the right types are terms."""
    lines = []
    for kind, name in zip(fact.kinds, names, strict=True):
        if kind == STRING:
            lines.append(f"if not {name}.isascii(): encodable({name})")
        elif kind == INTEGER:
            lines.append(f"if not {INTEGER_MIN} <= {name} <= {INTEGER_MAX}: unsure()")
    return lines


def _bare_kind(item: Item) -> int | None:
    return None if item.type is None else item.type[0]


def _variables(atoms: list[Predicate]) -> set[str]:
    return {value for atom in atoms for kind, value in atom.terms if kind == VARIABLE}


def _expression_variables(expressions: tuple[Expression, ...]) -> set[str]:
    names: set[str] = set()

    def visit(ops: tuple[Op, ...]) -> None:
        for op in ops:
            if isinstance(op, Value) and op.term[0] == VARIABLE:
                names.add(op.term[1])
            elif isinstance(op, Closure):
                visit(op.ops)

    for expression in expressions:
        visit(expression.ops)
    return names
