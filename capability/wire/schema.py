"""The messages of schema.proto, for all who read or write them.

They are those of schema_pb2, which protoc writes. That module loads protobuf whole: its implementation in
Python, its text format, pickle and locale, which takes longer than a process that narrows one token works.
So where protobuf's implementation in C is there, the messages are taken from that, by the same schema; it
keeps one class for each, so they are the same objects whoever asks.
"""

import os
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

if TYPE_CHECKING:
    from capability.wire.schema_pb2 import (
        Array,
        AuthorizerPolicies,
        AuthorizerSnapshot,
        AuthorizerWorld,
        Biscuit,
        Block,
        BlockOutline,
        Check,
        Empty,
        Expression,
        ExternalSignature,
        Fact,
        GeneratedFacts,
        Map,
        MapEntry,
        MapKey,
        Op,
        OpBinary,
        OpClosure,
        OpUnary,
        Origin,
        Policy,
        Predicate,
        Proof,
        PublicKey,
        Rule,
        RunLimits,
        Scope,
        SignedBlock,
        SnapshotBlock,
        Term,
        TermSet,
        ThirdPartyBlockContents,
        ThirdPartyBlockRequest,
    )

__all__ = [
    "Array",
    "AuthorizerPolicies",
    "AuthorizerSnapshot",
    "AuthorizerWorld",
    "Biscuit",
    "Block",
    "BlockOutline",
    "Check",
    "Empty",
    "Expression",
    "ExternalSignature",
    "Fact",
    "GeneratedFacts",
    "Map",
    "MapEntry",
    "MapKey",
    "Op",
    "OpBinary",
    "OpClosure",
    "OpUnary",
    "Origin",
    "Policy",
    "Predicate",
    "Proof",
    "PublicKey",
    "Rule",
    "RunLimits",
    "Scope",
    "SignedBlock",
    "SnapshotBlock",
    "Term",
    "TermSet",
    "ThirdPartyBlockContents",
    "ThirdPartyBlockRequest",
]


def _messages() -> dict[str, Any]:
    """Returns the class of each message by its name."""
    try:
        return _of_c()
    except (ImportError, AttributeError, OSError):
        # no public part of protobuf, so another version may have another one, or none
        from capability.wire import schema_pb2

        return {name: getattr(schema_pb2, name) for name in __all__}


def _of_c() -> dict[str, Any]:
    from google._upb._message import MessageMeta, default_pool

    with open(os.path.join(os.path.dirname(__file__), "schema.binpb"), "rb") as file:
        descriptors = default_pool.AddSerializedFile(file.read()).message_types_by_name
    return {name: MessageMeta(name, (Message,), _contents(descriptors[name])) for name in __all__}


def _contents(descriptor: object) -> dict[str, object]:
    return {"DESCRIPTOR": descriptor, "__module__": "capability.wire.schema_pb2"}


globals().update(_messages())
