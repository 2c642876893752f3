"""Values of records that no decoder accepts."""


def invalid_json(text: str = "a") -> list[bytes]:
    """Return a value for each of contract.decoding.DECODE_ERRORS; each contains `text`."""
    found = text.encode()
    nested = b"[" * 100_000 + b"]" * 100_000
    return [found, b'{"id":"%b\xff"}' % found, b'{"id":"%b","unknown":%b}' % (found, nested)]
