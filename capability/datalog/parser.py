"""Reads Datalog: source text in, the data model out, or every mistake in the source.

A source is first cut into statements, by one pass that knows only strings, comments, brackets and `;`. Each
statement is then parsed by itself, so that a mistake in one does not hide the mistakes of the next. That
pass and the check on the parser's stack also end, early, what would nest too deep for anything that comes
after.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar

from capability.datalog.errors import ParseError
from capability.datalog.literals import Mistake, Mistakes
from capability.datalog.parameters import names
from capability.datalog.program import Check, Policy, Predicate, Program, Rule, Scope
from capability.datalog.source_errors import located, unexpected
from capability.datalog.terms import Term
from capability.datalog.transform import MAX_EXPRESSION_DEPTH, Atom, Transform, too_deep

if TYPE_CHECKING:
    from lark import Lark, Token
    from lark.parsers.lalr_interactive_parser import InteractiveParser

Statement: TypeAlias = Predicate | Rule | Check | Policy | tuple[Scope, ...]
_Item = TypeVar("_Item", Predicate, Rule, Check, Policy)


class Piece(NamedTuple):
    """The text of one statement, from `start` to `end` of its source, and what is wrong with its brackets."""

    start: int
    end: int
    mistakes: tuple[Mistake, ...] = ()


MAX_BRACKETS: Final = 128
"""Brackets that may be open at once; more than the bounds on terms and expressions let through."""
MAX_STACK: Final = 32 * MAX_EXPRESSION_DEPTH
"""States that the parser may stack up; one level of nesting takes some 25 at most."""
MAX_WRONG_STATEMENTS: Final = 1000
"""After as many statements with mistakes no more are read: each takes up to a millisecond to explain."""
CACHED_SOURCES: Final = 256
CACHED_LENGTH: Final = 16 * 1024
"""Sources longer than this are parsed anew each time, so that the caches stay within a few megabytes."""

_MARK: Final = re.compile(
    r"""(?P<skipped>"[^"\\]*(?:\\.[^"\\]*)*"|//[^\n]*|/\*.*?\*/)|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<end>;)"""
    r"""|(?P<text>")|(?P<comment>/\*)""",
    re.DOTALL,
)
_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_NOUNS: Final[dict[type, str]] = {
    tuple: "`trusting` for the whole block",
    Predicate: "a fact",
    Rule: "a rule",
    Check: "a check",
    Policy: "a policy",
}
_PROGRAM: Final = frozenset(_NOUNS)
_BLOCK: Final = _PROGRAM - {Policy}


def parse_program(source: str) -> Program:
    """Returns the program of an authorizer: facts, rules, checks and policies.

    Parameters stay in it until `parameters.bind`. Raises ParseError, which holds every mistake.
    """
    return _cached_program(source) if len(source) <= CACHED_LENGTH else _program(source, _PROGRAM)


def parse_block(source: str) -> Program:
    """Returns the program of a block, which is that of an authorizer without policies.

    Raises ParseError, which holds every mistake.
    """
    return _cached_block(source) if len(source) <= CACHED_LENGTH else _program(source, _BLOCK)


def parse_fact(source: str) -> Predicate:
    """Returns the one fact of `source`; its `;` may be left out. Raises ParseError."""
    return _single(source, Predicate)


def parse_rule(source: str) -> Rule:
    """Returns the one rule of `source`; its `;` may be left out. Raises ParseError."""
    return _single(source, Rule)


def parse_check(source: str) -> Check:
    """Returns the one check of `source`; its `;` may be left out. Raises ParseError."""
    return _single(source, Check)


def parse_policy(source: str) -> Policy:
    """Returns the one policy of `source`; its `;` may be left out. Raises ParseError."""
    return _single(source, Policy)


def parse_term(source: str) -> Term:
    """Returns the value that `source` writes, without variables and parameters. Raises ParseError."""
    wrong = [mistake for piece in _pieces(source) for mistake in piece.mistakes]
    if wrong:
        raise _error(source, wrong)
    try:
        atom: Atom = _parse(source, 0, len(source), "single_term")
    except Mistakes as error:
        raise _error(source, error.mistakes) from error
    (term,) = atom.predicate.terms
    if atom.variables or names(atom.predicate).terms:
        raise _error(source, [Mistake(atom.offset, "a value is needed, without variables and parameters")])
    return term


@lru_cache(CACHED_SOURCES)
def _cached_program(source: str) -> Program:
    return _program(source, _PROGRAM)


@lru_cache(CACHED_SOURCES)
def _cached_block(source: str) -> Program:
    return _program(source, _BLOCK)


def _single(source: str, kind: type[_Item]) -> _Item:
    read: Callable[[str, type], Any] = _cached_item if len(source) <= CACHED_LENGTH else _item
    item: _Item = read(source, kind)
    return item


@lru_cache(CACHED_SOURCES)
def _cached_item(source: str, kind: type) -> Statement:
    return _item(source, kind)


def _program(source: str, allowed: frozenset[type]) -> Program:
    scopes: tuple[Scope, ...] = ()
    facts: list[Predicate] = []
    rules: list[Rule] = []
    checks: list[Check] = []
    policies: list[Policy] = []
    for statement in _statements(source, allowed):
        match statement:
            case Predicate():
                facts.append(statement)
            case Rule():
                rules.append(statement)
            case Check():
                checks.append(statement)
            case Policy():
                policies.append(statement)
            case _:
                scopes = statement
    return Program(scopes, tuple(facts), tuple(rules), tuple(checks), tuple(policies))


def _item(source: str, kind: type) -> Statement:
    statements = _statements(source, frozenset({kind}))
    if len(statements) != 1:
        message = f"{_NOUNS[kind]} is needed, and only one; found {len(statements)}"
        raise _error(source, [Mistake(0, message)])
    return statements[0]


def _statements(source: str, allowed: frozenset[type]) -> list[Statement]:
    """Returns the statements of `source`, all of types in `allowed`; raises ParseError with every mistake.

    Of the statements with mistakes, the first MAX_WRONG_STATEMENTS.
    """
    mistakes: list[Mistake] = []
    statements: list[Statement] = []
    count = wrong_statements = 0
    for start, end, wrong in _pieces(source):
        if wrong_statements == MAX_WRONG_STATEMENTS:
            break
        count += 1
        if wrong:
            mistakes.extend(wrong)
            wrong_statements += 1
            continue
        try:
            statement: Statement = _parse(source, start, end, "statement")
        except Mistakes as error:
            mistakes.extend(error.mistakes)
            wrong_statements += 1
            continue
        if type(statement) not in allowed:
            expected = tuple(noun for kind, noun in _NOUNS.items() if kind in allowed)
            mistakes.append(Mistake(start, f"{_NOUNS[type(statement)]} cannot stand here", expected))
        elif count > 1 and isinstance(statement, tuple):
            mistakes.append(Mistake(start, "`trusting` for the whole block must come before all statements"))
        statements.append(statement)
    if mistakes:
        raise _error(source, mistakes)
    return statements


def _error(source: str, mistakes: Sequence[Mistake]) -> ParseError:
    return ParseError(located(source, mistakes))


def _pieces(source: str) -> Iterator[Piece]:
    """Cuts `source` at each `;` outside strings and comments; leaves out what holds no statement.

    A string or comment that is never closed ends the search, since no later `;` can be told from its text.
    """
    start = depth = 0
    deep: tuple[Mistake, ...] = ()
    for mark in _MARK.finditer(source):
        kind = mark.lastgroup
        if kind == "open":
            depth += 1
            if depth > MAX_BRACKETS and not deep:
                deep = (too_deep(mark.start()),)
        elif kind == "close":
            depth -= 1
        elif kind == "end":
            start = _skip_blank(source, start)
            if start < mark.start():
                yield Piece(start, mark.start(), deep)
            start, depth, deep = mark.end(), 0, ()
        elif kind != "skipped":
            open_text = "string" if kind == "text" else "comment"
            yield Piece(start, len(source), (Mistake(mark.start(), f"this {open_text} is never closed"),))
            return
    start = _skip_blank(source, start)
    if start < len(source):
        yield Piece(start, len(source), deep)


def _skip_blank(source: str, start: int) -> int:
    blank = _BLANK.match(source, start)
    return blank.end() if blank else start


def _parse(source: str, start: int, end: int, rule: str) -> Any:
    """Returns what `rule` of the grammar makes of a part of `source`; raises Mistakes, placed in `source`."""
    from lark.exceptions import UnexpectedInput

    text = source[start:end]
    interactive = _lark().parse_interactive(text, rule)
    states = interactive.parser_state.state_stack
    count = 0
    try:
        for token in _tokens(interactive):
            interactive.feed_token(token)
            count += 1
            if len(states) > MAX_STACK:
                raise Mistakes(too_deep(token.start_pos or 0))
        return interactive.feed_eof()  # type: ignore[no-untyped-call]
    except UnexpectedInput as error:
        offset, accepted = _accepted(text, rule, count)
        raise Mistakes(unexpected(source, start + offset, end, accepted)) from error
    except Mistakes as error:
        raise Mistakes(
            *(mistake._replace(offset=mistake.offset + start) for mistake in error.mistakes)
        ) from error


def _accepted(text: str, rule: str, count: int) -> tuple[int, set[str]]:
    """Returns where `text` stands after `count` tokens, and the terminals that could follow.

    The parser that failed does not know any more: a token that does not fit may already have made it reduce.
    """
    interactive = _lark().parse_interactive(text, rule)
    offset = 0
    for token in islice(_tokens(interactive), count):
        interactive.feed_token(token)
        offset = token.end_pos or 0
    return offset, interactive.accepts()  # type: ignore[no-untyped-call]


def _tokens(interactive: "InteractiveParser") -> Iterator["Token"]:
    """Returns the tokens of a text; each must be fed before the next, which depends on the parser's state."""
    thread: Any = interactive.lexer_thread
    tokens: Iterator[Token] = thread.lex(interactive.parser_state)
    return tokens


@cache
def _lark() -> "Lark":
    """Returns the parser, made when it is first needed: reading the grammar takes about 0.1 s."""
    from lark import Lark

    grammar = files("capability.datalog").joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(
        grammar,
        parser="lalr",
        lexer="contextual",
        start=["statement", "single_term"],
        transformer=Transform(),
        maybe_placeholders=False,
    )
