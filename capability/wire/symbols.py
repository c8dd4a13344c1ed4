"""The tables that blocks refer to: strings by number, public keys by index.

A token's tables grow block by block. A third-party block has tables of its own, which start from the
defaults: were they shared, the holder could swap a key under a scope that the third party signed.
"""

from collections.abc import Iterable
from typing import Final

from capability.datalog.program import KeyScope
from capability.errors import FormatError

DEFAULT_SYMBOLS: Final = (
    *(
        "read",
        "write",
        "resource",
        "operation",
        "right",
        "time",
        "role",
        "owner",
        "tenant",
        "namespace",
        "user",
    ),
    *("team", "service", "admin", "email", "group", "member", "ip_address", "client", "client_ip", "domain"),
    *("path", "version", "cluster", "node", "hostname", "nonce", "query"),
)
OFFSET: Final = 1024
"""The number of a token's first own symbol; those between the defaults and it are invalid."""
MAX_REFERRED: Final = 1024 * 1024
"""How many characters the statements of a token may refer to, each string counted each time."""
KEY_COST: Final = 8192
"""How many characters a key of a token's tables counts as: to read one of P-256 takes over 0.1 ms."""
QUERY: Final = DEFAULT_SYMBOLS.index("query")
"""The symbol that names the head of checks and policies on the wire."""

_DEFAULT_INDEX: Final = {symbol: index for index, symbol in enumerate(DEFAULT_SYMBOLS)}


class SymbolTable:
    """Strings by number. Begins with the default symbols; its own are numbered from OFFSET."""

    __slots__ = ("_index", "_own", "_referred")

    def __init__(self, own: Iterable[str] = ()) -> None:
        self._referred = 0
        self._own: list[str] = list(own)
        self._index = {symbol: at for at, symbol in reversed(list(enumerate(self._own, OFFSET)))}

    @property
    def own(self) -> tuple[str, ...]:
        """The symbols beside the defaults, in order."""
        return tuple(self._own)

    def __len__(self) -> int:
        return len(self._own)

    def copy(self) -> "SymbolTable":
        """Returns a table that grows apart from this one."""
        table = SymbolTable.__new__(SymbolTable)
        table._own = self._own.copy()
        table._index = self._index.copy()
        table._referred = self._referred
        return table

    def spend(self, characters: int) -> None:
        """Counts what the statements of the token refer to; raises FormatError past MAX_REFERRED.

        One long string may be referred to from thousands of places, and each of them prints it.
        """
        self._referred += characters
        if self._referred > MAX_REFERRED:
            raise FormatError(
                f"the token's statements and keys refer to more than {MAX_REFERRED} characters",
                code="format.size",
            )

    def since(self, length: int) -> tuple[str, ...]:
        """Returns the symbols added after the table had `length` of its own."""
        return tuple(self._own[length:])

    def insert(self, symbol: str) -> int:
        """Returns the number of `symbol`, adding it when it is new."""
        number = _DEFAULT_INDEX.get(symbol)
        if number is None:
            number = self._index.get(symbol)
        if number is None:
            number = self._index[symbol] = OFFSET + len(self._own)
            self._own.append(symbol)
        return number

    def symbol(self, index: int) -> str:
        """Returns the symbol with number `index`; raises FormatError when there is none."""
        if index >= OFFSET:
            try:
                return self._own[index - OFFSET]
            except IndexError:
                pass
        elif index < len(DEFAULT_SYMBOLS):
            return DEFAULT_SYMBOLS[index]
        raise FormatError(f"symbol {index} is not declared", code="format.symbol")

    def all_of(self, indices: Iterable[int]) -> tuple[str, ...]:
        """Returns the symbols with these numbers; raises as `symbol`."""
        own = self._own
        try:
            return tuple(
                [own[index - OFFSET] if index >= OFFSET else DEFAULT_SYMBOLS[index] for index in indices]
            )
        except IndexError:
            return tuple(map(self.symbol, indices))

    def extend(self, symbols: Iterable[str]) -> None:
        """Adds what a block declares; raises FormatError for a symbol that stood here before.

        A symbol twice in one block is accepted: it then has two numbers.
        """
        declared = list(symbols)
        if not declared:
            return
        if not (self._index.keys().isdisjoint(declared) and _DEFAULT_INDEX.keys().isdisjoint(declared)):
            raise FormatError("a block declares a symbol that was declared before", code="format.symbol")
        for symbol in declared:
            self._index.setdefault(symbol, OFFSET + len(self._own))
            self._own.append(symbol)


class KeyTable:
    """Public keys by index, none of them twice."""

    __slots__ = ("_index", "_keys")

    def __init__(self, keys: Iterable[KeyScope] = ()) -> None:
        self._keys: list[KeyScope] = list(keys)
        self._index = {key: at for at, key in enumerate(self._keys)}

    @property
    def keys(self) -> tuple[KeyScope, ...]:
        """The keys, in order."""
        return tuple(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def copy(self) -> "KeyTable":
        """Returns a table that grows apart from this one."""
        table = KeyTable.__new__(KeyTable)
        table._keys = self._keys.copy()
        table._index = self._index.copy()
        return table

    def since(self, length: int) -> tuple[KeyScope, ...]:
        """Returns the keys added after the table had `length` of them."""
        return tuple(self._keys[length:])

    def insert(self, key: KeyScope) -> int:
        """Returns the index of `key`, adding it when it is new."""
        index = self._index.setdefault(key, len(self._keys))
        if index == len(self._keys):
            self._keys.append(key)
        return index

    def key(self, index: int) -> KeyScope:
        """Returns the key at `index`; raises FormatError when there is none."""
        if 0 <= index < len(self._keys):
            return self._keys[index]
        raise FormatError(f"public key {index} is not declared", code="format.key_table")

    def extend(self, keys: Iterable[KeyScope]) -> None:
        """Adds what a block declares; raises FormatError for a key that the table has."""
        for key in keys:
            if key in self._index:
                raise FormatError(
                    "a block declares a public key that was declared before", code="format.key_table"
                )
            self.insert(key)
