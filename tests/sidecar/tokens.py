"""An issuer for the tests of the sidecar, and a check that decides by its key."""

from collections.abc import Callable
from datetime import datetime

from capability import BiscuitBuilder, KeyPair
from capability.revocation import RevisedSource
from capability.sidecar.check import Check, CheckSettings, DecisionLog
from capability.sidecar.guards import build_routes
from capability.sidecar.messages import Answer
from capability.sidecar.paths import Paths
from capability.sidecar.profiles import PROFILES
from capability.sidecar.settings import RouteSettings
from capability.sidecar.tally import Answers, Board

ROOT = KeyPair()
OTHER = KeyPair()


def mint(
    source: str = 'user("ann")',
    *,
    operations: list[str] | None = None,
    resources: list[str] | None = None,
    expires: datetime | None = None,
) -> str:
    """Returns a token of ROOT, narrowed where anything is named."""
    token = BiscuitBuilder(source).build(ROOT.private_key)
    if operations or resources or expires:
        token = token.attenuate(operations=operations, resources=resources, expires=expires)
    return token.to_base64()


def make_check(
    *routes: RouteSettings,
    behind: str = "plain",
    source: RevisedSource | None = None,
    paths: Paths = Paths.STRICT,
    chosen: tuple[bytes, ...] = (),
    api_key: bool = False,
    log: DecisionLog | None = None,
    board: Board | None = None,
    tally: Answers | None = None,
    blocking: bool = False,
    clock: Callable[[], float] | None = None,
) -> Check:
    """Returns a check for ROOT's tokens; without routes by the built-in policy."""
    built = build_routes(
        routes or (RouteSettings(name="default"),), ROOT.public_key, lambda on_stale: source, clock=clock
    )
    settings = CheckSettings(
        profile=PROFILES[behind],
        paths=paths,
        chosen=chosen,
        api_key=api_key,
        source=source,
        blocking=blocking,
    )
    return Check(built, settings, tally or (board or Board(1)).row(0), log)


def ask(
    check: Check,
    token: str | None = None,
    method: str = "GET",
    target: str = "/orders/7",
    *,
    headers: list[tuple[str, str]] | None = None,
    peer: str | None = "192.0.2.1",
) -> tuple[Answer, dict[str, str]]:
    """Returns the answer to a request, and its headers."""
    sent = [("Host", "api.example.com"), *(headers or [])]
    if token is not None:
        sent.append(("Authorization", f"Bearer {token}"))
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in sent]
    answer = check.handle(method, target, encoded, b"", peer)
    return answer, {name.decode(): value.decode("latin-1") for name, value in answer.headers}
