"""The language of checks and policies, and its engine. Knows nothing of tokens, keys or signatures."""
