"""The settings of a sidecar: by flags first, then the environment, then cap.toml."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from capability.configuration import NO_STORE, Config, default_store, is_datalog, registered_only
from capability.errors import ConfigurationError
from capability.settings import read_max_stale
from capability.sidecar.fetch import check_url
from capability.sidecar.keysource import check_place
from capability.sidecar.settings import Settings, SettingsError
from capability.sidecar.table import NO_FILES, read_settings
from capability.store import check_url as check_store_url


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What is said beside the command; None and empty: nothing."""

    listen: Sequence[str] = ()
    behind: str | None = None
    admin: str | None = None
    api: str | None = None
    grpc: str | None = None
    public: bool = False
    policy: str | None = None
    application: str | None = None
    public_key: str | None = None
    keys: str | None = None
    store: str | None = None
    revocations: str | None = None
    revocations_key: str | None = None
    revocations_name: str | None = None
    max_stale: float | None = None
    on_stale: str | None = None
    decisions: str | None = None
    log: str | None = None
    workers: int | None = None


def configured(
    environment: Mapping[str, str], config: Config, prefixes: tuple[str, ...], flags: Flags
) -> Settings:
    """Returns what is to be served; raises SettingsError, ConfigurationError and StoreError."""
    if registered_only(environment, config):
        raise ConfigurationError(
            "registered_only is set, and `cap serve` follows revocations, not the registry",
            "leave it out here, so that it does not pass for something that is checked",
            "usage",
        )
    table = _table(config, flags)
    max_stale = read_max_stale(environment) if flags.max_stale is None else flags.max_stale
    if max_stale is not None:
        table["max_stale"] = max_stale
    elif config.max_stale is not None:
        table.setdefault("max_stale", config.max_stale)
    policy = (flags.policy or environment.get("CAP_POLICY") or "").strip()
    if policy:
        table.pop("policy", None)
    elif config.policy is not None:
        table.setdefault("policy", config.policy)
    base = Path.cwd() if config.file is None else config.file.absolute().parent
    settings = read_settings(table, base, public=flags.public)
    if policy:
        settings = _with_policy(settings, policy)
    if flags.store is not None and flags.store != NO_STORE:
        check_store_url(flags.store)  # else it would pass for a store that is down
    settings = _signed(environment, config, flags, settings)
    store = _store(config, flags, settings)
    if settings.log == "store" and store in (None, NO_STORE):
        raise SettingsError("serve.log is the store, and no store is named")
    keys = _keys(environment, config, flags, settings.keys)
    return replace(
        settings,
        keys=keys,
        store=None if store == NO_STORE else store,
        never_revoked=store == NO_STORE and settings.revocations is None,
        prefixes=prefixes,
    )


def _with_policy(settings: Settings, policy: str) -> Settings:
    """Returns the settings with a policy, text or a file, for the routes that name none of their own.

    What a route says of its own is stricter, or it would not be said.
    """
    source = policy if is_datalog(policy) else None
    file = None if source else str(Path(policy).absolute())
    routes = (
        replace(each, policy=file, source=source) if each.policy is None else each for each in settings.routes
    )
    return replace(settings, routes=tuple(routes))


def unrevoked(settings: Settings, how: str) -> str | None:
    """Returns the warning that is due where nothing tells of revocations; `how` says that this is meant."""
    if settings.store is not None or settings.revocations is not None or settings.never_revoked:
        return None
    return f"no store is named, so nothing is ever revoked; {how} says that this is meant"


def _store(config: Config, flags: Flags, settings: Settings) -> str | None:
    """Returns the store to go by: as for `cap verify` the one in the data folder where nothing is named."""
    named = flags.store or settings.store or config.store
    if named or settings.revocations is not None:
        return named
    path = default_store()
    return f"sqlite:///{path}" if path.exists() else None


def _signed(environment: Mapping[str, str], config: Config, flags: Flags, settings: Settings) -> Settings:
    """Returns the settings with the signed revocations to go by, if any are named: beside a store or alone.

    What says less does not take away what is named elsewhere: of too many sources one can only deny too much.
    """
    place = (
        flags.revocations or environment.get("CAP_REVOCATIONS") or settings.revocations or config.revocations
    )
    signer = (
        flags.revocations_key
        or environment.get("CAP_REVOCATIONS_KEY", "").strip()
        or settings.revocations_key
        or config.revocations_key
    )
    name = (
        flags.revocations_name
        or environment.get("CAP_REVOCATIONS_NAME")
        or settings.revocations_name
        or config.revocations_name
    )
    if not place:
        return settings
    try:
        if "://" in place:
            check_url(place, "signed revocations")
        if signer:
            check_place(signer)
    except ValueError as error:
        raise ConfigurationError(str(error), "name a file, or an https:// URL", "usage") from error
    return replace(
        settings,
        revocations=place,
        revocations_key=signer or None,
        revocations_name=name or None,
    )


def _table(config: Config, flags: Flags) -> dict[str, Any]:
    """Returns [serve] as if the flags stood there too."""
    table: dict[str, Any] = dict(config.serve or {})
    if config.audit is not None and table.get("log", "store") == "store":
        audit = config.audit
        said = {"decisions": audit.decisions, "log_capacity": audit.capacity, "when_full": audit.when_full}
        table = {"log": "store", **said, **table}
    if flags.behind and not flags.listen:
        raise ConfigurationError(
            "--behind was given without --listen, so nobody knows where that proxy asks",
            "pass --listen too, or write it beside the address in cap.toml",
            "usage",
        )
    behind = {"behind": flags.behind} if flags.behind else {}
    listeners = [{"address": address, "serves": "check", **behind} for address in flags.listen]
    for serves, address in (("admin", flags.admin), ("api", flags.api), ("grpc", flags.grpc)):
        if address is not None:
            listeners.append({"address": address, "serves": serves})
    given = {each["serves"] for each in listeners}
    found = table.get("listen", [])
    if given and isinstance(found, list):
        kept = [each for each in found if isinstance(each, dict) and each.get("serves", "check") not in given]
        table["listen"] = [*kept, *listeners]
    said_by_flags = {
        "application": flags.application,
        "on_stale": flags.on_stale,
        "decisions": flags.decisions,
        "log": flags.log if flags.log in (None, *NO_FILES) else str(Path(str(flags.log)).absolute()),
        "workers": flags.workers,
    }
    return table | {name: value for name, value in said_by_flags.items() if value is not None}


def _keys(environment: Mapping[str, str], config: Config, flags: Flags, serve: str | None) -> str:
    """Returns where the keys are: by a flag, the environment, [serve], or the rest of cap.toml."""
    choices = (
        (flags.public_key, flags.keys),
        (environment.get("CAP_PUBLIC_KEY", "").strip() or None, environment.get("CAP_KEYS") or None),
        (None, serve),
        (config.public_key, config.keys),
    )
    for key, key_set in choices:
        if key is not None and key_set is not None:
            raise ConfigurationError(
                "both a public key and a key set were given", "name one of the two", "usage"
            )
        place = key or key_set
        if place is not None:
            try:
                check_place(place)
            except ValueError as error:
                raise ConfigurationError(str(error), "name a file, or an https:// URL", "usage") from error
            return place
    raise ConfigurationError(
        "no public key was given, so nothing can be verified",
        "pass the issuer's key with --public-key, or set CAP_PUBLIC_KEY",
        "usage.no_key",
    )
