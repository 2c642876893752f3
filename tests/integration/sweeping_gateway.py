"""A gateway that deletes expired records more often than once a minute; run with `python -m`."""

import runpy

from gateway.registry.writer import RegistryWriter

RegistryWriter.expiry_interval = 0.2

if __name__ == "__main__":
    runpy.run_module("gateway", run_name="__main__", alter_sys=True)
