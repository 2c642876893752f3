"""Python imports this by its name at the start of a gateway that has this folder on its path."""

from tests.hostile.callbacks import install

install()
