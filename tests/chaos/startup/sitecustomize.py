"""Imported by Python at startup of a worker that has this directory on its path."""

from tests.chaos.exception_injection import install

install()
