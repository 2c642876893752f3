"""The text of `tobogganing run` when everything is ready: URLs, files, commands to paste."""

import shlex
from collections.abc import Sequence

from tobogganing.devstack.secrets import SecretSource

RULE = "-" * 78


def value_of(source: SecretSource) -> str:
    """A shell expression for a secret, or the first of several; it does not contain the secret."""
    file = source.file
    value = f"${{{source.name}}}" if file is None else f"$(cat {shlex.quote(str(file))})"
    return f"$(echo {value} | tr , ' ' | cut -d ' ' -f 1)" if source.several else value


def banner(url: str, sources: Sequence[SecretSource], state: str, bootstrap_servers: str) -> str:
    """The text; its commands work when pasted as one block."""
    by_name = {source.name: source for source in sources}
    admin, metrics = value_of(by_name["ADMIN_TOKEN"]), value_of(by_name["METRICS_TOKEN"])
    secrets = "\n".join(
        f"  {source.name:<13} {source.file or 'from the environment'}" for source in sources
    )
    return f"""\
{RULE}
Ready.

  {url}/          links to everything
  {url}/metrics   for Prometheus, with METRICS_TOKEN as Bearer token
  Kafka         {bootstrap_servers}
  State, logs   {state}
{secrets}

Register a client, submit for it, and scrape. Paste into another terminal:

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
  "{url}/metrics?after=$RECEIPT" | grep "$CLIENT_ID"

Ctrl-C stops everything; what was acknowledged is still there at the next start.
{RULE}
"""
