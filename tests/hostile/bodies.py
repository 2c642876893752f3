"""Bodies that take the maximum CPU time to decode for their size."""

from collections.abc import Callable

from gateway.ingest.batch import MAX_BATCH_BYTES
from gateway.ingest.batch_decoder import MAX_ITEMS, MAX_WHOLE
from gateway.ingest.decoder import MAX_SUBMISSION_BYTES

_HARD = b'"connection_uptime":9007199254740993.0000000000000000001'
"""A number halfway between two floats, which is slowest to decode."""


def _item(metrics: bytes, more: bytes = b"", id: bytes = b"a") -> bytes:
    return b'{"kind":"client","id":"%b","metrics":{%b}%b}' % (id, metrics, more)


def _filled(piece: bytes, size: int) -> bytes:
    """Return as many pieces as fit, separated by commas."""
    return b",".join([piece] * (size // (len(piece) + 1)))


def _names(size: int) -> bytes:
    return b",".join(b'"%d":1' % number for number in range(size // 11))


def one_item_of_names() -> bytes:
    return _item(_names(MAX_BATCH_BYTES - 200))


def items_of_names() -> bytes:
    """Return as many items as fit, each with the maximum number of names."""
    return _filled(_item(_names(MAX_SUBMISSION_BYTES - 200)), MAX_BATCH_BYTES)


def small_items() -> bytes:
    return _filled(_item(b""), MAX_BATCH_BYTES)


def hard_numbers() -> bytes:
    return _filled(_item(_filled(_HARD, MAX_SUBMISSION_BYTES - 200)), MAX_BATCH_BYTES)


def whole_hard_numbers() -> bytes:
    """Return such an item of up to 1 MiB, which is decoded in one call."""
    return _filled(_item(_filled(_HARD, MAX_WHOLE - 500)), MAX_BATCH_BYTES)


def huge_integers() -> bytes:
    """Return integers with the maximum number of digits that Python converts."""
    digits = b'"connection_uptime":' + b"1" * 4_299
    return _filled(_item(_filled(digits, MAX_SUBMISSION_BYTES - 200)), MAX_BATCH_BYTES)


def one_huge_integer() -> bytes:
    return _item(b'"bytes_sent":' + b"1" * (MAX_BATCH_BYTES - 200))


def same_name() -> bytes:
    return _item(_filled(b'"bytes_sent":1', MAX_BATCH_BYTES - 200))


def ignored_values() -> bytes:
    return _item(b"", b',"x":[%b]' % _filled(b"[]", MAX_BATCH_BYTES - 200))


def text() -> bytes:
    return _item(b"", b',"x":"%b"' % ("\U0001f600" * (MAX_BATCH_BYTES // 4 - 100)).encode())


def unclosed_quotes(size: int) -> bytes:
    """Return more colons than names are allowed, and an unterminated string of quotes."""
    colons = b'":' * 1_001
    return colons + b'\\"' * ((size - len(colons)) // 2)


def items_of_unclosed_quotes() -> bytes:
    """Return lines (an array would be invalid), so that the names of each item are checked."""
    item = b'{"kind":"client","id":"a","metrics":{' + unclosed_quotes(MAX_SUBMISSION_BYTES - 200)
    return b"\n".join([item] * (MAX_BATCH_BYTES // (len(item) + 1)))


def deep() -> bytes:
    return _item(b"", b',"x":' + b"[" * (MAX_BATCH_BYTES - 200))


def refused_items() -> bytes:
    return b",".join([_item(b'"bytes_sent":-1')] * MAX_ITEMS)


def unregistered_items() -> bytes:
    return b",".join(_item(b"", id=b"stranger-%d" % number) for number in range(MAX_ITEMS))


HOSTILE_LINES: dict[str, Callable[[], bytes]] = {
    "items-of-unclosed-quotes": items_of_unclosed_quotes,
}
"""Batches of lines that would be invalid as arrays."""
HOSTILE_ITEMS: dict[str, Callable[[], bytes]] = {
    "many-names": one_item_of_names,
    "items-of-names": items_of_names,
    "small-items": small_items,
    "hard-numbers": hard_numbers,
    "whole-hard-numbers": whole_hard_numbers,
    "huge-integers": huge_integers,
    "huge-integer": one_huge_integer,
    "same-name": same_name,
    "ignored-values": ignored_values,
    "text": text,
    "deep-nesting": deep,
    "refused-items": refused_items,
    "unregistered-items": unregistered_items,
}
"""Items of batches, without the brackets around them."""


def large_backlog() -> bytes:
    """Return as many samples as fit; the last one is invalid."""
    sample = b'{"timestamp":1,"metrics":{"x":1}}'
    return b'{"samples":[%b,1]}' % _filled(sample, MAX_SUBMISSION_BYTES - 100)


def submission_of_names() -> bytes:
    return b'{"metrics":{%b}}' % _names(MAX_SUBMISSION_BYTES - 100)


def submission_of_unclosed_quotes() -> bytes:
    return b'{"metrics":{' + unclosed_quotes(MAX_SUBMISSION_BYTES - 100)


def backlog_of_unclosed_quotes() -> bytes:
    """Return a sample that is valid JSON: its quotes are in a long string."""
    names = b",".join(b'"%d":1' % number for number in range(1_001))
    text = b'\\"' * ((MAX_SUBMISSION_BYTES - 20_000) // 2)
    return b'{"samples":[{"timestamp":1,"metrics":{"x":"%b",%b}}]}' % (text, names)
