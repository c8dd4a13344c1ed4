"""Says in words where a source stops making sense, and what would have fitted there."""

import re
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

from capability.datalog.errors import SourceError
from capability.datalog.literals import Mistake
from capability.datalog.printer import escape_for_display
from capability.datalog.spelling import BINARY_METHODS, CLOSURE_METHODS, EXTERN_PREFIX, UNARY_METHODS

_FOUND: Final = re.compile(
    r"\"|[$]?[A-Za-z0-9_:]+|<-|->|===|!==|==|!=|<=|>=|&&!?|\|\|!?|.", re.DOTALL | re.ASCII
)
_SPACE: Final = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)

_VALUES: Final = frozenset({"INTEGER", "STRING", "BYTES", "DATE", "WORD", "PARAMETER", "LBRACE", "LSQB"})
_OPERATORS: Final = frozenset(
    {"OR_OPERATOR", "AND_OPERATOR", "COMPARISON", "XOR", "BAR", "AMPERSAND", "SIGN", "SCALE"}
)
_METHODS: Final = frozenset({"UNARY_METHOD", "BINARY_METHOD", "CLOSURE_METHOD", "TRY_OR", "EXTERN"})
_METHOD_NAMES: Final = (*UNARY_METHODS, *BINARY_METHODS, *CLOSURE_METHODS, "try_or", f"{EXTERN_PREFIX}name")

# Groups come before the words for what they hold; the first that fits takes its terminals away.
_GROUPS: Final[tuple[tuple[frozenset[str], tuple[str, ...]], ...]] = (
    (
        frozenset({"NAME", "CHECK_KIND", "POLICY_KIND"}),
        ("a fact", "a rule", "`check if`", "`check all`", "`reject if`", "`allow if`", "`deny if`"),
    ),
    (_VALUES | {"VARIABLE", "LPAR", "BANG", "NAME"}, ("a predicate", "an expression")),
    (_VALUES | {"VARIABLE", "LPAR", "BANG"}, ("an expression",)),
    (_VALUES | {"VARIABLE"}, ("a value",)),
    (
        frozenset({"SCOPE", "KEY", "PARAMETER"}),
        ("`authority`", "`previous`", "a public key", "`{parameter}`"),
    ),
    (frozenset({"INTEGER", "STRING", "PARAMETER"}), ("a map key (an integer or a string)",)),
    (_METHODS, tuple(f"`{name}`" for name in _METHOD_NAMES)),
    (_OPERATORS, ("an operator",)),
    (_OPERATORS - {"COMPARISON"}, ("an operator that is not a comparison",)),
)
_WORDS: Final = {
    "$END": "`;`",
    "_IF": "`<-`",
    "_TO": "`->`",
    "_TRUSTING": "`trusting`",
    "_OR": "`or`",
    "VARIABLE": "a variable",
    "PARAMETER": "`{parameter}`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "DOT": "`.`",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "LSQB": "`[`",
    "RSQB": "`]`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "BANG": "`!`",
}
_HINTS: Final = {
    "=": "equality is written `==`",
    "'": "strings are written in double quotes",
    "and": "conjunction is written `&&` in an expression, `,` between the parts of a query",
    "not": "negation is written `!`",
    "-": "no space in a negative integer; a date needs its time and zone",
    "check": "a check begins with `check if`, `check all` or `reject if`",
    "allow": "a policy begins with `allow if` or `deny if`",
    "deny": "a policy begins with `allow if` or `deny if`",
}
_COMPARISONS: Final = frozenset({"<", ">", "<=", ">=", "==", "!=", "===", "!=="})


def words(terminals: Iterable[str]) -> tuple[str, ...]:
    """Returns how to say what the grammar's `terminals` stand for, the most general first."""
    left = set(terminals)
    said: list[str] = []
    for group, names in _GROUPS:
        if group <= left:
            left -= group
            said.extend(names)
    said.extend(word for terminal, word in _WORDS.items() if terminal in left)
    return tuple(said)


def unexpected(source: str, offset: int, end: int, terminals: Iterable[str]) -> Mistake:
    """Returns the mistake of what stands at or after `offset`, where one of `terminals` should."""
    accepted = set(terminals)
    space = _SPACE.match(source, offset, end)
    offset = space.end() if space else offset
    found = _FOUND.match(source, offset, end)
    if found is None:
        return Mistake(offset, "the statement ends too early", words(accepted))
    text = found[0]
    if text == '"':
        message = "unexpected string"
    elif accepted and accepted <= _METHODS:
        message = f"unknown method `{text}`"
    else:
        message = f"unexpected `{text}`"
    if text in _COMPARISONS and "SIGN" in accepted:
        message += " (comparisons cannot be chained)"
    elif text in _HINTS:
        message += f" ({_HINTS[text]})"
    return Mistake(offset, message, words(accepted))


def located(source: str, mistakes: Iterable[Mistake]) -> list[SourceError]:
    """Returns `mistakes`, given by offsets in the whole of `source`, in order and by lines and columns."""
    # The lines are shared by the errors: a long line with many mistakes must not be copied for each.
    lines = source.split("\n")
    starts = list(accumulate((len(line) + 1 for line in lines), initial=0))
    errors = []
    for offset, message, expected in sorted(mistakes, key=lambda mistake: mistake.offset):
        number = bisect_right(starts, offset)
        column = offset - starts[number - 1] + 1
        errors.append(SourceError(escape_for_display(message), number, column, expected, lines[number - 1]))
    return errors
