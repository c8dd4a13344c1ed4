"""Which store a command uses: --store or $CAP_STORE, then cap.toml, then one in the user's data folder."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from capability.cli.failures import Exit, Failure, usage
from capability.cli.inputs import Session
from capability.cli.keyfiles import public_key
from capability.cli.options import on_command_line
from capability.configuration import NO_STORE, default_store, has_password

if TYPE_CHECKING:
    from capability.keys import PublicKey
    from capability.keyset import KeySet
    from capability.revocation import RevocationSource, RevocationStatus
    from capability.store import Store


def open_for_writing(session: Session, flag: str | None) -> "Store":
    """Opens the store, and makes it where there is none."""
    from capability.store import create_store

    url = _demanded(session, flag)
    if url is None:
        path = default_store()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise usage(
                f"cannot make the folder {str(path.parent)!r} for the store", "name a store with --store"
            ) from error
        url = f"sqlite:///{path}"
    return create_store(url)


def open_if_configured(session: Session, flag: str | None) -> "Store | None":
    """Opens the store, and makes it where there is none; None where nobody named one, or it is `none`."""
    return None if _configured(session, flag) in (None, NO_STORE) else open_for_writing(session, flag)


def url_for_reading(session: Session, flag: str | None) -> str | None:
    """Returns the URL of the store, or None when none is configured and the user's own was never made.

    None too where the store is said to be `none`. One that is configured must be there: a store that is gone
    must not read as "nothing is revoked".
    """
    url = _configured(session, flag)
    if url == NO_STORE:
        return None
    if url is None:
        path = default_store()
        return f"sqlite:///{path}" if path.exists() else None
    from capability.store import check_url

    check_url(url)  # a URL that is none is a mistake of the caller, and no store that is down
    return url


def url_for_listing(session: Session, flag: str | None) -> str | None:
    """Returns what `url_for_reading` does; raises Failure for `none`, which has nothing to be listed."""
    _demanded(session, flag)
    return url_for_reading(session, flag)


def revocation_source(
    session: Session,
    store: str | None,
    revocations: str | None,
    revocations_key: str | None,
    revocations_name: str | None,
    root: "PublicKey | KeySet",
    *,
    registered_only: bool,
) -> "DeferredStore | DeferredRevocations | None":
    """Returns what a decision goes by: a store, or a signed file.

    What is named beside the command wins over the environment, and that over cap.toml. With
    `registered_only` it is a store, which refuses what it has no record of.
    Raises Failure where both are named at once: one of them would be passed over.
    """
    if revocations is not None and store is not None:
        named = on_command_line("revocations", revocations), on_command_line("store", store)
        if named == (True, False):
            store = None
        elif named == (False, True):
            revocations = None
    if revocations is None and store is None:
        revocations, store = session.config.revocations, session.config.store
    if revocations is not None and store is not None:
        raise usage("both a store and signed revocations were named", "name one of the two")
    if revocations is None:
        url = url_for_reading(session, store)
        if url is None and registered_only:
            raise no_store()
        return None if url is None else DeferredStore(url, registered_only=registered_only)
    if "://" in revocations:
        raise usage("signed revocations are fetched from a URL by `cap serve` only", "name a file")
    if registered_only:
        raise usage("signed revocations do not tell what is registered", "name a store in place of them")
    key = revocations_key or session.config.revocations_key
    name = revocations_name or session.config.revocations_name
    return DeferredRevocations(revocations, root if key is None else public_key(key), name)


class DeferredRevocations:
    """Signed revocations that are read when they are first asked; as with DeferredStore."""

    def __init__(self, path: str, keys: "PublicKey | KeySet", name: str | None) -> None:
        self._path = path
        self._keys = keys
        self._name = name

    def status(self, revocation_ids: Sequence[bytes]) -> "RevocationStatus":
        """Returns what the file says."""
        from capability.store.signed import SignedRevocations

        return SignedRevocations.load(self._path, self._keys, name=self._name).status(revocation_ids)


class DeferredStore:
    """The revocations of a store that is opened when it is first asked.

    So a store that cannot be opened is a store that cannot answer, which is the guard's to judge, and a
    token that is none is refused without one.
    """

    def __init__(self, url: str, *, registered_only: bool) -> None:
        """With `registered_only`, it refuses what the store has no record of."""
        self._url = url
        self._registered_only = registered_only

    def status(self, revocation_ids: Sequence[bytes]) -> "RevocationStatus":
        """Returns what the store answers."""
        from capability.store import open_store
        from capability.store.allowlist import AllowList

        with open_store(self._url) as store:
            return (AllowList(store) if self._registered_only else store).status(revocation_ids)


class AtLeast:
    """Another source, refused while it is behind a revision."""

    def __init__(self, source: "RevocationSource", revision: int) -> None:
        self._source = source
        self._revision = revision

    def status(self, revocation_ids: Sequence[bytes]) -> "RevocationStatus":
        """Returns what the source answers; raises StoreUnavailable where it is behind.

        It may be a copy that lags: that it ever had the revision, nobody has seen here.
        """
        from capability.errors import StoreUnavailable

        status = self._source.status(revocation_ids)
        if status.revision < self._revision:
            raise StoreUnavailable(
                f"the store is at revision {status.revision}, and revision {self._revision} was asked for",
                code="store.unavailable.behind",
            )
        return status


def no_store() -> Failure:
    """Returns the failure of someone who asks for what only a store can tell."""
    return Failure(
        Exit.STORE,
        "store.unavailable",
        "there is no store that could tell what is registered, or its revision",
        "name one with --store",
    )


def _demanded(session: Session, flag: str | None) -> str | None:
    """Returns the URL that is configured, if one is; raises Failure where that is `none`."""
    url = _configured(session, flag)
    if url == NO_STORE:
        raise usage(
            f"the store is {NO_STORE!r}, and this command needs one",
            "name one with --store; `cap mint --no-store` does without",
            "usage.no_store",
        )
    return url


def _configured(session: Session, flag: str | None) -> str | None:
    url = session.config.store if flag is None else flag
    if flag is not None and flag != os.environ.get("CAP_STORE") and has_password(flag):
        raise usage(
            "a password was given as an argument, which other processes can read",
            "set CAP_STORE, or leave the password out of the URL: PGPASSFILE names a file that holds it",
            "usage.password_argument",
        )
    if url == "memory:":
        raise usage(
            "a store in memory ends with the command", "use sqlite:///PATH or redis://HOST", "store.url"
        )
    return url
