"""Snapshots of authorizers: what was put together, the facts so far, and the limits.

All blocks share the world's symbol and key tables, those of third parties too. A snapshot carries no
signatures: who loads one trusts its bytes. A builder has the same form, without blocks and facts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from capability.datalog.origins import AUTHORIZER, block_origin, origin_blocks
from capability.datalog.program import KeyScope, Predicate, Program
from capability.errors import BiscuitSerializationError, FormatError, UnsupportedVersion
from capability.wire import schema
from capability.wire.decoder import Decoder, read_keys
from capability.wire.encoder import Encoder
from capability.wire.messages import parse, read_key, serialize, text, utf8, write_key
from capability.wire.symbols import KeyTable, SymbolTable
from capability.wire.versions import LATEST, MAX_VERSION, MIN_VERSION, check_version, required_version

_U64_MAX: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class LoadedBlock:
    """A block of a token as an authorizer has it: what it says, and which third party signed it, if any."""

    program: Program
    external_key: KeyScope | None = None
    context: str | None = None
    version: int = MIN_VERSION


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a snapshot says. `program` is the authorizer's; times are in nanoseconds.

    `facts` are all facts with their origins. A positive `execution_time` means that the rules have run.
    """

    max_facts: int
    max_iterations: int
    max_time: int
    program: Program
    blocks: tuple[LoadedBlock, ...] = ()
    facts: tuple[tuple[int, Predicate], ...] = ()
    iterations: int = 0
    execution_time: int = 0


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Returns the bytes of a snapshot; raises BiscuitSerializationError for what cannot be written."""
    symbols, keys = SymbolTable(), KeyTable()
    encoder = Encoder(symbols.insert, keys.insert)
    program = snapshot.program
    world = schema.AuthorizerWorld(
        version=LATEST,
        blocks=[_write_block(encoder, block) for block in snapshot.blocks],
        authorizer_block=_write_block(
            encoder, LoadedBlock(program, version=required_version(program, third_party=False))
        ),
        authorizer_policies=[encoder.policy(policy) for policy in program.policies],
        generated_facts=_write_facts(encoder, snapshot.facts),
        iterations=snapshot.iterations,
    )
    world.symbols.extend(map(utf8, symbols.own))
    world.public_keys.extend(map(write_key, keys.keys))
    return serialize(
        schema.AuthorizerSnapshot(
            limits=schema.RunLimits(
                max_facts=_u64(snapshot.max_facts),
                max_iterations=_u64(snapshot.max_iterations),
                max_time=_u64(snapshot.max_time),
            ),
            execution_time=_u64(snapshot.execution_time),
            world=world,
        )
    )


def decode_snapshot(data: bytes) -> Snapshot:
    """Reads a snapshot; raises FormatError, or SignatureError when a key in it is unusable."""
    message = parse(schema.AuthorizerSnapshot, data)
    world = message.world
    if world.HasField("version") and not MIN_VERSION <= world.version <= MAX_VERSION:
        raise UnsupportedVersion(f"snapshot version {world.version}; {MIN_VERSION} to {MAX_VERSION} are read")
    symbols = SymbolTable(text(symbol) for symbol in world.symbols)
    decoder = Decoder(symbols.symbol, KeyTable(read_keys(world.public_keys)).key)
    authorizer = _read_block(decoder, world.authorizer_block)
    if authorizer.external_key is not None:
        raise FormatError("an authorizer is not signed by a third party", code="format.snapshot")
    blocks = tuple(_read_block(decoder, block) for block in world.blocks)
    if blocks and blocks[0].external_key is not None:
        raise FormatError("the authority block is not a third party's", code="format.snapshot")
    own = authorizer.program
    return Snapshot(
        max_facts=message.limits.max_facts,
        max_iterations=message.limits.max_iterations,
        max_time=message.limits.max_time,
        program=Program(
            own.scopes,
            own.facts,
            own.rules,
            own.checks,
            tuple(decoder.policy(policy) for policy in world.authorizer_policies),
        ),
        blocks=blocks,
        facts=tuple(_read_facts(decoder, world.generated_facts, len(blocks))),
        iterations=world.iterations,
        execution_time=message.execution_time,
    )


def _write_block(encoder: Encoder, block: LoadedBlock) -> schema.SnapshotBlock:
    program = block.program
    return schema.SnapshotBlock(
        context=None if block.context is None else utf8(block.context),
        version=block.version,
        facts=map(encoder.fact, program.facts),
        rules=map(encoder.rule, program.rules),
        checks=map(encoder.check, program.checks),
        scope=encoder.scopes(program.scopes),
        external_key=None if block.external_key is None else write_key(block.external_key),
    )


def _read_block(decoder: Decoder, message: schema.SnapshotBlock) -> LoadedBlock:
    program = Program(
        decoder.scopes(message.scope),
        tuple(map(decoder.fact, message.facts)),
        tuple(map(decoder.rule, message.rules)),
        tuple(map(decoder.check, message.checks)),
    )
    external = read_key(message.external_key).scope if message.HasField("external_key") else None
    version = message.version if message.HasField("version") else MIN_VERSION
    check_version(version, program, third_party=external is not None)
    context = text(message.context) if message.HasField("context") else None
    return LoadedBlock(program, external, context, version)


def _write_facts(encoder: Encoder, facts: Iterable[tuple[int, Predicate]]) -> list[schema.GeneratedFacts]:
    groups: dict[int, list[Predicate]] = {}
    for origin, fact in facts:
        groups.setdefault(origin, []).append(fact)
    return [
        schema.GeneratedFacts(
            origins=[_write_origin(block) for block in origin_blocks(origin)],
            facts=map(encoder.fact, groups[origin]),
        )
        for origin in sorted(groups)
    ]


def _write_origin(block: int | None) -> schema.Origin:
    if block is None:
        return schema.Origin(authorizer=schema.Empty())
    return schema.Origin(origin=block)


def _read_facts(
    decoder: Decoder, groups: Iterable[schema.GeneratedFacts], blocks: int
) -> Iterable[tuple[int, Predicate]]:
    for group in groups:
        origin = 0
        for member in group.origins:
            origin |= _read_origin(member, blocks)
        # INVARIANT: a fact of no origin would be trusted by every block.
        if not origin:
            raise FormatError("facts without an origin", code="format.snapshot")
        for fact in group.facts:
            yield origin, decoder.fact(fact)


def _read_origin(message: schema.Origin, blocks: int) -> int:
    match message.WhichOneof("content"):
        case "authorizer":
            return AUTHORIZER
        case "origin" if message.origin < blocks:
            return block_origin(message.origin)
        case "origin":
            raise FormatError("facts of a block that is not there", code="format.snapshot")
        case _:
            raise FormatError("an empty origin", code="format.snapshot")


def _u64(value: int) -> int:
    if not 0 <= value <= _U64_MAX:
        raise BiscuitSerializationError("a limit does not fit in 64 bits")
    return value
