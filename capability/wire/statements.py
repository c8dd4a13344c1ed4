"""The statements of a block to bytes and back, each remembered.

Tokens repeat one another: the same checks in token after token, the same kinds of facts about other users.
What the bytes of a statement mean depends on the strings and keys that its numbers stand for, and on nothing
else; what is written for a statement depends on those numbers. So each statement is worked out once for all
of that, by Decoder and Encoder, and looked up after. What is refused is not remembered.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from google.protobuf.message import Message

from capability.datalog.program import Check, KeyScope, Predicate, Rule
from capability.datalog.terms import BOOL, BYTES, DATE, INTEGER, STRING, Term
from capability.wire import schema
from capability.wire.dates import Literals, split
from capability.wire.decoder import Decoder
from capability.wire.encoder import Encoder, TemplateEncoder
from capability.wire.messages import parse, serialize
from capability.wire.symbols import KeyTable, SymbolTable
from capability.wire.versions import MIN_VERSION, Statement, needed_to_read, needed_to_write

if TYPE_CHECKING:
    from capability.wire.stencils import Stencil

MAX_STATEMENTS: Final = 4096
"""How many statements are remembered in each direction; the oldest make room."""
MAX_SIZE: Final = 512
"""How long the bytes and strings of a remembered statement may be together."""
_MAX_NUMBERINGS: Final = 8
_TIMES: Final = 4
"""How often much the same is read anew before a stencil is made: more often than in one token, as a rule."""

NO_TERMS: Final[Mapping[str, Term]] = MappingProxyType({})

_Key = TypeVar("_Key")
_Item = TypeVar("_Item")
_Statement = TypeVar("_Statement", Predicate, Rule, Check)
_Message = TypeVar("_Message", schema.Fact, schema.Rule, schema.Check)

_Numbers = tuple[tuple[int, ...], tuple[int, ...]]
"""The numbers of symbols and the indices of keys in a statement, in the order in which they are met."""
_Fixed = tuple[tuple[str, ...], tuple[KeyScope, ...]]
"""The names and keys of a stencil."""
_Meaning = tuple[bytes, tuple[str, ...], tuple[KeyScope, ...]]
"""The bytes of a statement, and the symbols and keys that its numbers stand for."""


class _Memory(dict[_Key, _Item], Generic[_Key, _Item]):
    """A dict that forgets its oldest entry for a new one."""

    def __init__(self) -> None:
        self._lock = Lock()

    def remember(self, key: _Key, item: _Item) -> None:
        with self._lock:
            if len(self) >= MAX_STATEMENTS and key not in self:
                del self[next(iter(self))]
            self[key] = item


class _Written(NamedTuple):
    """What a statement refers to, and its bytes for each numbering of that.

    It keeps its statement alive, which makes the statement's `id` good as a key: a hash of all that is in
    the statement would cost as much as writing it.
    """

    statement: Statement
    strings: tuple[str, ...]
    keys: tuple[KeyScope, ...]
    version: int
    forms: dict[_Numbers, bytes]


_written: Final = _Memory[int, _Written]()

_FLAT: Final = frozenset({INTEGER, DATE, BYTES, BOOL})
_written_facts: Final = _Memory[tuple[int | tuple[int, object], ...], bytes]()
"""Facts of flat terms, which every version has, by the numbers of their strings whatever these are."""


class _Form:
    """A statement with parameters, as messages in which only these are left to fill in.

    It keeps its statement alive, as _Written does.
    """

    __slots__ = ("_lock", "_messages", "_references", "_statement", "version")

    def __init__(self, statement: Statement) -> None:
        self._statement = statement
        self._lock = Lock()
        self._messages: dict[tuple[int, ...], tuple[Message, list[tuple[str, schema.Term]]]] = {}
        self._references: list[tuple[str | KeyScope | None, str]] = []
        self.version = needed_to_write(statement)

        def symbol(string: str) -> int:
            self._references.append((string, ""))
            return 0

        def key(scope: KeyScope) -> int:
            self._references.append((scope, ""))
            return 0

        _message(TemplateEncoder(symbol, key, lambda name: self._references.append((None, name))), statement)
        self._references = list(dict.fromkeys(self._references))

    def write(
        self, symbol: Callable[[str], int], key: Callable[[KeyScope], int], terms: Mapping[str, Term]
    ) -> bytes:
        """Returns the bytes of the statement with `terms` for its parameters."""
        numbers = []
        for reference, name in self._references:
            if reference is None:
                kind, value = terms[name]
                if kind == STRING:
                    symbol(value)
            else:
                numbers.append(symbol(reference) if isinstance(reference, str) else key(reference))
        encoder = Encoder(symbol, key)
        numbering = tuple(numbers)
        with self._lock:
            found = self._messages.get(numbering)
            if found is None:
                template = TemplateEncoder(symbol, key, lambda name: None)
                found = (_message(template, self._statement), template.holes)
                if len(self._messages) >= _MAX_NUMBERINGS:
                    self._messages.clear()
                self._messages[numbering] = found
            message, holes = found
            for name, hole in holes:
                encoder.fill(hole, terms[name])
            return serialize(message)


_forms: Final = _Memory[int, _Form]()


class StatementWriter:
    """Writes the statements of one block. Raises as Encoder does."""

    __slots__ = ("_keys", "_symbols", "version")

    def __init__(self, symbols: SymbolTable, keys: KeyTable) -> None:
        self._symbols = symbols
        self._keys = keys
        self.version = MIN_VERSION
        """The lowest version for what was written so far."""

    def write_facts(
        self, facts: Iterable[Predicate], held: Container[int] = (), terms: Mapping[str, Term] = NO_TERMS
    ) -> list[bytes]:
        """Returns the bytes of each fact, as `write` does."""
        return [
            self._write_filled(fact, terms) if index in held else self._write_fact(fact)
            for index, fact in enumerate(facts)
        ]

    def write(
        self,
        statements: Iterable[Statement],
        held: Container[int] = (),
        terms: Mapping[str, Term] = NO_TERMS,
    ) -> list[bytes]:
        """Returns the bytes of each statement; the tables grow by what they refer to.

        The statements whose indices are in `held` have parameters, which stand for `terms`.
        """
        return [
            self._write_filled(statement, terms) if index in held else self._write(statement)
            for index, statement in enumerate(statements)
        ]

    def _write_filled(self, statement: Statement, terms: Mapping[str, Term]) -> bytes:
        form = _forms.get(id(statement))
        if form is None:
            form = _Form(statement)
            _forms.remember(id(statement), form)
        if form.version > self.version:
            self.version = form.version
        return form.write(self._symbols.insert, self._keys.insert, terms)

    def _write_fact(self, fact: Predicate) -> bytes:
        insert = self._symbols.insert
        numbers: list[int | tuple[int, object]] = [insert(fact.name)]
        for kind, value in fact.terms:
            if kind == STRING:
                numbers.append(insert(value))
            elif kind in _FLAT:
                numbers.append((kind, value))
            else:
                return self._write(fact)
        key = tuple(numbers)
        form = _written_facts.get(key)
        if form is None:
            form = _encode(Encoder(insert, self._keys.insert), fact)
            if len(form) <= MAX_SIZE:
                _written_facts.remember(key, form)
        return form

    def _write(self, statement: Statement) -> bytes:
        written = _written.get(id(statement))
        if written is None:
            return self._write_anew(statement)
        if written.version > self.version:
            self.version = written.version
        keys = written.keys
        numbers = (
            tuple(map(self._symbols.insert, written.strings)),
            tuple(map(self._keys.insert, keys)) if keys else (),
        )
        form = written.forms.get(numbers)
        if form is None:
            form = _encode(Encoder(self._symbols.insert, self._keys.insert), statement)
            if len(written.forms) >= _MAX_NUMBERINGS:
                written.forms.clear()
            written.forms[numbers] = form
        return form

    def _write_anew(self, statement: Statement) -> bytes:
        symbols, keys = _Met(self._symbols.insert), _Met(self._keys.insert)
        form = _encode(Encoder(symbols, keys), statement)
        version = needed_to_write(statement)
        self.version = max(self.version, version)
        strings = tuple(symbols.met)
        if _is_small(form, strings):
            numbers = (tuple(symbols.met.values()), tuple(keys.met.values()))
            written = _Written(statement, strings, tuple(keys.met), version, {numbers: form})
            _written.remember(id(statement), written)
        return form


class _Reading(Generic[_Statement]):
    """How the statements of one kind are read, and those that were.

    `numbers` tells by its bytes what a statement refers to, and `statements` by its bytes and all of that
    what it means, the version that it needs, and how many characters it refers to.
    """

    def __init__(self, message: type[_Message], decode: Callable[[Decoder, _Message], _Statement]) -> None:
        self.decode: Callable[[Decoder, bytes], _Statement] = lambda decoder, form: decode(
            decoder, parse(message, form)
        )
        self.numbers = _Memory[bytes, _Numbers]()
        self.stencils = _Memory[Literals, dict[_Fixed, "Stencil[Any]"]]()
        self.seen = _Memory[Literals, int]()
        self.statements: _Memory[_Meaning, tuple[_Statement, int, int]] = _Memory()


_FACTS: Final = _Reading(schema.Fact, Decoder.fact)
_RULES: Final = _Reading(schema.Rule, Decoder.rule)
_CHECKS: Final = _Reading(schema.Check, Decoder.check)


class StatementReader:
    """Reads the statements of one block. Raises FormatError, as Decoder does."""

    __slots__ = ("_keys", "_spend", "_symbols", "version")

    def __init__(self, symbols: SymbolTable, keys: KeyTable, spend: Callable[[int], None]) -> None:
        """`spend` is told how many characters each statement refers to, and raises when they are too many."""
        self._symbols = symbols
        self._keys = keys
        self._spend = spend
        self.version = MIN_VERSION
        """The lowest version for what was read so far."""

    def facts(self, forms: Iterable[bytes]) -> tuple[Predicate, ...]:
        """Returns the facts in `forms`."""
        return tuple([self._read(_FACTS, form) for form in forms])

    def rules(self, forms: Iterable[bytes]) -> tuple[Rule, ...]:
        """Returns the rules in `forms`."""
        return tuple([self._read(_RULES, form) for form in forms])

    def checks(self, forms: Iterable[bytes]) -> tuple[Check, ...]:
        """Returns the checks in `forms`."""
        return tuple([self._read(_CHECKS, form) for form in forms])

    def _read(self, reading: _Reading[_Statement], form: bytes) -> _Statement:
        numbers = reading.numbers.get(form)
        found = None
        if numbers is not None:
            strings = self._symbols.all_of(numbers[0])
            keys = tuple(map(self._keys.key, numbers[1])) if numbers[1] else ()
            found = reading.statements.get((form, strings, keys))
        if found is None:
            found = self._read_by_stencil(reading, form) or self._read_anew(reading, form)
        statement, version, referred = found
        self._spend(referred)
        if version > self.version:
            self.version = version
        return statement

    def _read_by_stencil(
        self, reading: _Reading[_Statement], form: bytes
    ) -> tuple[_Statement, int, int] | None:
        literals, dates = split(form)
        for (names, keys), stencil in reading.stencils.get(literals, {}).items():
            if self._symbols.all_of(stencil.name_numbers) == names and (
                not keys or tuple(map(self._keys.key, stencil.key_numbers)) == keys
            ):
                strings = self._symbols.all_of(stencil.strings)
                statement: _Statement = stencil.fill(strings, dates)
                return statement, stencil.version, stencil.name_size + sum(map(len, strings))
        return None

    def _read_anew(self, reading: _Reading[_Statement], form: bytes) -> tuple[_Statement, int, int]:
        symbols, keys = _MetStrings(self._symbols.symbol), _Met(self._keys.key)
        statement = reading.decode(Decoder(symbols, keys), form)
        found = (statement, needed_to_read(statement), symbols.referred)
        strings = tuple(symbols.met.values())
        if _is_small(form, strings):
            reading.numbers.remember(form, (tuple(symbols.met), tuple(keys.met)))
            reading.statements.remember((form, strings, tuple(keys.met.values())), found)
            self._make_stencil(reading, form, found)
        return found

    def _make_stencil(
        self, reading: _Reading[_Statement], form: bytes, found: tuple[_Statement, int, int]
    ) -> None:
        """Makes a stencil when much the same was read anew a few times."""
        statement, version, _ = found
        if isinstance(statement, Rule):
            return
        literals, _ = split(form)
        times = reading.seen.get(literals, 0) + 1
        if times < _TIMES:
            reading.seen.remember(literals, times)
            return

        def read(
            form: bytes,
            string: Callable[[int], str],
            name: Callable[[int], str],
            key: Callable[[int], KeyScope],
        ) -> object:
            return reading.decode(Decoder(string, key, name), form)

        # not loaded by a process that reads one token
        from capability.wire.stencils import make

        stencil = make(form, statement, version, read, self._symbols.symbol, self._keys.key)
        if stencil is not None:
            fixed = reading.stencils.get(literals, {})
            if len(fixed) < _MAX_NUMBERINGS:
                reading.stencils.remember(literals, {**fixed, (stencil.names, stencil.keys): stencil})


class _Met(Generic[_Key, _Item]):
    """A look-up that keeps what was asked of it and what it answered, in order."""

    __slots__ = ("_look_up", "met")

    def __init__(self, look_up: Callable[[_Key], _Item]) -> None:
        self._look_up = look_up
        self.met: dict[_Key, _Item] = {}

    def __call__(self, key: _Key) -> _Item:
        item = self.met.get(key)
        if item is None:
            item = self.met[key] = self._look_up(key)
        return item


class _MetStrings(_Met[int, str]):
    """The same for strings; counts the characters of every reference, as one string may be met often."""

    __slots__ = ("referred",)

    def __init__(self, look_up: Callable[[int], str]) -> None:
        super().__init__(look_up)
        self.referred = 0

    def __call__(self, key: int) -> str:
        item = super().__call__(key)
        self.referred += len(item)
        return item


def _encode(encoder: Encoder, statement: Statement) -> bytes:
    return serialize(_message(encoder, statement))


def _message(encoder: Encoder, statement: Statement) -> Message:
    if isinstance(statement, Predicate):
        return encoder.fact(statement)
    return encoder.rule(statement) if isinstance(statement, Rule) else encoder.check(statement)


def _is_small(form: bytes, strings: Iterable[str]) -> bool:
    return len(form) + sum(map(len, strings)) <= MAX_SIZE
