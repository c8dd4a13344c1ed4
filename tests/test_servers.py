"""A server that the tests start ends with them, however they end."""

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import refuses, wait_until

STARTS = """
import signal
from tests.servers import start_redis
server = start_redis()
print(server.port, server.folder, flush=True)
signal.pause()
"""


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="only Linux ends a process with its parent")
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="Redis is not installed")
def test_a_server_ends_with_a_run_that_was_killed() -> None:
    command = [sys.executable, "-c", STARTS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        port, folder = run.stdout.readline().split()
        socket.create_connection(("127.0.0.1", int(port))).close()
        run.kill()
    wait_until(lambda: refuses(int(port)))
    shutil.rmtree(Path(folder))
