"""Random cases on this engine and on biscuit-python: both decide alike, and read what the other writes."""
