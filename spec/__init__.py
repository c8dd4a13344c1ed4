"""The specification of the tokens, its vectors, and what makes the vectors."""
