"""Programs of Debian packages that tests and benchmarks use."""

from tobogganing.devstack.debian import Program, program, unpacked

__all__ = ["Program", "haproxy", "program", "unpacked", "victoria_metrics"]


def haproxy() -> Program:
    libraries = ("liblua5.3-0", "libopentracing-c-wrapper0", "libopentracing1")
    return program("haproxy", "usr/sbin/haproxy", *libraries)


def victoria_metrics() -> Program:
    return program("victoria-metrics", "usr/bin/victoria-metrics")
