"""What a token's blocks hold, as text for debugging."""

from collections.abc import Iterable, Sequence

from capability.datalog import printer
from capability.datalog.terms import STRING
from capability.keys import PublicKey
from capability.wire.block import Block


def describe(blocks: Sequence[Block], external_keys: Sequence[PublicKey | None]) -> str:
    """Returns the tables and statements of `blocks`, in the layout of biscuit-python."""
    own = [block for block, key in zip(blocks, external_keys, strict=True) if key is None]
    authority, *others = map(_block, blocks, external_keys)
    following = ",\n\t".join(others)
    return (
        "{\n"
        f"    symbols: {_symbols(own)}\n"
        f"    public keys: {_keys(own)}\n"
        f"    authority: {authority}\n"
        f"    blocks: [\n        {following}\n    ]\n"
        "}"
    )


def _block(block: Block, external_key: PublicKey | None) -> str:
    program = block.program
    fields = {
        "symbols": _symbols([block]),
        "version": block.version,
        "context": _quoted(block.context or ""),
        "external key": "" if external_key is None else external_key.to_bytes().hex(),
        "public keys": _keys([block]),
        "scopes": f"[{', '.join(map(printer.print_scope, program.scopes))}]",
        "facts": _lines(map(printer.print_predicate, program.facts)),
        "rules": _lines(map(printer.print_rule, program.rules)),
        "checks": _lines(map(printer.print_check, program.checks)),
    }
    body = "".join(f"            {name}: {value}\n" for name, value in fields.items())
    return f"Block {{\n{body}        }}"


def _symbols(blocks: Iterable[Block]) -> str:
    return f"[{', '.join(_quoted(symbol) for block in blocks for symbol in block.symbols)}]"


def _quoted(text: str) -> str:
    return printer.escape_for_display(printer.print_term((STRING, text)))


def _keys(blocks: Iterable[Block]) -> str:
    return f"[{', '.join(_quoted(key.key.hex()) for block in blocks for key in block.public_keys)}]"


def _lines(items: Iterable[str]) -> str:
    text = ",\n                ".join(map(printer.escape_for_display, items))
    return f"[\n                {text}\n            ]" if text else "[]"
