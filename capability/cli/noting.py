"""What becomes of keys, in the audit trail of a store where one is named."""

from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

from capability.cli.failures import Exit, Failure, usage
from capability.cli.inputs import Session
from capability.cli.stores import open_if_configured

if TYPE_CHECKING:
    from capability.keys import PublicKey


class Trail:
    """Opens the store before anything is changed, so that a store that is down is known while nothing is."""

    def __init__(
        self, session: Session, store: str | None, actor: str | None, *, wanted: bool = True
    ) -> None:
        """Without `wanted`, no store is looked for. Raises Failure and StoreError."""
        from capability.store.records import check_words

        try:
            check_words(actor)
        except ValueError as error:
            raise usage(str(error), "write --actor in UTF-8") from error
        self._actor = actor
        self._store = open_if_configured(session, store) if wanted else None

    def note(
        self, change: str, key: "PublicKey", key_id: int | None = None, until: datetime | None = None
    ) -> None:
        """Notes what was done with a public key; raises Failure when the store does not take it any more."""
        if self._store is None:
            return
        from capability.errors import StoreError
        from capability.store.events import key_changed

        try:
            self._store.note([key_changed(change, repr(key), key_id=key_id, until=until, actor=self._actor)])
        except StoreError as error:
            raise Failure(
                Exit.STORE,
                "store.unavailable",
                f"the key was {change}, and the audit trail could not be told: {error}",
                "note it elsewhere, and look after the store: `cap store check`",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._store is not None:
            self._store.close()
