"""What ends a measurement without figures."""


class WrongResultError(Exception):
    """Something was lost, or answered or shown otherwise than it must be: no figure counts."""
