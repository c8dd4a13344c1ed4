"""Blocks: a Datalog program, a context, and the symbols and keys that they declare."""

from dataclasses import dataclass

from capability.datalog.program import KeyScope, Program
from capability.errors import BiscuitSerializationError
from capability.wire import schema_pb2
from capability.wire.decoder import Decoder, read_keys
from capability.wire.encoder import Encoder
from capability.wire.messages import parse, serialize, text, utf8, write_key
from capability.wire.statements import StatementReader, StatementWriter
from capability.wire.symbols import KeyTable, SymbolTable
from capability.wire.versions import check_declared, needed_by_block, required_version

__all__ = ["Block", "Encoded", "decode_block", "encode_block", "required_version"]


@dataclass(frozen=True, slots=True)
class Block:
    """A block, read. `symbols` and `public_keys` are those that the block itself declares."""

    program: Program
    context: str | None
    version: int
    symbols: tuple[str, ...]
    public_keys: tuple[KeyScope, ...]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A block and its bytes, which are what gets signed."""

    payload: bytes
    block: Block


def encode_block(
    program: Program,
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
    if program.policies:
        raise BiscuitSerializationError("a block holds no policies")
    known_symbols, known_keys = len(symbols), len(keys)
    writer = StatementWriter(symbols, keys)
    facts = writer.write_facts(program.facts)
    rules = writer.write(program.rules)
    checks = writer.write(program.checks)
    scopes = Encoder(symbols.insert, keys.insert).scopes(program.scopes) if program.scopes else []
    version = max(writer.version, needed_by_block(program.scopes, third_party=third_party))
    new_symbols, new_keys = symbols.since(known_symbols), keys.since(known_keys)
    message = schema_pb2.BlockOutline(version=version, symbols=[utf8(symbol) for symbol in new_symbols])
    # most blocks have few of these, and each argument of a message costs as much as a statement
    if context is not None:
        message.context = utf8(context)
    if facts:
        message.facts.extend(facts)
    if rules:
        message.rules.extend(rules)
    if checks:
        message.checks.extend(checks)
    if program.scopes:
        message.scope.extend(scopes)
    if new_keys:
        message.public_keys.extend([write_key(key) for key in new_keys])
    return Encoded(serialize(message), Block(program, context, version, new_symbols, new_keys))


def decode_block(payload: bytes, symbols: SymbolTable, keys: KeyTable, *, external: bool) -> Block:
    """Reads a block; raises FormatError, or SignatureError when a key in it is unusable.

    `symbols` and `keys` are the token's so far. A first-party block adds to them; an external one (signed by
    a third party) neither sees nor changes them.
    """
    message = parse(schema_pb2.BlockOutline, payload)
    spend = symbols.spend
    if external:
        symbols, keys = SymbolTable(), KeyTable()
    new_symbols = tuple(map(text, message.symbols))
    new_keys = read_keys(message.public_keys) if message.public_keys else ()
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
