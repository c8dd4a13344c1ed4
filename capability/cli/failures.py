"""How commands fail: the exit codes, and what is said for each error.

    0  done, allowed
    1  denied (revoked and expired are denials)
    2  usage: arguments, configuration, or a file that cannot be read or written
    3  the token or a key is bad
    4  the Datalog is bad, or it failed while it ran
    5  the store is unavailable
    6  a limit was reached
    70 a defect of this program; 130 interrupted; 141 nobody reads the output any more

Errors go to stderr, as `error: ...` and then `hint: ...`: lower case, no full stop, one line each but for
source lines that are quoted, indented, below the error. No error shows a whole token or a private key.
"""

import re
from enum import IntEnum
from typing import Final

from capability import errors
from capability.datalog import errors as language


class Exit(IntEnum):
    """What `cap` exits with."""

    DONE = 0
    DENIED = 1
    USAGE = 2
    TOKEN_OR_KEY = 3
    PROGRAM = 4
    STORE = 5
    LIMIT = 6
    DEFECT = 70
    INTERRUPTED = 130
    OUTPUT_CLOSED = 141


class Failure(Exception):
    """Ends a command: exit code, stable code, one line for people, and what to try."""

    def __init__(self, exit: Exit, code: str, message: str, hint: str) -> None:
        self.exit = exit
        self.code = code
        self.message = message
        self.hint = hint
        super().__init__(message)


def usage(message: str, hint: str, code: str = "usage") -> Failure:
    """Returns the failure of someone who has to call the command in another way."""
    return Failure(Exit.USAGE, code, message, hint)


EXITS: Final = (
    (errors.UnknownRootKey, Exit.TOKEN_OR_KEY),
    (errors.BiscuitValidationError, Exit.TOKEN_OR_KEY),
    (errors.KeyFormatError, Exit.TOKEN_OR_KEY),
    (errors.SealedError, Exit.TOKEN_OR_KEY),
    (errors.BiscuitBuildError, Exit.PROGRAM),
    (errors.BiscuitBlockError, Exit.TOKEN_OR_KEY),
    (errors.BiscuitSerializationError, Exit.TOKEN_OR_KEY),
    (errors.LanguageError, Exit.PROGRAM),
    (errors.ExecutionFailed, Exit.PROGRAM),
    (errors.LimitReached, Exit.LIMIT),
    (errors.AuthorizationError, Exit.DENIED),
    (errors.StoreURLError, Exit.USAGE),
    (errors.StoreNotEmpty, Exit.USAGE),
    (errors.StoreDumpError, Exit.USAGE),
    (errors.StoreError, Exit.STORE),
    (language.LimitExceeded, Exit.LIMIT),
    (language.DatalogError, Exit.PROGRAM),
)
"""The exit code of each class of error; the first that fits counts."""

HINTS: Final = {
    "format.version": "the token was made by a newer or a much older program",
    "format": "pass a whole token, as `cap mint` prints it",
    "signature": "check that the public key is the issuer's, and that the token was not changed on its way",
    "key.unknown": "add the key that signed the token to the key set",
    "key.format": "a key is ed25519/HEX or secp256r1/HEX, or a PEM or DER file; `cap keygen` makes one",
    "token.sealed": "a sealed token stays as it is: narrow it before sealing",
    "token.block": "`cap inspect` shows the blocks of a token",
    "token": "`cap inspect` shows what a token holds",
    "language.parameter": "give each {name} in the Datalog a value: --param name=value or name:type=value",
    "language": 'see the language: facts `right("orders");`, checks `check if operation("read");`',
    "execution.unsupported_regex": "write the pattern with what RE2 and Rust's regex both read",
    "execution": "an expression failed on some fact, so nothing was decided",
    "limit": "simplify the Datalog, or state fewer facts",
    "store.url": "use sqlite:///PATH, postgresql://USER@HOST/DATABASE or redis://HOST/NUMBER",
    "store.schema": "name another store, make one with `cap store init`, or restore this one from a copy",
    "store.rollback": "an old copy was put in its place: restore a newer one, and revoke again what it lacks",
    "store.not_empty": "name a new store: `cap store init --store sqlite:///new.db` makes one",
    "store.dump": "export the store again, and copy the whole file",
    "store.unavailable.behind": "wait until the store has it, or name the one that `cap revoke` wrote to",
    "store.unavailable.postgres": "pip install 'capability-tokens[postgres]'",
    "store.unavailable.redis": "pip install 'capability-tokens[redis]'",
    "store.unavailable.signed": "check where they are; `cap revoked export` signs them",
    "store.unavailable": "check the path or server; `cap mint` and `cap revoke` make a store that is missing",
    "store": "check the store's URL and permissions",
    "revocations.signature": "name the key that signs with --revocations-key, and fetch the file again",
    "revocations.name": "name the list with --revocations-name, or fetch the one that is meant",
    "revocations.expired": "fetch what `cap revoked export` signed last",
    "revocations.base": "fetch a full list, or the deltas in between",
    "revocations": "fetch the file again; `cap revoked verify` says what is in it",
    "revoked": "ask the issuer for a new token",
    "denied": "`cap inspect` shows what the token still allows",
}
"""What to try, by code or by the longest beginning of it that ends at a dot."""


def hint_for(code: str) -> str:
    """Returns what to try after an error with this code."""
    while code not in HINTS and "." in code:
        code = code.rpartition(".")[0]
    return HINTS.get(code, "see `cap --help`")


def failure_of(error: errors.CapabilityError | language.DatalogError) -> Failure:
    """Returns what `cap` says about an error of the library."""
    exit_code = next((code for kind, code in EXITS if isinstance(error, kind)), Exit.DEFECT)
    return Failure(exit_code, error.code, str(error) or error.code, hint_for(error.code))


_PRIVATE_KEY: Final = re.compile(r"(-private/)[0-9A-Za-z]+")
_LONG_RUN: Final = re.compile(r"[A-Za-z0-9_=+/-]{80,}")


def redact(text: str) -> str:
    """Returns `text` without whole tokens and private keys, which some message might quote."""
    text = _PRIVATE_KEY.sub(r"\1...", text)
    return _LONG_RUN.sub(lambda run: run[0] if _is_harmless(run[0]) else f"{run[0][:8]}...", text)


def _is_harmless(run: str) -> bool:
    """True for revocation ids and public keys, which are all hex, and for paths, whose parts are short."""
    if re.fullmatch(r"[0-9a-f]+|(ed25519|secp256r1)/[0-9a-f]+", run):
        return True
    return all(len(part) < 40 for part in run.split("/"))
