"""The configuration that HAProxy's own ingress controller (haproxytech) generates from an Ingress.

Written for controller 3.2, whose HAProxy is newer than Debian's. What does not affect requests
(logs, statistics, peers) is left out.
"""

import re
from pathlib import Path

from tests.ingress.rules import Rule, Site, Values

PREFIX = "haproxy.org/"
TIME = r"\d+(us|ms|s|m|h|d)"
ID = "ID"
"""The id of the rules of this Ingress, which is a hash in the controller."""
CONFIG = """
global
    nbthread 1
    default-path config
    ssl-default-bind-options no-sslv3 no-tls-tickets no-tlsv10
defaults haproxytech
    mode http
    option dontlognull
    option http-keep-alive
    timeout http-request {http_request}
    timeout connect {connect}
    timeout client {client}
    timeout queue 5s
    timeout server 50s
    timeout tunnel 1h
    timeout http-keep-alive {keep_alive}
frontend http from haproxytech
    bind 127.0.0.1:{http}
    {select}
    {redirect}
    {headers}
    use_backend %[var(txn.path_match),field(1,.)]
    default_backend nothing
frontend https from haproxytech
    bind 127.0.0.1:{https} ssl crt {certificate} alpn h2,http/1.1 {verify}
    {select}
    http-request set-header X-Forwarded-Proto https
    {headers}
    use_backend %[var(txn.path_match),field(1,.)]
    default_backend nothing
backend nothing from haproxytech
    http-request return status 404
"""
SELECT = """
    http-request set-var(txn.base) base
    http-request set-var(txn.path) path
    http-request set-var(txn.host) req.hdr(Host),field(1,:),lower
    http-request set-var(txn.host_match) var(txn.host),map({folder}/host.map)
    http-request set-var(txn.host_match) var(txn.host),regsub(^[^.]*,,),map({folder}/host.map,'') if !{{ var(txn.host_match) -m found }}
    http-request set-var(txn.path_match) var(txn.host_match),concat(,txn.path,),map({folder}/path-exact.map)
    http-request set-var(txn.path_match) var(txn.host_match),concat(,txn.path,),map({folder}/path-prefix-exact.map) if !{{ var(txn.path_match) -m found }}
    http-request set-var(txn.path_match) var(txn.host_match),concat(,txn.path,),map_beg({folder}/path-prefix.map) if !{{ var(txn.path_match) -m found }}
"""  # noqa: E501
BACKEND = """
backend {name} from haproxytech
    balance roundrobin
    {forwarded_for}
    {timeout}
    {snippet}
    {servers}
"""
MATCH = f"if {{ var(txn.path_match) -m dom {ID} }}"


def configuration(site: Site, folder: Path, http: int, https: int) -> str:
    """Return haproxy.cfg; its maps are written to `folder`."""
    assert site.class_name == "haproxy"
    values = Values(site.annotations(PREFIX))
    redirect = ""
    is_redirected = values.take("ssl-redirect", "true|false", "true") == "true"
    redirect_port = values.take("ssl-redirect-port", r"\d+", "8443")
    if is_redirected:
        target = f"https://%[hdr(host),field(1,:)]:{redirect_port}%[capture.req.uri]"
        redirect = f"http-request redirect code 302 location {target} {MATCH}"
    forwarded_for = values.take("forwarded-for", "true|false", "true") == "true"
    timeout = values.take("timeout-server", TIME + "|", "")
    interval = values.take("check-interval", TIME + "|", "")
    snippet = values.take("backend-config-snippet", ".*", "").splitlines()
    headers = values.take("request-set-header", r"(\S+ [^\n]+\n?)*", "").splitlines()
    values.require_all_taken()
    _write_maps(site, folder)
    check = "check" + (f" inter {interval}" if interval else "")
    settings = Values(site.controller)
    text = CONFIG.format(
        http=http,
        https=https,
        certificate=site.certificate,
        verify=_verify(site, settings),
        select=SELECT.format(folder=folder),
        redirect=redirect,
        headers="\n    ".join(map(_set_header, headers)),
        http_request=settings.take("timeout-http-request", TIME, "5s"),
        connect=settings.take("timeout-connect", TIME, "5s"),
        client=settings.take("timeout-client", TIME, "50s"),
        keep_alive=settings.take("timeout-http-keep-alive", TIME, "1m"),
    )
    settings.require_all_taken()
    for service, ports in site.pods.items():
        text += BACKEND.format(
            name=_backend(service),
            forwarded_for="option forwardfor" if forwarded_for else "",
            timeout=f"timeout server {timeout}" if timeout else "",
            snippet="\n    ".join(snippet),
            servers="\n    ".join(
                f"server SRV_{n} 127.0.0.1:{port} {check}" for n, port in enumerate(ports, 1)
            ),
        )
    return text


def _verify(site: Site, settings: Values) -> str:
    """The options of `bind` for client certificates: of all hosts, or of none."""
    is_optional = settings.take("client-crt-optional", "true|false", "false") == "true"
    if not settings.take("client-ca", "tobogganing/ca|", ""):
        return ""
    return f"ca-file {site.client_ca} verify {'optional' if is_optional else 'required'}"


def _set_header(line: str) -> str:
    name, _, value = line.partition(" ")
    value = re.sub(r'^"?(.*?)"?$', r'"\1"', value)
    return f"http-request set-header {name} {value} {MATCH}"


def _backend(service: str) -> str:
    return f"tobogganing_svc_{service}_http"


def _write_maps(site: Site, folder: Path) -> None:
    maps: dict[str, list[str]] = {
        "host": [f"{site.host} {site.host}"],
        "path-exact": [],
        "path-prefix-exact": [],
        "path-prefix": [],
    }
    for rule in site.rules():
        for name, path in _keys(rule):
            maps[name].append(f"{site.host}{path} {_backend(rule.service)}.{ID}")
    for name, lines in maps.items():
        # HAProxy's map_beg takes the longest match only of a sorted tree, so order is no matter.
        (folder / f"{name}.map").write_text("".join(f"{line}\n" for line in lines))


def _keys(rule: Rule) -> list[tuple[str, str]]:
    if rule.is_exact:
        return [("path-exact", rule.path)]
    if rule.path == "/":
        return [("path-prefix", "/")]
    return [("path-prefix-exact", rule.path), ("path-prefix", f"{rule.path}/")]
