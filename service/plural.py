"""Numbers with their nouns in messages."""


def counted(count: float, noun: str, plural: str = "") -> str:
    """A number with its noun, in the singular or plural: `1 client`, `2,000 clients`."""
    return f"{count:,.0f} {noun if count == 1 else plural or f'{noun}s'}"
