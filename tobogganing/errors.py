"""What can go wrong on this machine."""


class LocalError(RuntimeError):
    """Something that the user can repair; the text says what is wrong and what to do."""

    status = 1
    """Exit status of a command that ends so."""


class WrongSettingError(LocalError):
    """A setting of the environment is missing or wrong."""

    status = 2
