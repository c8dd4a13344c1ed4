"""The messages are those of protoc's module, whether protobuf's implementation in C is there or not."""

import inspect
import subprocess
import sys

import pytest
from google.protobuf.message import Message

from capability.wire import schema, schema_pb2

WRITES = """
import sys
{before}
from capability.wire import schema
written = schema.PublicKey(algorithm=0, key=b"k").SerializeToString()
assert written == b"\\x08\\x00\\x12\\x01k", written
print("capability.wire.schema_pb2" in sys.modules, "google.protobuf.descriptor_pool" in sys.modules)
"""


def test_they_are_the_same_classes() -> None:
    generated = {name for name, item in vars(schema_pb2).items() if inspect.isclass(item)}
    assert set(schema.__all__) == generated
    for name in generated:
        message = getattr(schema, name)
        assert message is getattr(schema_pb2, name)
        assert issubclass(message, Message)


@pytest.mark.parametrize(
    ("before", "loaded"),
    [
        ("", "False False"),
        ("import capability.wire.schema_pb2", "True True"),
        ("sys.modules['google._upb._message'] = None", "True True"),
    ],
    ids=["in C", "after protoc's module", "without C"],
)
def test_they_are_there_however_protobuf_is_made(before: str, loaded: str) -> None:
    program = [sys.executable, "-c", WRITES.format(before=before)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, loaded), done.stderr[-1000:]
