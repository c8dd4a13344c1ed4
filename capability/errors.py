"""Errors of tokens, keys, decisions and stores.

    CapabilityError
    ├── BiscuitValidationError        token.invalid           the token cannot be used at all
    │   ├── FormatError               format.*                not a token: text, wire, symbols, nesting, size
    │   │   └── UnsupportedVersion    format.version          a version this engine does not read
    │   ├── SignatureError            signature.*             a signature, a proof or a key in it is wrong
    │   ├── UnknownRootKey            key.unknown             no key of the key set has the token's key id
    │   └── LanguageError             language.block          Datalog that came by wire and cannot be run
    ├── KeyFormatError (a ValueError) key.format              text or bytes that are not a usable key
    ├── BiscuitBuildError             token.build             a token cannot be made of this
    ├── BiscuitBlockError             token.block             a block cannot be appended, or is not there
    │   └── SealedError               token.sealed            cannot be narrowed (also a BiscuitBuildError)
    ├── BiscuitSerializationError     token.serialization     a token or snapshot cannot be written
    ├── AuthorizationError            authorization           anything but "allowed"
    │   ├── Denied                    denied                  a check failed, or no allow policy matched
    │   ├── Revoked                   revoked                 an id of the chain is revoked
    │   ├── ExecutionFailed           execution.*             an expression failed
    │   └── LimitReached              limit.*                 evaluation stopped at a limit
    ├── ConfigurationError            config.*                settings that are missing or misspelt
    └── StoreError                    store                   a store could not answer
        ├── StoreUnavailable          store.unavailable       now; later it may
        ├── StoreSchemaError          store.schema            its file or tables are not ours, or newer
        ├── StoreRolledBack           store.rollback          it is older than what was seen of it before
        ├── StoreNotEmpty             store.not_empty         a dump goes into an empty store only
        ├── StoreDumpError            store.dump              a dump was cut off, changed, or is none
        ├── SignedRevocationsError    revocations.*           signed revocations that are not to be gone by
        └── StoreURLError (a ValueError) store.url            no backend is reached by this URL

Every class has a stable `code`; where a class stands for several reasons (`format.*`), the object has the
precise one. Errors of the language itself are in `capability.datalog.errors`. No message holds a private
key or a whole token.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capability.decision import Decision, FailedCheck, MatchedPolicy


class CapabilityError(Exception):
    """Base of all errors of this package but those of the language."""

    code: str = "capability"

    def __init__(self, message: str = "", *, code: str | None = None) -> None:
        if code is not None:
            self.code = code
        super().__init__(message)


class BiscuitValidationError(CapabilityError):
    """The token is not one, or cannot be trusted."""

    code = "token.invalid"


class FormatError(BiscuitValidationError):
    """The bytes or the text are not a token that this engine reads."""

    code = "format.invalid"


class UnsupportedVersion(FormatError):
    """A block, signature or snapshot declares a version that this engine does not read."""

    code = "format.version"


class SignatureError(BiscuitValidationError):
    """A signature does not verify, or a key or proof in the chain is unusable."""

    code = "signature.invalid"


class UnknownRootKey(BiscuitValidationError):
    """No usable root key has the id that the token names."""

    code = "key.unknown"


class KeyFormatError(CapabilityError, ValueError):
    """Text or bytes that are not a usable key."""

    code = "key.format"


class BiscuitBuildError(CapabilityError):
    """A token cannot be made of what was given."""

    code = "token.build"


class BiscuitBlockError(CapabilityError):
    """A block cannot be appended, or the token has no such block."""

    code = "token.block"


class SealedError(BiscuitBlockError, BiscuitBuildError):
    """The token is sealed: nothing can be appended any more.

    Also a BiscuitBuildError, which is what biscuit-python raises here.
    """

    code = "token.sealed"


class BiscuitSerializationError(CapabilityError):
    """A token, block or snapshot cannot be written."""

    code = "token.serialization"


class LanguageError(BiscuitValidationError):
    """Datalog that came by wire and that cannot be run."""

    code = "language.block"


class AuthorizationError(CapabilityError):
    """Anything but "allowed". `decision` says what decided, where there is one.

    The text is for people and for programs that match the ecosystem's sentences; read `code`, `policy` and
    `checks` instead.
    """

    code = "authorization"

    def __init__(
        self, message: str = "", *, code: str | None = None, decision: "Decision | None" = None
    ) -> None:
        super().__init__(message, code=code)
        self.decision = decision

    @property
    def policy(self) -> "MatchedPolicy | None":
        """The policy that matched first: its kind, index and source."""
        return None if self.decision is None else self.decision.policy

    @property
    def checks(self) -> "tuple[FailedCheck, ...]":
        """The checks that failed: the block, index and source of each, and why."""
        return () if self.decision is None else self.decision.failed_checks


class Denied(AuthorizationError):
    """A check failed, a deny policy matched, or no policy matched."""

    code = "denied"


class Revoked(AuthorizationError):
    """An id of the token's chain is revoked."""

    code = "revoked"


class ExecutionFailed(AuthorizationError):
    """An expression failed while it was evaluated."""

    code = "execution"


class LimitReached(AuthorizationError):
    """Evaluation stopped at a limit, so nothing was decided."""

    code = "limit"


class ConfigurationError(CapabilityError):
    """Settings are missing, or say what nobody understands; `hint` says what to do about it."""

    code = "config"

    def __init__(self, message: str, hint: str, code: str) -> None:
        self.hint = hint
        super().__init__(message, code=code)


class StoreError(CapabilityError):
    """A store could not answer."""

    code = "store"


class StoreUnavailable(StoreError):
    """The store cannot be asked now; nothing may be allowed on the strength of its silence."""

    code = "store.unavailable"


class StoreSchemaError(StoreError):
    """The store's file or tables are not ours, are damaged, or are of a newer version."""

    code = "store.schema"


class StoreRolledBack(StoreError):
    """The store is behind a revision that was seen before: a copy was restored, and revocations are gone.

    `seen` is the revision that was seen, `found` the one that the store has now.
    """

    code = "store.rollback"

    def __init__(self, seen: int, found: int) -> None:
        self.seen = seen
        self.found = found
        super().__init__(f"the store is at revision {found}, and had revision {seen} before")


class StoreNotEmpty(StoreError):
    """A dump is loaded into an empty store only: two registries cannot be merged."""

    code = "store.not_empty"

    def __init__(self) -> None:
        super().__init__("the store is not empty, and a dump goes into an empty one only")


class StoreDumpError(StoreError):
    """A dump was cut off or changed, holds what no store could have held, or is none."""

    code = "store.dump"


class SignedRevocationsError(StoreError):
    """A file of signed revocations is refused; what was known before it stays in force.

    The code says why: `revocations.format` (no such file, or truncated), `.version`, `.size`, `.signature`
    (another key, or altered), `.expired`, `.early`, `.rollback` (older than what is known), `.base` (a delta
    that begins elsewhere), `.name` (another list of the same signer).
    """

    code = "revocations.invalid"


class StoreURLError(StoreError, ValueError):
    """No store is reached by this URL: another scheme, or no path."""

    code = "store.url"
