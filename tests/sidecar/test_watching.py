"""Files that change are read again, whenever that is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from capability.sidecar.addresses import Tcp
from capability.sidecar.asgi import Sidecar
from capability.sidecar.server import Server
from capability.sidecar.settings import Listener, RouteSettings, Settings
from tests.sidecar.tokens import ROOT


def served(read: Callable[[], Settings], file: str) -> Settings:
    """Returns what `cap serve` begins with."""
    return Server(read(), reread=read, files=[file])._settings


def mounted(read: Callable[[], Settings], file: str) -> Settings:
    """Returns what an ASGI application begins with."""
    return Sidecar(read, [file])._settings


@pytest.mark.parametrize("begun", [served, mounted])
def test_a_change_between_the_first_reading_and_the_first_look_is_not_missed(
    tmp_path: Path, begun: Callable[[Callable[[], Settings], str], Settings]
) -> None:
    file = tmp_path / "cap.toml"
    file.write_text("before")

    def read() -> Settings:
        said = Settings(
            listen=(Listener(address=Tcp("127.0.0.1", 0)),),
            routes=(RouteSettings(name="default"),),
            keys=repr(ROOT.public_key),
            realm=file.read_text(),
        )
        file.write_text("after")
        return said

    assert begun(read, str(file)).realm == "after"
