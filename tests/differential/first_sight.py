"""What a guard that saw a token's relatives decides, beside one that never saw anything."""

import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from capability import (
    Biscuit,
    BiscuitBuilder,
    BlockBuilder,
    CacheLimits,
    DatalogError,
    Decision,
    Fact,
    Guard,
    KeyPair,
    Limits,
    PolicyWarning,
    PrivateKey,
)
from capability.remembered import DEFAULT_CACHE
from tests.differential.cases import EXTERNAL_KEYS
from tests.differential.relatives import NOW, Relatives, Request, Step, random_relatives

_ROOT: Final = KeyPair.from_private_key(PrivateKey("ed25519-private/" + "11" * 32))
_SIGNERS: Final = [KeyPair.from_private_key(PrivateKey(text)) for text in EXTERNAL_KEYS]
_LIMITS: Final = Limits(max_steps=50_000, max_time=20.0)


@dataclass
class Sights:
    """Counts of what was decided, and how."""

    tokens: int = 0
    at_first_sight: int = 0
    fast: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        outcomes = ", ".join(f"{count} {name}" for name, count in self.outcomes.most_common())
        return f"{self.tokens} tokens, {self.at_first_sight} at first sight without the engine: {outcomes}"


def disagreement(case: Relatives, counted: Sights) -> str | None:
    """Returns what differs, None when all is decided alike; each is asked twice of each guard."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PolicyWarning)
            guard, plain = _guard(case, DEFAULT_CACHE), _guard(case, CacheLimits(0))
    except DatalogError:
        return None
    for step in case.steps:
        try:
            token = _token(step)
        except DatalogError:
            continue
        text = token.to_base64()
        read = Biscuit.from_base64(text, _ROOT.public_key)
        for index in range(token.block_count()):
            if read.blocks[index].program != token.blocks[index].program:
                return f"block {index} is read as {read.block_source(index)}"
        counted.tokens += 1
        for number, request in enumerate(step.requests):
            expected = _asked(plain, text, request)
            counted.outcomes[expected.outcome] += 1
            for again in range(2):
                before = guard.stats().fast
                found = _asked(guard, text, request)
                fast = guard.stats().fast - before
                counted.fast += fast
                counted.at_first_sight += fast and not number + again
                # the rest of a decision that was made without the engine is asked of it
                told = _everything if not number + again else _brief
                if told(found) != told(expected):
                    how = "without" if fast else "by"
                    return f"{how} the engine: {told(found)}\nexpected: {told(expected)}"
    return None


def _guard(case: Relatives, cache: CacheLimits) -> Guard:
    return Guard(_ROOT.public_key, case.policy, None, lambda: NOW, _LIMITS, cache, answers=case.answers)


def _asked(guard: Guard, text: str, request: Request) -> Decision:
    operation, resource, tags = request
    facts = [Fact("tag({tag}, {tag})", {"tag": tag}) for tag in tags]
    return guard.check(text, operation=operation, resource=resource, facts=facts)


def _everything(decision: Decision) -> object:
    return {**decision.to_dict(), "decision_id": ""}


def _brief(decision: Decision) -> object:
    answers = decision.answers
    return (decision.outcome, answers, decision.subject, decision.expires_at, decision.revocation_ids)


def _token(step: Step) -> Biscuit:
    sources = step.sources
    token = BiscuitBuilder(sources[0]).build(_ROOT.private_key)
    for frame, source in zip(step.frames[1:], sources[1:], strict=True):
        block = BlockBuilder(source)
        if frame.signer is None:
            token = token.append(block)
        else:
            signer = _SIGNERS[frame.signer]
            signed = token.third_party_request().create_block(signer.private_key, block)
            token = token.append_third_party(signer.public_key, signed)
    return token


def smallest(case: Relatives) -> Relatives:
    """Returns a case that still shows a disagreement, from which nothing more can be taken away."""
    growing = True
    while growing:
        growing = False
        for less in case.smaller():
            if less.steps and disagreement(less, Sights()) is not None:
                case, growing = less, True
                break
    return case


def sights(seeds: range, counted: Sights) -> str | None:
    """Counts what comes of the cases of `seeds`; returns the first disagreement in full, if any."""
    for seed in seeds:
        case = random_relatives(seed)
        wrong = disagreement(case, counted)
        if wrong is not None:
            return f"{wrong}\n\n{smallest(case).describe()}"
    return None
