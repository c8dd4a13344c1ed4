"""The bytes of tokens: protobuf messages, symbol tables, text."""
