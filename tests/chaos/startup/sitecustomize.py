"""Python imports this by its name at the start of a worker that has this folder on its path."""

from tests.chaos.exception_injection import install

install()
