"""`tobogganing run` and `kafka start`: everything on this machine, until Ctrl-C or SIGTERM."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from types import FrameType
from typing import Any

from service.config.settings import LogSettings, load_settings
from service.logs import configure_logs
from tobogganing.devstack.disk import disk_faults
from tobogganing.devstack.install import Install, install_kafka
from tobogganing.devstack.local_run import forget_urls, lock_file
from tobogganing.devstack.local_stack import LocalStack, Step
from tobogganing.devstack.locks import LockedError, acquire
from tobogganing.devstack.log_mux import LogMux
from tobogganing.devstack.ports import is_loopback
from tobogganing.devstack.preflight import check_port, check_services, wrong_settings
from tobogganing.devstack.progress_line import STOPPED
from tobogganing.devstack.prometheus import LocalPrometheus
from tobogganing.devstack.run_config import RunConfig, read_run_config
from tobogganing.devstack.secrets import SecretSource, provide_secrets, provide_signing_keys
from tobogganing.errors import LocalError

PLAIN_HTTP = (
    "warning: HOST={host} without TLS: others in the network can read API keys and tokens. Set "
    "TLS_CERTIFICATE and TLS_KEY, or use the network for tests only (docs/security.md)"
)


def run(environ: Mapping[str, str] | None = None, before_services: Step | None = None) -> int:
    """Run until stopped; return the exit status. `before_services` is awaited when Kafka is ready.

    Raises:
        LocalError: the start failed; the text says what to do.
    """
    environ = os.environ if environ is None else environ
    config = read_run_config(environ)
    with _holding(config):
        check_port(config)
        _configure_own_logs(environ)
        folder = config.state / "secrets"
        sources = provide_secrets(folder, environ)
        keys = provide_signing_keys(folder, environ)
        environ = {**environ, "SIGNING_KEYS_DIR": str(keys)} | _secret_files(sources)
        check_services(config, environ)
        prometheus = LocalPrometheus.prepare(config, sources) if config.with_prometheus else None
        install = None if config.bootstrap_servers else install_kafka(environ)

        async def run(stack: LocalStack, mux: LogMux) -> None:
            if not is_loopback(config.host) and not config.tls_certificate:
                mux.write_line(PLAIN_HTTP.format(host=config.host))
            await stack.run_services(sources, prometheus, before_services)

        _run(config, environ, install, run)
    return 0


def run_kafka(environ: Mapping[str, str] | None = None) -> int:
    """Run the Kafka of the local run alone, until stopped; return the exit status.

    Raises:
        LocalError: the start failed; the text says what to do.
    """
    environ = os.environ if environ is None else environ
    config = read_run_config(environ)
    with _holding(config):
        _configure_own_logs(environ)
        _run(config, environ, install_kafka(environ), lambda stack, _: stack.run_kafka())
    return 0


@contextlib.contextmanager
def _holding(config: RunConfig) -> Iterator[None]:
    """Hold the lock of the state's folder."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with disk_faults(config.state, "STATE_DIR"), acquire(lock_file(config.state), wait=False):
            forget_urls(config.state)
            yield
    except LockedError as error:
        raise LocalError(
            f"already running on {config.state} (process {error.holder}): stop that one, or choose "
            "another folder and port: make run STATE_DIR=.state2 PORT=8001"
        ) from None
    except KeyboardInterrupt:
        # Do not wait for the threads of downloads.
        print(STOPPED, file=sys.stderr, flush=True)
        os._exit(0)


def _run(
    config: RunConfig,
    environ: Mapping[str, str],
    install: Install | None,
    run: Callable[[LocalStack, LogMux], Coroutine[Any, Any, None]],
) -> None:
    mux = LogMux(sys.stdout.buffer, config.state / "logs")
    try:
        asyncio.run(run(LocalStack(config, environ, install, mux), mux))
    finally:
        mux.close()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _configure_own_logs(environ: Mapping[str, str]) -> None:
    """Log warnings as readable lines, unless LOG_FORMAT and LOG_LEVEL are set."""
    quiet = {"LOG_FORMAT": "console", "LOG_LEVEL": "WARNING"}
    with wrong_settings():
        settings = load_settings(LogSettings, {**quiet, **environ})
    configure_logs(settings, "run")


def _secret_files(sources: list[SecretSource]) -> dict[str, str]:
    return {f"{source.name}_FILE": str(source.file) for source in sources if source.file}
