"""What serving needs beside the package itself: an extra that was left out is told before anything starts."""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Final, NamedTuple

from capability.sidecar.settings import Serves, Settings


class Package(NamedTuple):
    """A module, the name by which it is installed, and the extra that has it."""

    module: str
    name: str
    extra: str

    @property
    def lack(self) -> str:
        """What is said where it is missing."""
        return f"the sidecar needs {self.name}"

    @property
    def hint(self) -> str:
        """What to do about it."""
        return f"pip install 'capability-tokens[{self.extra}]'"


PORT: Final = Package("httptools", "httptools", "sidecar")
"""What our own port is made of."""

OF: Final[Mapping[Serves, tuple[Package, ...]]] = {
    Serves.ADMIN: (Package("prometheus_client", "prometheus-client", "sidecar"),),
    Serves.GRPC: (Package("grpc", "grpcio", "grpc"),),
}
"""What some listeners need besides."""

TRACES: Final = (
    Package("opentelemetry", "opentelemetry-api", "otel"),
    Package("opentelemetry.sdk", "opentelemetry-sdk", "otel"),
)
"""What traces are made of; in this order, as who looks for the second imports the first."""


def missing(packages: Iterable[Package]) -> Package | None:
    """Returns the first of them that is not installed. None is imported but what a dotted one is in."""
    return next((each for each in packages if find_spec(each.module) is None), None)


def needed(settings: Settings) -> list[Package]:
    """Returns what `cap serve` needs for these settings."""
    of_listeners = (package for each in settings.listen for package in OF.get(each.serves, ()))
    return [PORT, *of_listeners, *(TRACES if settings.telemetry else ())]
