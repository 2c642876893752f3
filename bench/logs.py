"""Logs of a benchmark's own process: standard output is for figures."""

import logging
import sys

import structlog


def quiet() -> None:
    """Log errors only, to standard error."""
    logging.basicConfig(level=logging.ERROR)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
