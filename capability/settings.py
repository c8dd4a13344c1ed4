"""What a guard is made of, from the environment and cap.toml: see `Guard.from_env`."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from capability.configuration import (
    NO_STORE,
    Audit,
    Config,
    find,
    is_datalog,
    is_public_key_text,
    parse,
    registered_only,
)
from capability.errors import ConfigurationError, KeyFormatError
from capability.keys import PublicKey
from capability.keyset import KeySet
from capability.prefixes import checked_prefixes
from capability.revocation import RevocationSource
from capability.store import open_store

MAX_BYTES: Final = 1 << 20
"""More than any key, key set or policy needs; nothing longer is read."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The parts of a guard; `revocations` is None where no store is to be asked.

    `audit` says what is written to the trail of the store `store`; None where nothing is.
    """

    keys: KeySet | PublicKey
    policy: str
    revocations: RevocationSource | None
    prefixes: tuple[str, ...]
    audit: Audit | None
    store: str


def settings_from(environment: Mapping[str, str]) -> Settings:
    """Returns what `environment` says, and cap.toml where it says nothing; opens the store.

    Raises ConfigurationError, KeyFormatError for a key that is none, and StoreError.
    """
    config = read_config(environment.get("CAP_CONFIG"))
    keys = _keys(environment, config)
    return Settings(
        keys,
        _policy(environment, config),
        _revocations(environment, config, keys),
        read_prefixes(environment, config),
        config.audit,
        _store(environment, config),
    )


def read_config(named: str | None) -> Config:
    """Returns what the cap.toml of that path says, or the one that is found.

    Raises ConfigurationError for one that cannot be read or used.
    """
    path = Path(named) if named else find()
    if path is None:
        return Config()
    content, mode = _read(str(path), "configuration")
    return parse(path, content, mode)


def _keys(environment: Mapping[str, str], config: Config) -> KeySet | PublicKey:
    key, key_set = environment.get("CAP_PUBLIC_KEY", "").strip() or None, environment.get("CAP_KEYS") or None
    if key is None and key_set is None:
        key, key_set = config.public_key, config.keys
    if key is not None and key_set is not None:
        raise ConfigurationError(
            "both a public key and a key set are set", "set one of the two", "config.value"
        )
    if key_set is not None:
        return KeySet.from_json(_content(key_set, "key set"))
    if key is None:
        raise ConfigurationError(
            "no public key is set, so nothing can be verified",
            "set CAP_PUBLIC_KEY or CAP_KEYS, or name one in cap.toml",
            "config.missing",
        )
    return _public_key(key)


def _public_key(key: str) -> PublicKey:
    return PublicKey(key) if is_public_key_text(key) else _read_key(key)


def _read_key(path: str) -> PublicKey:
    content = _content(path, "public key")
    if content.startswith(b"0"):  # DER, a sequence: no text of a key begins so
        return PublicKey.from_der(content)
    try:
        text = content.decode("ascii").strip()
    except UnicodeDecodeError as error:
        raise KeyFormatError(f"{path!r} holds no public key") from error
    return PublicKey.from_pem(text) if text.startswith("-----BEGIN") else PublicKey(text)


def _policy(environment: Mapping[str, str], config: Config) -> str:
    named = environment.get("CAP_POLICY", "").strip()
    if is_datalog(named):
        return named
    policy = named or config.policy
    if policy is None:
        raise ConfigurationError(
            "no policy is set, so nobody is let in",
            "set CAP_POLICY to Datalog or to a file of it, or name one in cap.toml",
            "config.missing",
        )
    try:
        return _content(policy, "policy").decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"{policy!r} is not UTF-8", "save the policy as UTF-8", "config.value"
        ) from error


def _revocations(
    environment: Mapping[str, str], config: Config, roots: KeySet | PublicKey
) -> RevocationSource | None:
    file, url = environment.get("CAP_REVOCATIONS") or None, environment.get("CAP_STORE") or None
    if file is None and url is None:
        file, url = config.revocations, config.store
    only = registered_only(environment, config)
    if file is not None:
        if url is not None:
            raise ConfigurationError(
                "both a store and signed revocations are set", "set one of the two", "config.value"
            )
        if only:
            raise ConfigurationError(
                "signed revocations do not tell what is registered",
                "name a store in their place, or leave registered_only out",
                "config.value",
            )
        return _signed(file, environment, config, roots)
    if url is None:
        raise ConfigurationError(
            "no store is set, so nobody can tell what was revoked",
            f"set CAP_STORE, or set it to {NO_STORE!r} if tokens are never revoked",
            "config.missing",
        )
    max_stale = read_max_stale(environment) or config.max_stale
    if only and (url == NO_STORE or max_stale is not None):
        raise ConfigurationError(
            "only a store that is asked each time can tell what is registered",
            "name a store and leave max_stale out, or leave registered_only out",
            "config.value",
        )
    if url == NO_STORE:
        return None
    store = open_store(url)
    if only:
        from capability.store.allowlist import AllowList

        return AllowList(store)
    if max_stale is None:
        return store
    from capability.store.follower import Follower

    return Follower(store, max_stale=max_stale).__enter__()


def _store(environment: Mapping[str, str], config: Config) -> str:
    """Returns the URL of the store, NO_STORE for none; raises ConfigurationError where there must be one."""
    url = environment.get("CAP_STORE") or config.store or NO_STORE
    if url == NO_STORE and config.audit is not None:
        raise ConfigurationError(
            "there is no audit trail without a store", "name a store, or leave [audit] out", "config.value"
        )
    return url


def _signed(
    file: str, environment: Mapping[str, str], config: Config, roots: KeySet | PublicKey
) -> RevocationSource:
    """Returns the signed revocations in a file, whose replacements a thread of this process takes."""
    from capability.store.signed import SignedRevocations
    from capability.store.signed_file import FileWatcher

    if environment.get("CAP_MAX_STALE", "").strip() or config.max_stale is not None:
        raise ConfigurationError(
            "max_stale is for a store that is followed: signed revocations say themselves when they end",
            "leave max_stale out",
            "config.value",
        )
    if "://" in file:
        raise ConfigurationError(
            "signed revocations are fetched from a URL by `cap serve` only", "name a file", "config.value"
        )
    key = environment.get("CAP_REVOCATIONS_KEY", "").strip() or config.revocations_key
    name = environment.get("CAP_REVOCATIONS_NAME") or config.revocations_name
    source = SignedRevocations.load(file, roots if key is None else _public_key(key), name=name)
    FileWatcher(source).__enter__()
    return source


def read_prefixes(environment: Mapping[str, str], config: Config) -> tuple[str, ...]:
    """Returns what may stand before a token, as `cap verify` takes it."""
    own, listed = environment.get("CAP_PREFIX"), environment.get("CAP_PREFIXES")
    found = list(config.prefixes) if listed is None else [each for each in listed.split(",") if each]
    if prefix := own or config.prefix:
        found.append(prefix)
    try:
        return checked_prefixes(found)
    except ValueError as error:
        raise ConfigurationError(str(error), "write it as sk_live_", "config.prefix") from error


def read_max_stale(environment: Mapping[str, str]) -> float | None:
    """Returns the seconds of CAP_MAX_STALE, None where it is not set; raises ConfigurationError."""
    text = environment.get("CAP_MAX_STALE", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(
            "CAP_MAX_STALE is no number of seconds", "write CAP_MAX_STALE=10", "config.value"
        )
    return seconds


def _content(path: str, what: str) -> bytes:
    return _read(path, what)[0]


def _read(path: str, what: str) -> tuple[bytes, int]:
    """Returns what a file holds, and its mode."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"cannot read {path!r}", f"name a file that holds the {what}", "file.unreadable"
        ) from error
    if len(content) > MAX_BYTES:
        raise ConfigurationError(
            f"{path!r} holds more than {MAX_BYTES} bytes", f"check that it holds the {what}", "input.size"
        )
    return content, mode
