"""Origins: sets of blocks, held as the bits of an int.

Bit 0 is the authorizer, bit n + 1 is block n (block 0 is the authority). A fact is visible to a rule when
its origin is a subset of what the rule trusts; overlap is not enough.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from capability.datalog.program import KeyParameter, KeyScope, Scope, ScopeKind

AUTHORIZER: Final = 1
AUTHORITY: Final = 2


def block_origin(index: int) -> int:
    """Returns the origin that holds block `index` alone."""
    return 2 << index


def origin_blocks(origin: int) -> tuple[int | None, ...]:
    """Returns the blocks of an origin, in order; None stands for the authorizer and comes first."""
    blocks: list[int | None] = [None] if origin & AUTHORIZER else []
    blocks += [index for index in range(origin.bit_length() - 1) if origin & block_origin(index)]
    return tuple(blocks)


def trusted_origins(
    scopes: Sequence[Scope],
    own: int,
    signed_blocks: Mapping[KeyScope, int],
    block_scopes: Sequence[Scope] = (),
) -> int:
    """Returns what a rule or query trusts.

    `scopes` is its own clause and wins over `block_scopes`, that of its block; with neither, the default:
    the authority, its own block and the authorizer. `own` is the origin of its block. `signed_blocks` gives
    for each external key the origin of all blocks that it signed.
    """
    trusted = own | AUTHORIZER
    clause: Iterable[Scope] = scopes or block_scopes
    if not clause:
        return trusted | AUTHORITY
    for scope in clause:
        if scope is ScopeKind.AUTHORITY:
            trusted |= AUTHORITY
        elif scope is ScopeKind.PREVIOUS:
            if own != AUTHORIZER:
                trusted |= (own - 1) & ~AUTHORIZER
        elif isinstance(scope, KeyParameter):
            raise ValueError(f"no key was given for the parameter {{{scope.name}}}")
        else:
            assert isinstance(scope, KeyScope)
            trusted |= signed_blocks.get(scope, 0)
    return trusted
