"""Capability tokens in the Biscuit format: narrowed offline, checked by Datalog, revoked for good.

    from capability import Guard, KeySet

    guard = Guard(keys=keys, policy="allow if right($app, $op), application($app), operation($op)")
    decision = guard.check(text, application="orders", operation="read")

Everything public is here by name. A module is loaded when one of its names is first used: importing a part
must not pay for the whole.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from capability.attenuation import Vocabulary
    from capability.authorizer import Authorizer
    from capability.authorizer_builder import AuthorizerBuilder, AuthorizerLimits
    from capability.builders import BlockBuilder, Check, Fact, Policy, Rule
    from capability.datalog.errors import (
        DataLogError,
        DatalogError,
        EvaluationError,
        LimitExceeded,
        ParameterError,
        ParseError,
        PolicyError,
        UnsafeRule,
    )
    from capability.datalog.limits import Limits
    from capability.datalog.program import Program
    from capability.decision import Answer, Decision, FailedCheck, MatchedPolicy, Outcome
    from capability.errors import (
        AuthorizationError,
        BiscuitBlockError,
        BiscuitBuildError,
        BiscuitSerializationError,
        BiscuitValidationError,
        CapabilityError,
        ConfigurationError,
        Denied,
        ExecutionFailed,
        FormatError,
        KeyFormatError,
        LanguageError,
        LimitReached,
        Revoked,
        SealedError,
        SignatureError,
        SignedRevocationsError,
        StoreDumpError,
        StoreError,
        StoreNotEmpty,
        StoreRolledBack,
        StoreSchemaError,
        StoreUnavailable,
        StoreURLError,
        UnknownRootKey,
        UnsupportedVersion,
    )
    from capability.guard import CacheLimits, Guard, RequestForm
    from capability.inspection import Remaining, remaining
    from capability.keys import Algorithm, KeyPair, PrivateKey, PublicKey, Signer
    from capability.keyset import KeyEntry, KeySet, KeyState
    from capability.policy_review import PolicyWarning
    from capability.revocation import RevocationSource, RevocationStatus
    from capability.store import create_store, open_store
    from capability.third_party import ThirdPartyBlock, ThirdPartyRequest
    from capability.tokens import Biscuit, BiscuitBuilder, UnverifiedBiscuit

__all__ = [
    "Algorithm",
    "Answer",
    "AuthorizationError",
    "Authorizer",
    "AuthorizerBuilder",
    "AuthorizerLimits",
    "Biscuit",
    "BiscuitBlockError",
    "BiscuitBuildError",
    "BiscuitBuilder",
    "BiscuitSerializationError",
    "BiscuitValidationError",
    "BlockBuilder",
    "CacheLimits",
    "CapabilityError",
    "Check",
    "ConfigurationError",
    "DataLogError",
    "DatalogError",
    "Decision",
    "Denied",
    "EvaluationError",
    "ExecutionFailed",
    "Fact",
    "FailedCheck",
    "FormatError",
    "Guard",
    "KeyEntry",
    "KeyFormatError",
    "KeyPair",
    "KeySet",
    "KeyState",
    "LanguageError",
    "LimitExceeded",
    "LimitReached",
    "Limits",
    "MatchedPolicy",
    "Outcome",
    "ParameterError",
    "ParseError",
    "Policy",
    "PolicyError",
    "PolicyWarning",
    "PrivateKey",
    "Program",
    "PublicKey",
    "Remaining",
    "RequestForm",
    "RevocationSource",
    "RevocationStatus",
    "Revoked",
    "Rule",
    "SealedError",
    "SignatureError",
    "SignedRevocationsError",
    "Signer",
    "StoreDumpError",
    "StoreError",
    "StoreNotEmpty",
    "StoreRolledBack",
    "StoreSchemaError",
    "StoreURLError",
    "StoreUnavailable",
    "ThirdPartyBlock",
    "ThirdPartyRequest",
    "UnknownRootKey",
    "UnsafeRule",
    "UnsupportedVersion",
    "UnverifiedBiscuit",
    "Vocabulary",
    "create_store",
    "open_store",
    "remaining",
]

_HOMES: Final = {
    "capability.attenuation": ("Vocabulary",),
    "capability.authorizer": ("Authorizer",),
    "capability.authorizer_builder": (
        "AuthorizerBuilder",
        "AuthorizerLimits",
    ),
    "capability.builders": (
        "BlockBuilder",
        "Check",
        "Fact",
        "Policy",
        "Rule",
    ),
    "capability.datalog.errors": (
        "DataLogError",
        "DatalogError",
        "EvaluationError",
        "LimitExceeded",
        "ParameterError",
        "ParseError",
        "PolicyError",
        "UnsafeRule",
    ),
    "capability.datalog.limits": ("Limits",),
    "capability.datalog.program": ("Program",),
    "capability.decision": (
        "Answer",
        "Decision",
        "FailedCheck",
        "MatchedPolicy",
        "Outcome",
    ),
    "capability.errors": (
        "AuthorizationError",
        "BiscuitBlockError",
        "BiscuitBuildError",
        "BiscuitSerializationError",
        "BiscuitValidationError",
        "CapabilityError",
        "ConfigurationError",
        "Denied",
        "ExecutionFailed",
        "FormatError",
        "KeyFormatError",
        "LanguageError",
        "LimitReached",
        "Revoked",
        "SealedError",
        "SignatureError",
        "SignedRevocationsError",
        "StoreDumpError",
        "StoreError",
        "StoreNotEmpty",
        "StoreRolledBack",
        "StoreSchemaError",
        "StoreURLError",
        "StoreUnavailable",
        "UnknownRootKey",
        "UnsupportedVersion",
    ),
    "capability.guard": (
        "CacheLimits",
        "Guard",
        "RequestForm",
    ),
    "capability.inspection": (
        "Remaining",
        "remaining",
    ),
    "capability.keys": (
        "Algorithm",
        "KeyPair",
        "PrivateKey",
        "PublicKey",
        "Signer",
    ),
    "capability.keyset": (
        "KeyEntry",
        "KeySet",
        "KeyState",
    ),
    "capability.policy_review": ("PolicyWarning",),
    "capability.revocation": (
        "RevocationSource",
        "RevocationStatus",
    ),
    "capability.store": (
        "create_store",
        "open_store",
    ),
    "capability.third_party": (
        "ThirdPartyBlock",
        "ThirdPartyRequest",
    ),
    "capability.tokens": (
        "Biscuit",
        "BiscuitBuilder",
        "UnverifiedBiscuit",
    ),
}
_MODULES: Final = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
