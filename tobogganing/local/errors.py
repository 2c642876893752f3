"""What can go wrong on this machine."""


class LocalError(RuntimeError):
    """Something that the user can mend; the text says what is wrong and what to do."""
