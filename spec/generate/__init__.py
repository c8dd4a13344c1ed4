"""Hand-written generators of the vectors: `python -m spec.generate` writes them all.

INVARIANT: nothing here imports `capability`. The generators have their own protobuf encoder,
symbol tables and signatures, so that a mistake in the engine cannot hide in the vectors that test it.
Keys come from fixed seeds and every signature is deterministic: running the generators again changes no byte.
"""
