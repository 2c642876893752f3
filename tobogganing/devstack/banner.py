"""The text of `tobogganing run` when everything is ready: URLs, files, commands to paste."""

import shlex
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from tobogganing.devstack.prometheus import LocalPrometheus
from tobogganing.devstack.run_config import RunConfig, default_state
from tobogganing.devstack.secrets import SecretSource

RULE = "-" * 78


def value_of(source: SecretSource) -> str:
    """A shell expression for a secret, or the first of several; it does not contain the secret."""
    file = source.file
    value = f"${{{source.name}}}" if file is None else f"$(cat {shlex.quote(str(file))})"
    return f"$(echo {value} | tr , ' ' | cut -d ' ' -f 1)" if source.several else value


def banner(
    config: RunConfig,
    sources: Sequence[SecretSource],
    bootstrap_servers: str,
    prometheus: LocalPrometheus | None = None,
) -> str:
    """The text; its commands work when pasted as one block."""
    return f"""\
{RULE}
Ready.

{addresses(config, sources, bootstrap_servers, config.url, prometheus)}

{commands_to_paste(config, sources, config.url)}

Ctrl-C stops everything; what was acknowledged is still there at the next start.
{RULE}
"""


def addresses(
    config: RunConfig,
    sources: Sequence[SecretSource],
    bootstrap_servers: str,
    url: str,
    prometheus: LocalPrometheus | None = None,
) -> str:
    """URLs, and the folders of the state and the secrets; `url` is the address of the run."""
    lines = [
        (f"{url}/", "links to everything"),
        (f"{url}/checkins", "which clients and headends check in; sign in with METRICS_TOKEN"),
        (f"{url}/metrics", "for Prometheus, with METRICS_TOKEN as Bearer token"),
    ]
    if config.public_url:
        lines.append((f"{config.public_url}/", "the same from other machines"))
    if prometheus:
        lines.append((f"{prometheus.url}/alerts", "Prometheus with the alert rules"))
    lines += [("Kafka", bootstrap_servers), ("State, logs", str(config.state))]
    lines += [(source.name, str(source.file or "from the environment")) for source in sources]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in lines)


def commands_to_paste(config: RunConfig, sources: Sequence[SecretSource], url: str) -> str:
    """Lines that set up another terminal, and lines that register, submit and scrape."""
    by_name = {source.name: source for source in sources}
    admin, metrics = value_of(by_name["ADMIN_TOKEN"]), value_of(by_name["METRICS_TOKEN"])
    return f"""\
In another terminal, run this first, so that the commands of the documentation work unchanged:

{_setup(config)}

Register a client, submit for it, and scrape. Paste there (in fish, type `sh` first):

CLIENT_ID=test-client-$(date +%s)
API_KEY=$(curl -fsS -X POST {url}/api/v1/clients/register \\
  -H "Authorization: Bearer {admin}" \\
  -H "Content-Type: application/json" \\
  -d '{{"name": "Test client", "type": "native", "client_id": "'"$CLIENT_ID"'"}}' \\
  | sed -n 's/.*"api_key": *"\\([^"]*\\)".*/\\1/p')
RECEIPT=$(curl -fsS -X POST {url}/api/v1/clients/$CLIENT_ID/metrics \\
  -H "Authorization: Bearer $API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{{
    "headless": false,
    "metrics": {{
      "bytes_sent": 1000,
      "bytes_received": 2000,
      "connection_uptime": 60
    }}
  }}' | sed -n 's/.*"receipt": *"\\([^"]*\\)".*/\\1/p')
curl -fsS -H "Authorization: Bearer {metrics}" \\
  "{url}/metrics?after=$RECEIPT" | grep $CLIENT_ID"""


def _setup(config: RunConfig) -> str:
    """Lines for the shell from which the run's own commands, and the documents' files, are found.

    They are valid for fish, too.
    """
    lines = [
        f"cd {shlex.quote(str(default_state().parent))}",
        f'export PATH={shlex.quote(sysconfig.get_path("scripts"))}:"$PATH"',
    ]
    if config.state != default_state():
        lines.append(f"export STATE_DIR={shlex.quote(str(config.state))}")
    if config.tls_certificate:
        file = shlex.quote(str(Path(config.tls_certificate).absolute()))
        lines.append(f"export SSL_CERT_FILE={file} CURL_CA_BUNDLE={file}")
    return "\n".join(lines)
