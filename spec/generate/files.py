"""Which topic is in which file, and what the file holds."""

import json
from importlib import import_module
from pathlib import Path
from typing import Final

from spec.generate.vectors import Vector

DIRECTORY: Final = Path(__file__).parent.parent / "vectors"
TOPICS: Final = {
    "abuse": "abuse",
    "attacks": "attacks",
    "authorization": "authorization",
    "contents": "contents",
    "formats": "formats",
    "keys": "key_forms",
    "language": "language",
    "operators": "operators",
    "revocations": "revocations",
    "snapshots": "snapshots",
    "third_parties": "third_parties",
    "trust": "trust",
}
"""Each file of vectors, and the module that writes it."""


def contents(topic: str) -> str:
    """Returns the text of the file of a topic: a JSON list of vectors."""
    vectors: list[Vector] = list(import_module(f"spec.generate.{TOPICS[topic]}").vectors())
    return json.dumps(vectors, indent=1, ensure_ascii=True) + "\n"
