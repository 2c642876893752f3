"""Misspelled settings are found; variables of other programs are not reported."""

import pytest

from exporter.settings import ExporterSettings
from gateway.settings import GatewaySettings
from processor.settings import ProcessorSettings
from service.config.settings import variables
from service.config.spelling import misspellings
from tobogganing.manager import ServeSettings

SERVICES = (GatewaySettings, ProcessorSettings, ExporterSettings, ServeSettings)
ALL = set().union(*map(variables, SERVICES))

CONTAINER = """
    PATH HOSTNAME HOME PWD OLDPWD SHLVL USER LOGNAME SHELL TERM LANG LC_ALL LANGUAGE TZ TMPDIR
    EDITOR PAGER MAIL _ PYTHON_VERSION PYTHON_SHA256 PYTHONUNBUFFERED PYTHONDONTWRITEBYTECODE
    PYTHONPATH PYTHON_PIP_VERSION GPG_KEY VIRTUAL_ENV SSL_CERT_FILE HTTP_PROXY HTTPS_PROXY
    NO_PROXY http_proxy https_proxy no_proxy JAVA_HOME KUBERNETES_SERVICE_HOST
    KUBERNETES_SERVICE_PORT KUBERNETES_SERVICE_PORT_HTTPS KUBERNETES_PORT KUBERNETES_PORT_443_TCP
    KUBERNETES_PORT_443_TCP_PROTO KUBERNETES_PORT_443_TCP_PORT KUBERNETES_PORT_443_TCP_ADDR
    KAFKA_SERVICE_HOST KAFKA_SERVICE_PORT KAFKA_SERVICE_PORT_TCP_CLIENT KAFKA_PORT
    KAFKA_PORT_9092_TCP KAFKA_PORT_9092_TCP_PROTO KAFKA_PORT_9092_TCP_PORT
    KAFKA_PORT_9092_TCP_ADDR KAFKA_HOME KAFKA_HEAP_OPTS KAFKA_OPTS KAFKA_BROKERS_SERVICE_HOST
    KAFKA_BROKERS_PORT GATEWAY_SERVICE_HOST GATEWAY_PORT EXPORTER_PORT EXPORTER_SERVICE_PORT
    PROCESSOR_PORT PROCESSOR_SERVICE_HOST PROMETHEUS_MULTIPROC_DIR POD_NAME POD_IP NODE_NAME
    NAMESPACE INVOCATION_ID JOURNAL_STREAM SYSTEMD_EXEC_PID XDG_RUNTIME_DIR
    DBUS_SESSION_BUS_ADDRESS SSH_AUTH_SOCK STATE_DIR TOBOGGANING_URL TOBOGGANING_CACHE
    TOBOGGANING_JAVA MAVEN_MIRROR COMPOSE_FILE COMPOSE_PROJECT_NAME SUBNET CI GITHUB_TOKEN
    NPM_TOKEN VAULT_TOKEN VAULT_ADDR AWS_REGION AWS_SESSION_TOKEN OTEL_METRICS_EXPORTER
    MAX_CONNECTIONS WORKERS WEB_CONCURRENCY MAKEFLAGS MFLAGS MAKELEVEL
"""


@pytest.mark.parametrize("service", SERVICES)
def test_common_variables_cause_no_warning(service: type) -> None:
    found = [str(each) for each in misspellings(variables(service), CONTAINER.split())]
    assert found == []


@pytest.mark.parametrize("service", SERVICES)
def test_variables_of_other_programs_cause_no_warning(service: type) -> None:
    found = [str(each) for each in misspellings(variables(service), ALL)]
    assert found == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("RETENTION_HOUR", "RETENTION_HOURS"),
        ("RETENTIONS_HOURS", "RETENTION_HOURS"),
        ("RENTENTION_HOURS", "RETENTION_HOURS"),
        ("retention_hours", "RETENTION_HOURS"),
        ("STUCK_AFTER_SECS", "STUCK_AFTER_SECONDS"),
        ("KAFKA_BOOTSTRAP_SERVER", "KAFKA_BOOTSTRAP_SERVERS"),
        ("KAFKA_SSL_CA_FILE", "KAFKA_SSL_CAFILE"),
        ("KAFKA_SASL_USER", "KAFKA_SASL_USERNAME"),
        ("KAFKA_BROKERS", None),
        ("METRIC_TOKEN", "METRICS_TOKEN"),
        ("WORKER_NAMES_FOLDERS", "WORKER_NAMES_FOLDER"),
    ],
)
def test_misspelled_settings_are_found(name: str, meant: str | None) -> None:
    ((found, proposed),) = misspellings(variables(ProcessorSettings), [name, "PATH"])
    assert found == name
    assert proposed == meant
