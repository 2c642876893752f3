"""What decoders raise for invalid input."""

import msgspec

DECODE_ERRORS = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""Exceptions of a msgspec decoder: for invalid JSON or values, for deeply nested JSON, and for
strings that are not UTF-8."""
