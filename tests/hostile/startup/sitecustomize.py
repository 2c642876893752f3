"""Imported by Python at startup of a gateway that has this directory on its path."""

from tests.hostile.callbacks import install

install()
