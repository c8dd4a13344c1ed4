"""Writes the table of docs/proxies.md: starts each proxy, tries every scenario, and writes what it saw.

`python -m docs.proxies` needs all of the proxies; tests/proxies fails when a run sees something else.
"""

from tests.proxies.proxies import PROXIES
from tests.proxies.run import run
from tests.proxies.table import write

if __name__ == "__main__":
    write({name: run(proxy) for name, proxy in PROXIES.items()})
