"""Blocks: a Datalog program, a context, and the symbols and keys that they declare."""

from capability.datalog.immutable import immutable
from capability.datalog.parameters import Filled
from capability.datalog.program import KeyScope, Program
from capability.errors import BiscuitSerializationError
from capability.wire import schema
from capability.wire.decoder import Decoder, read_keys
from capability.wire.encoder import Encoder
from capability.wire.messages import parse, serialize, text, utf8, write_key
from capability.wire.statements import NO_TERMS, StatementReader, StatementWriter
from capability.wire.symbols import KEY_COST, KeyTable, SymbolTable
from capability.wire.versions import check_declared, needed_by_block, required_version

__all__ = ["Block", "Encoded", "decode_block", "encode_block", "required_version"]


@immutable
class Block:
    """A block, read. `symbols` and `public_keys` are those that the block itself declares."""

    program: Program
    context: str | None
    version: int
    symbols: tuple[str, ...]
    public_keys: tuple[KeyScope, ...]


class Encoded:
    """A block's bytes, which are what gets signed, and the block, put together when it is asked for."""

    __slots__ = ("_block", "_filled", "context", "payload", "public_keys", "symbols", "version")

    def __init__(
        self,
        payload: bytes,
        filled: Filled,
        context: str | None,
        version: int,
        symbols: tuple[str, ...],
        public_keys: tuple[KeyScope, ...],
    ) -> None:
        self.payload = payload
        self._filled = filled
        self.context = context
        self.version = version
        self.symbols = symbols
        self.public_keys = public_keys
        self._block: Block | None = None

    @property
    def block(self) -> Block:
        """The block."""
        if self._block is None:
            program = self._filled.program
            self._block = Block(program, self.context, self.version, self.symbols, self.public_keys)
        return self._block


def encode_block(
    program: Program | Filled,
    context: str | None,
    symbols: SymbolTable,
    keys: KeyTable,
    *,
    third_party: bool = False,
) -> Encoded:
    """Returns a new block, written in the lowest version that its contents allow.

    `symbols` and `keys` are the token's, and grow by what is new; for a third party's block, give empty ones.
    Raises BiscuitSerializationError for what a block cannot hold.
    """
    filled = program if isinstance(program, Filled) else Filled(program, NO_TERMS)
    template, terms = filled.template, filled.terms
    if template.policies:
        raise BiscuitSerializationError("a block holds no policies")
    known_symbols, known_keys = len(symbols), len(keys)
    writer = StatementWriter(symbols, keys)
    held_facts, held_rules, held_checks = filled.held
    facts = writer.write_facts(template.facts, held_facts, terms)
    rules = writer.write(template.rules, held_rules, terms)
    checks = writer.write(template.checks, held_checks, terms)
    scopes = Encoder(symbols.insert, keys.insert).scopes(template.scopes) if template.scopes else []
    version = max(writer.version, needed_by_block(template.scopes, third_party=third_party))
    new_symbols, new_keys = symbols.since(known_symbols), keys.since(known_keys)
    message = schema.BlockOutline(version=version, symbols=[utf8(symbol) for symbol in new_symbols])
    # most blocks have few of these, and each argument of a message costs as much as a statement
    if context is not None:
        message.context = utf8(context)
    if facts:
        message.facts.extend(facts)
    if rules:
        message.rules.extend(rules)
    if checks:
        message.checks.extend(checks)
    if scopes:
        message.scope.extend(scopes)
    if new_keys:
        message.public_keys.extend([write_key(key) for key in new_keys])
    return Encoded(serialize(message), filled, context, version, new_symbols, new_keys)


def decode_block(payload: bytes, symbols: SymbolTable, keys: KeyTable, *, external: bool) -> Block:
    """Reads a block; raises FormatError, or SignatureError when a key in it is unusable.

    `symbols` and `keys` are the token's so far. A first-party block adds to them; an external one (signed by
    a third party) neither sees nor changes them.
    """
    message = parse(schema.BlockOutline, payload)
    spend = symbols.spend
    if external:
        symbols, keys = SymbolTable(), KeyTable()
    new_symbols = tuple(map(text, message.symbols))
    new_keys: tuple[KeyScope, ...] = ()
    if message.public_keys:
        spend(KEY_COST * len(message.public_keys))
        new_keys = read_keys(message.public_keys)
    symbols.extend(new_symbols)
    keys.extend(new_keys)
    reader = StatementReader(symbols, keys, spend)
    scopes = Decoder(symbols.symbol, keys.key).scopes(message.scope) if message.scope else ()
    program = Program(
        scopes, reader.facts(message.facts), reader.rules(message.rules), reader.checks(message.checks)
    )
    check_declared(message.version, max(reader.version, needed_by_block(scopes, third_party=external)))
    context = text(message.context) if message.HasField("context") else None
    return Block(program, context, message.version, new_symbols, new_keys)
