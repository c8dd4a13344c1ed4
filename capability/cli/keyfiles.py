"""Keys from files, from the environment and from text; and how a key file is written."""

import os
import re
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from capability.cli.failures import Exit, Failure, usage
from capability.cli.inputs import Session, read_file
from capability.cli.output import write_file
from capability.configuration import is_public_key_text
from capability.errors import KeyFormatError

if TYPE_CHECKING:
    from capability.keys import PrivateKey, PublicKey
    from capability.keyset import KeySet

_PRIVATE_TEXT: Final = re.compile(r"[a-z0-9]+-private/")


def private_key(session: Session, flag: str | None) -> "PrivateKey":
    """Returns the private key of --private-key, $CAP_PRIVATE_KEY (the key, or its file), or cap.toml."""
    if flag is not None:
        if _is_private(flag):
            raise usage(
                "a private key was given as an argument, which other processes can read",
                "name the file that holds it, or set CAP_PRIVATE_KEY",
                "usage.key_argument",
            )
        return read_private_key(flag)
    value = os.environ.get("CAP_PRIVATE_KEY", "").strip()
    if value:
        if _is_private(value):
            return _parse_private(value.encode(), "CAP_PRIVATE_KEY")
        return read_private_key(value)
    if session.config.private_key is not None:
        return read_private_key(session.config.private_key)
    raise usage(
        "no private key was given",
        "name its file with --private-key; `cap keygen` makes one",
        "usage.no_key",
    )


def read_private_key(path: str) -> "PrivateKey":
    """Returns the private key that a file holds as text, PEM or DER. Others must not be able to read it."""

    def check(found: os.stat_result) -> None:
        if os.name == "posix" and stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
            raise Failure(
                Exit.TOKEN_OR_KEY,
                "key.permissions",
                f"others can read the private key in {path!r} (mode {stat.S_IMODE(found.st_mode):04o})",
                f"chmod 600 {shlex.quote(path)}",
            )

    return _parse_private(read_file(path, "private key", check), repr(path))


def public_keys(session: Session, key: str | None, key_set: str | None) -> "PublicKey | KeySet | None":
    """Returns the root key or keys to verify by, or None when none are configured.

    The first source that says anything wins: the flags, then the environment, then cap.toml.
    """
    if key is None and key_set is None:
        key, key_set = (
            os.environ.get("CAP_PUBLIC_KEY", "").strip() or None,
            os.environ.get("CAP_KEYS") or None,
        )
    if key is None and key_set is None:
        key, key_set = session.config.public_key, session.config.keys
    if key is not None and key_set is not None:
        raise usage("both a public key and a key set were given", "name one of the two")
    if key_set is not None:
        return read_key_set(key_set)
    return None if key is None else public_key(key)


def required_public_keys(session: Session, key: str | None, key_set: str | None) -> "PublicKey | KeySet":
    """Returns the root key or keys to verify by; raises Failure when none are configured."""
    found = public_keys(session, key, key_set)
    if found is None:
        raise usage(
            "no public key was given, so nothing can be verified",
            "pass the issuer's key with --public-key, or set CAP_PUBLIC_KEY",
            "usage.no_key",
        )
    return found


def public_key(value: str) -> "PublicKey":
    """Returns the public key of a text, or of a file that holds it as text, PEM or DER."""
    from capability.keys import PublicKey

    if is_public_key_text(value):
        return PublicKey(value)
    if _is_private(value):
        raise usage("that is a private key, not a public one", "`cap keygen` writes the public one beside it")
    return _parse_public(read_file(value, "public key"), repr(value))


def write_key_pair(key: "PrivateKey", path: Path, *, overwrite: bool) -> Path:
    """Writes the private key (mode 0600) and beside it the public one; returns the latter's path."""
    if not path.name:
        raise usage(
            f"{str(path)!r} is a folder", "name the file that is to hold the private key", "file.folder"
        )
    public_path = path.with_name(f"{path.name}.pub")
    if os.path.isdir(public_path) or (os.path.exists(public_path) and not overwrite):
        raise usage(
            f"{str(public_path)!r} exists already", "choose another name, or pass --force", "file.exists"
        )
    write_file(path, f"{key.text()}\n".encode(), mode=0o600, overwrite=overwrite)
    write_file(public_path, f"{key.public_key!r}\n".encode(), mode=0o644, overwrite=overwrite)
    return public_path


def read_key_set(path: str) -> "KeySet":
    """Returns the key set that a file holds."""
    from capability.keyset import KeySet

    content = read_file(path, "key set")
    try:
        return KeySet.from_json(content.decode())
    except UnicodeDecodeError as error:
        raise _bad_key(repr(path), "the key set is not text") from error
    except KeyFormatError as error:
        raise _bad_key(repr(path), str(error)) from error


def _is_private(value: str) -> bool:
    return _PRIVATE_TEXT.match(value) is not None or "PRIVATE KEY-----" in value


def _parse_private(content: bytes, where: str) -> "PrivateKey":
    from capability.keys import PrivateKey

    text = _as_text(content)
    try:
        if text is None:
            return PrivateKey.from_der(content)
        if text.startswith("-----BEGIN"):
            return PrivateKey.from_pem(text)
        if is_public_key_text(text):
            raise _bad_key(where, "this is a public key, and a private one is needed")
        return PrivateKey(text)
    except KeyFormatError as error:
        raise _bad_key(where, str(error)) from error


def _parse_public(content: bytes, where: str) -> "PublicKey":
    from capability.keys import PublicKey

    text = _as_text(content)
    try:
        if text is None:
            return PublicKey.from_der(content)
        if _is_private(text):
            raise _bad_key(where, "this is a private key, and a public one is needed")
        return PublicKey.from_pem(text) if text.startswith("-----BEGIN") else PublicKey(text)
    except KeyFormatError as error:
        raise _bad_key(where, str(error)) from error


def _as_text(content: bytes) -> str | None:
    """Returns the text of a key's text or PEM; None for what can only be DER, which begins with 0x30 0x.."""
    try:
        text = content.decode("ascii").strip()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() or text.startswith("-----BEGIN") else None


def _bad_key(where: str, message: str) -> Failure:
    return Failure(
        Exit.TOKEN_OR_KEY,
        "key.format",
        f"{where}: {message}",
        "a key is ed25519/HEX or secp256r1/HEX, or a PEM or DER file; `cap keygen` makes one",
    )
