"""What printing must never lose, for anything that a source or the wire can hold."""

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from capability.datalog.errors import ParameterError, ParseError, SourceError
from capability.datalog.parameters import bind, names
from capability.datalog.parser import (
    parse_check,
    parse_fact,
    parse_policy,
    parse_program,
    parse_rule,
    parse_term,
)
from capability.datalog.printer import (
    escape_for_display,
    print_check,
    print_expression,
    print_policy,
    print_predicate,
    print_program,
    print_rule,
    print_term,
)
from capability.datalog.program import (
    Check,
    Closure,
    Expression,
    KeyScope,
    Op,
    Policy,
    Predicate,
    Program,
    Query,
    Rule,
    Unary,
    UnaryKind,
)
from capability.datalog.terms import INTEGER, Term
from tests.datalog import strategies as s


def bare(ops: tuple[Op, ...]) -> tuple[Op, ...]:
    """Returns operations without those that only stand for parentheses."""
    return tuple(
        Closure(op.params, bare(op.ops)) if isinstance(op, Closure) else op
        for op in ops
        if not (isinstance(op, Unary) and op.kind == UnaryKind.PARENS)
    )


def bare_query(query: Query) -> Query:
    return replace(query, expressions=tuple(Expression(bare(each.ops)) for each in query.expressions))


def bare_program(program: Program) -> Program:
    rules = []
    for rule in program.rules:
        query = bare_query(Query(rule.body, rule.expressions, rule.scopes))
        rules.append(Rule(rule.head, query.body, query.expressions, query.scopes))
    return replace(
        program,
        rules=tuple(rules),
        checks=tuple(replace(each, queries=tuple(map(bare_query, each.queries))) for each in program.checks),
        policies=tuple(
            replace(each, queries=tuple(map(bare_query, each.queries))) for each in program.policies
        ),
    )


@given(s.terms)
def test_a_printed_term_is_the_term(term: Term) -> None:
    assert parse_term(print_term(term)) == term


@given(s.expressions(depth=6))
def test_a_printed_expression_keeps_its_value(expression: Expression) -> None:
    (query,) = parse_check(f"check if {print_expression(expression)}").queries
    assert bare_query(query).expressions == (Expression(bare(expression.ops)),)


@given(s.programs(s.open_terms, s.open_scopes))
def test_a_printed_program_keeps_its_meaning_and_then_stays_the_same(program: Program) -> None:
    parsed = parse_program(print_program(program))
    assert bare_program(parsed) == bare_program(program)
    assert parse_program(print_program(parsed)) == parsed


@given(s.facts(s.open_terms), s.rules(), s.checks(), s.policies())
def test_single_statements_print_as_they_parse(
    fact: Predicate, rule: Rule, check: Check, policy: Policy
) -> None:
    assert parse_fact(print_predicate(fact)) == fact
    assert print_rule(parse_rule(print_rule(rule))) == print_rule(rule)
    assert print_check(parse_check(print_check(check))) == print_check(check)
    assert print_policy(parse_policy(print_policy(policy))) == print_policy(policy)


@given(s.programs(s.open_terms, s.open_scopes))
def test_binding_commutes_with_printing(program: Program) -> None:
    found = names(program)
    terms: dict[str, Term] = {name: (INTEGER, 7) for name in found.terms}
    keys = {name: KeyScope(0, bytes(32)) for name in found.keys}
    try:
        bound = bind(program, terms, keys)
    except ParameterError:
        assume(False)  # an integer does not fit in every set
        raise
    assert names(bound) == (frozenset(), frozenset())
    assert bare_program(parse_program(print_program(bound))) == bare_program(bound)


@st.composite
def operands(draw: DrawFn, depth: int) -> str:
    text = draw(
        st.sampled_from(["1", "-2", '"a"', "true", "{,}", "{1, 2}", "[]", '{"k": null}', "hex:", "{true}"])
    )
    if depth > 0 and draw(st.booleans()):
        text = f"({draw(sources(depth - 1))})"
    for _ in range(draw(st.integers(0, depth))):
        argument = draw(sources(depth - 1))
        method = draw(
            st.sampled_from(
                [
                    "length()",
                    "type()",
                    "extern::f()",
                    "extern::f(%)",
                    "contains(%)",
                    "try_or(%)",
                    "any($p -> %)",
                    "all($p -> $p == (%))",
                ]
            )
        )
        text = f"{text}.{method.replace('%', argument)}"
    return "!" * draw(st.integers(0, 2)) + text


@st.composite
def sources(draw: DrawFn, depth: int = 2) -> str:
    """Expressions in the printer's own spelling, with and without needless parentheses."""
    text = draw(operands(depth))
    for _ in range(draw(st.integers(0, depth))):
        comparing = False
        for _ in range(draw(st.integers(0, 1 + depth))):
            operator = draw(st.sampled_from([*"+-*/^|&", *([] if comparing else ["==", "<", "!=="])]))
            comparing = comparing or operator in ("==", "<", "!==")
            text += f" {operator} {draw(operands(depth))}"
        text += f" {draw(st.sampled_from(['&&', '||', '&&!', '||!']))} {draw(operands(depth))}"
    return text


@given(sources())
def test_a_source_keeps_just_the_parentheses_that_it_has(source: str) -> None:
    (query,) = parse_check(f"check if {source}").queries
    assert print_expression(query.expressions[0]) == source


@settings(max_examples=300)
@given(st.lists(st.sampled_from([*'abx(){}[]$"\\;:,.!&|<->=+*/ \n\té1', "check if ", "//", "/*", "*/"])))
def test_any_text_is_a_program_or_a_parse_error_that_can_be_shown(pieces: list[str]) -> None:
    source = "".join(pieces)
    lines = source.split("\n")
    mistakes: tuple[SourceError, ...] = ()
    try:
        program = parse_program(source)
    except ParseError as error:
        mistakes = error.errors
    else:
        assert parse_program(print_program(program)) == program
    for mistake in mistakes:
        assert mistake.source_line == lines[mistake.line - 1]
        assert 1 <= mistake.column <= len(mistake.source_line) + 1


@given(st.text())
def test_nothing_that_is_displayed_can_pose_as_something_else(text: str) -> None:
    shown = escape_for_display(text)
    assert shown.replace("\n", "").isprintable()
    if text.isprintable():
        assert shown == text
