from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Biscuit(_message.Message):
    __slots__ = ("root_key_id", "authority", "blocks", "proof")
    ROOT_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    root_key_id: int
    authority: SignedBlock
    blocks: _containers.RepeatedCompositeFieldContainer[SignedBlock]
    proof: Proof
    def __init__(self, root_key_id: _Optional[int] = ..., authority: _Optional[_Union[SignedBlock, _Mapping]] = ..., blocks: _Optional[_Iterable[_Union[SignedBlock, _Mapping]]] = ..., proof: _Optional[_Union[Proof, _Mapping]] = ...) -> None: ...

class SignedBlock(_message.Message):
    __slots__ = ("block", "next_key", "signature", "external_signature", "version")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    NEXT_KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    block: bytes
    next_key: PublicKey
    signature: bytes
    external_signature: ExternalSignature
    version: int
    def __init__(self, block: _Optional[bytes] = ..., next_key: _Optional[_Union[PublicKey, _Mapping]] = ..., signature: _Optional[bytes] = ..., external_signature: _Optional[_Union[ExternalSignature, _Mapping]] = ..., version: _Optional[int] = ...) -> None: ...

class ExternalSignature(_message.Message):
    __slots__ = ("signature", "public_key")
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    signature: bytes
    public_key: PublicKey
    def __init__(self, signature: _Optional[bytes] = ..., public_key: _Optional[_Union[PublicKey, _Mapping]] = ...) -> None: ...

class PublicKey(_message.Message):
    __slots__ = ("algorithm", "key")
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    algorithm: int
    key: bytes
    def __init__(self, algorithm: _Optional[int] = ..., key: _Optional[bytes] = ...) -> None: ...

class Proof(_message.Message):
    __slots__ = ("next_secret", "final_signature")
    NEXT_SECRET_FIELD_NUMBER: _ClassVar[int]
    FINAL_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    next_secret: bytes
    final_signature: bytes
    def __init__(self, next_secret: _Optional[bytes] = ..., final_signature: _Optional[bytes] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("symbols", "context", "version", "facts", "rules", "checks", "scope", "public_keys")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEYS_FIELD_NUMBER: _ClassVar[int]
    symbols: _containers.RepeatedScalarFieldContainer[bytes]
    context: bytes
    version: int
    facts: _containers.RepeatedCompositeFieldContainer[Fact]
    rules: _containers.RepeatedCompositeFieldContainer[Rule]
    checks: _containers.RepeatedCompositeFieldContainer[Check]
    scope: _containers.RepeatedCompositeFieldContainer[Scope]
    public_keys: _containers.RepeatedCompositeFieldContainer[PublicKey]
    def __init__(self, symbols: _Optional[_Iterable[bytes]] = ..., context: _Optional[bytes] = ..., version: _Optional[int] = ..., facts: _Optional[_Iterable[_Union[Fact, _Mapping]]] = ..., rules: _Optional[_Iterable[_Union[Rule, _Mapping]]] = ..., checks: _Optional[_Iterable[_Union[Check, _Mapping]]] = ..., scope: _Optional[_Iterable[_Union[Scope, _Mapping]]] = ..., public_keys: _Optional[_Iterable[_Union[PublicKey, _Mapping]]] = ...) -> None: ...

class BlockOutline(_message.Message):
    __slots__ = ("symbols", "context", "version", "facts", "rules", "checks", "scope", "public_keys")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEYS_FIELD_NUMBER: _ClassVar[int]
    symbols: _containers.RepeatedScalarFieldContainer[bytes]
    context: bytes
    version: int
    facts: _containers.RepeatedScalarFieldContainer[bytes]
    rules: _containers.RepeatedScalarFieldContainer[bytes]
    checks: _containers.RepeatedScalarFieldContainer[bytes]
    scope: _containers.RepeatedCompositeFieldContainer[Scope]
    public_keys: _containers.RepeatedCompositeFieldContainer[PublicKey]
    def __init__(self, symbols: _Optional[_Iterable[bytes]] = ..., context: _Optional[bytes] = ..., version: _Optional[int] = ..., facts: _Optional[_Iterable[bytes]] = ..., rules: _Optional[_Iterable[bytes]] = ..., checks: _Optional[_Iterable[bytes]] = ..., scope: _Optional[_Iterable[_Union[Scope, _Mapping]]] = ..., public_keys: _Optional[_Iterable[_Union[PublicKey, _Mapping]]] = ...) -> None: ...

class Scope(_message.Message):
    __slots__ = ("scope_type", "public_key")
    SCOPE_TYPE_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    scope_type: int
    public_key: int
    def __init__(self, scope_type: _Optional[int] = ..., public_key: _Optional[int] = ...) -> None: ...

class Fact(_message.Message):
    __slots__ = ("predicate",)
    PREDICATE_FIELD_NUMBER: _ClassVar[int]
    predicate: Predicate
    def __init__(self, predicate: _Optional[_Union[Predicate, _Mapping]] = ...) -> None: ...

class Rule(_message.Message):
    __slots__ = ("head", "body", "expressions", "scope")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    EXPRESSIONS_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    head: Predicate
    body: _containers.RepeatedCompositeFieldContainer[Predicate]
    expressions: _containers.RepeatedCompositeFieldContainer[Expression]
    scope: _containers.RepeatedCompositeFieldContainer[Scope]
    def __init__(self, head: _Optional[_Union[Predicate, _Mapping]] = ..., body: _Optional[_Iterable[_Union[Predicate, _Mapping]]] = ..., expressions: _Optional[_Iterable[_Union[Expression, _Mapping]]] = ..., scope: _Optional[_Iterable[_Union[Scope, _Mapping]]] = ...) -> None: ...

class Check(_message.Message):
    __slots__ = ("queries", "kind")
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    queries: _containers.RepeatedCompositeFieldContainer[Rule]
    kind: int
    def __init__(self, queries: _Optional[_Iterable[_Union[Rule, _Mapping]]] = ..., kind: _Optional[int] = ...) -> None: ...

class Policy(_message.Message):
    __slots__ = ("queries", "kind")
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    queries: _containers.RepeatedCompositeFieldContainer[Rule]
    kind: int
    def __init__(self, queries: _Optional[_Iterable[_Union[Rule, _Mapping]]] = ..., kind: _Optional[int] = ...) -> None: ...

class Predicate(_message.Message):
    __slots__ = ("name", "terms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    name: int
    terms: _containers.RepeatedCompositeFieldContainer[Term]
    def __init__(self, name: _Optional[int] = ..., terms: _Optional[_Iterable[_Union[Term, _Mapping]]] = ...) -> None: ...

class Term(_message.Message):
    __slots__ = ("variable", "integer", "string", "date", "byte_string", "boolean", "set", "null", "array", "map")
    VARIABLE_FIELD_NUMBER: _ClassVar[int]
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    STRING_FIELD_NUMBER: _ClassVar[int]
    DATE_FIELD_NUMBER: _ClassVar[int]
    BYTE_STRING_FIELD_NUMBER: _ClassVar[int]
    BOOLEAN_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    NULL_FIELD_NUMBER: _ClassVar[int]
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    MAP_FIELD_NUMBER: _ClassVar[int]
    variable: int
    integer: int
    string: int
    date: int
    byte_string: bytes
    boolean: bool
    set: TermSet
    null: Empty
    array: Array
    map: Map
    def __init__(self, variable: _Optional[int] = ..., integer: _Optional[int] = ..., string: _Optional[int] = ..., date: _Optional[int] = ..., byte_string: _Optional[bytes] = ..., boolean: bool = ..., set: _Optional[_Union[TermSet, _Mapping]] = ..., null: _Optional[_Union[Empty, _Mapping]] = ..., array: _Optional[_Union[Array, _Mapping]] = ..., map: _Optional[_Union[Map, _Mapping]] = ...) -> None: ...

class TermSet(_message.Message):
    __slots__ = ("set",)
    SET_FIELD_NUMBER: _ClassVar[int]
    set: _containers.RepeatedCompositeFieldContainer[Term]
    def __init__(self, set: _Optional[_Iterable[_Union[Term, _Mapping]]] = ...) -> None: ...

class Array(_message.Message):
    __slots__ = ("array",)
    ARRAY_FIELD_NUMBER: _ClassVar[int]
    array: _containers.RepeatedCompositeFieldContainer[Term]
    def __init__(self, array: _Optional[_Iterable[_Union[Term, _Mapping]]] = ...) -> None: ...

class Map(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[MapEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[MapEntry, _Mapping]]] = ...) -> None: ...

class MapEntry(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: MapKey
    value: Term
    def __init__(self, key: _Optional[_Union[MapKey, _Mapping]] = ..., value: _Optional[_Union[Term, _Mapping]] = ...) -> None: ...

class MapKey(_message.Message):
    __slots__ = ("integer", "string")
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    STRING_FIELD_NUMBER: _ClassVar[int]
    integer: int
    string: int
    def __init__(self, integer: _Optional[int] = ..., string: _Optional[int] = ...) -> None: ...

class Expression(_message.Message):
    __slots__ = ("ops",)
    OPS_FIELD_NUMBER: _ClassVar[int]
    ops: _containers.RepeatedCompositeFieldContainer[Op]
    def __init__(self, ops: _Optional[_Iterable[_Union[Op, _Mapping]]] = ...) -> None: ...

class Op(_message.Message):
    __slots__ = ("value", "unary", "binary", "closure")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    UNARY_FIELD_NUMBER: _ClassVar[int]
    BINARY_FIELD_NUMBER: _ClassVar[int]
    CLOSURE_FIELD_NUMBER: _ClassVar[int]
    value: Term
    unary: OpUnary
    binary: OpBinary
    closure: OpClosure
    def __init__(self, value: _Optional[_Union[Term, _Mapping]] = ..., unary: _Optional[_Union[OpUnary, _Mapping]] = ..., binary: _Optional[_Union[OpBinary, _Mapping]] = ..., closure: _Optional[_Union[OpClosure, _Mapping]] = ...) -> None: ...

class OpUnary(_message.Message):
    __slots__ = ("kind", "ffi_name")
    KIND_FIELD_NUMBER: _ClassVar[int]
    FFI_NAME_FIELD_NUMBER: _ClassVar[int]
    kind: int
    ffi_name: int
    def __init__(self, kind: _Optional[int] = ..., ffi_name: _Optional[int] = ...) -> None: ...

class OpBinary(_message.Message):
    __slots__ = ("kind", "ffi_name")
    KIND_FIELD_NUMBER: _ClassVar[int]
    FFI_NAME_FIELD_NUMBER: _ClassVar[int]
    kind: int
    ffi_name: int
    def __init__(self, kind: _Optional[int] = ..., ffi_name: _Optional[int] = ...) -> None: ...

class OpClosure(_message.Message):
    __slots__ = ("params", "ops")
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    OPS_FIELD_NUMBER: _ClassVar[int]
    params: _containers.RepeatedScalarFieldContainer[int]
    ops: _containers.RepeatedCompositeFieldContainer[Op]
    def __init__(self, params: _Optional[_Iterable[int]] = ..., ops: _Optional[_Iterable[_Union[Op, _Mapping]]] = ...) -> None: ...

class ThirdPartyBlockRequest(_message.Message):
    __slots__ = ("legacy_previous_key", "legacy_public_keys", "previous_signature")
    LEGACY_PREVIOUS_KEY_FIELD_NUMBER: _ClassVar[int]
    LEGACY_PUBLIC_KEYS_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    legacy_previous_key: PublicKey
    legacy_public_keys: _containers.RepeatedCompositeFieldContainer[PublicKey]
    previous_signature: bytes
    def __init__(self, legacy_previous_key: _Optional[_Union[PublicKey, _Mapping]] = ..., legacy_public_keys: _Optional[_Iterable[_Union[PublicKey, _Mapping]]] = ..., previous_signature: _Optional[bytes] = ...) -> None: ...

class ThirdPartyBlockContents(_message.Message):
    __slots__ = ("payload", "external_signature")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    external_signature: ExternalSignature
    def __init__(self, payload: _Optional[bytes] = ..., external_signature: _Optional[_Union[ExternalSignature, _Mapping]] = ...) -> None: ...

class AuthorizerPolicies(_message.Message):
    __slots__ = ("symbols", "version", "facts", "rules", "checks", "policies")
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    symbols: _containers.RepeatedScalarFieldContainer[bytes]
    version: int
    facts: _containers.RepeatedCompositeFieldContainer[Fact]
    rules: _containers.RepeatedCompositeFieldContainer[Rule]
    checks: _containers.RepeatedCompositeFieldContainer[Check]
    policies: _containers.RepeatedCompositeFieldContainer[Policy]
    def __init__(self, symbols: _Optional[_Iterable[bytes]] = ..., version: _Optional[int] = ..., facts: _Optional[_Iterable[_Union[Fact, _Mapping]]] = ..., rules: _Optional[_Iterable[_Union[Rule, _Mapping]]] = ..., checks: _Optional[_Iterable[_Union[Check, _Mapping]]] = ..., policies: _Optional[_Iterable[_Union[Policy, _Mapping]]] = ...) -> None: ...

class AuthorizerSnapshot(_message.Message):
    __slots__ = ("limits", "execution_time", "world")
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_TIME_FIELD_NUMBER: _ClassVar[int]
    WORLD_FIELD_NUMBER: _ClassVar[int]
    limits: RunLimits
    execution_time: int
    world: AuthorizerWorld
    def __init__(self, limits: _Optional[_Union[RunLimits, _Mapping]] = ..., execution_time: _Optional[int] = ..., world: _Optional[_Union[AuthorizerWorld, _Mapping]] = ...) -> None: ...

class RunLimits(_message.Message):
    __slots__ = ("max_facts", "max_iterations", "max_time")
    MAX_FACTS_FIELD_NUMBER: _ClassVar[int]
    MAX_ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_TIME_FIELD_NUMBER: _ClassVar[int]
    max_facts: int
    max_iterations: int
    max_time: int
    def __init__(self, max_facts: _Optional[int] = ..., max_iterations: _Optional[int] = ..., max_time: _Optional[int] = ...) -> None: ...

class AuthorizerWorld(_message.Message):
    __slots__ = ("version", "symbols", "public_keys", "blocks", "authorizer_block", "authorizer_policies", "generated_facts", "iterations")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEYS_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    AUTHORIZER_BLOCK_FIELD_NUMBER: _ClassVar[int]
    AUTHORIZER_POLICIES_FIELD_NUMBER: _ClassVar[int]
    GENERATED_FACTS_FIELD_NUMBER: _ClassVar[int]
    ITERATIONS_FIELD_NUMBER: _ClassVar[int]
    version: int
    symbols: _containers.RepeatedScalarFieldContainer[bytes]
    public_keys: _containers.RepeatedCompositeFieldContainer[PublicKey]
    blocks: _containers.RepeatedCompositeFieldContainer[SnapshotBlock]
    authorizer_block: SnapshotBlock
    authorizer_policies: _containers.RepeatedCompositeFieldContainer[Policy]
    generated_facts: _containers.RepeatedCompositeFieldContainer[GeneratedFacts]
    iterations: int
    def __init__(self, version: _Optional[int] = ..., symbols: _Optional[_Iterable[bytes]] = ..., public_keys: _Optional[_Iterable[_Union[PublicKey, _Mapping]]] = ..., blocks: _Optional[_Iterable[_Union[SnapshotBlock, _Mapping]]] = ..., authorizer_block: _Optional[_Union[SnapshotBlock, _Mapping]] = ..., authorizer_policies: _Optional[_Iterable[_Union[Policy, _Mapping]]] = ..., generated_facts: _Optional[_Iterable[_Union[GeneratedFacts, _Mapping]]] = ..., iterations: _Optional[int] = ...) -> None: ...

class SnapshotBlock(_message.Message):
    __slots__ = ("context", "version", "facts", "rules", "checks", "scope", "external_key")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    EXTERNAL_KEY_FIELD_NUMBER: _ClassVar[int]
    context: bytes
    version: int
    facts: _containers.RepeatedCompositeFieldContainer[Fact]
    rules: _containers.RepeatedCompositeFieldContainer[Rule]
    checks: _containers.RepeatedCompositeFieldContainer[Check]
    scope: _containers.RepeatedCompositeFieldContainer[Scope]
    external_key: PublicKey
    def __init__(self, context: _Optional[bytes] = ..., version: _Optional[int] = ..., facts: _Optional[_Iterable[_Union[Fact, _Mapping]]] = ..., rules: _Optional[_Iterable[_Union[Rule, _Mapping]]] = ..., checks: _Optional[_Iterable[_Union[Check, _Mapping]]] = ..., scope: _Optional[_Iterable[_Union[Scope, _Mapping]]] = ..., external_key: _Optional[_Union[PublicKey, _Mapping]] = ...) -> None: ...

class GeneratedFacts(_message.Message):
    __slots__ = ("origins", "facts")
    ORIGINS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    origins: _containers.RepeatedCompositeFieldContainer[Origin]
    facts: _containers.RepeatedCompositeFieldContainer[Fact]
    def __init__(self, origins: _Optional[_Iterable[_Union[Origin, _Mapping]]] = ..., facts: _Optional[_Iterable[_Union[Fact, _Mapping]]] = ...) -> None: ...

class Origin(_message.Message):
    __slots__ = ("authorizer", "origin")
    AUTHORIZER_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    authorizer: Empty
    origin: int
    def __init__(self, authorizer: _Optional[_Union[Empty, _Mapping]] = ..., origin: _Optional[int] = ...) -> None: ...
