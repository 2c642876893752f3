"""The configuration that ingress-nginx generates from an Ingress, with its template and defaults.

Written for controller 1.15.1, the last one. There Lua code chooses among the pods; here an upstream
block does. Directives that do not affect requests (logs, metrics, Lua) are left out.
"""

import grp
import os
import pwd
from pathlib import Path

from tests.ingress.rules import Rule, Site, Values

PREFIX = "nginx.ingress.kubernetes.io/"
SIZE = r"\d+[kKmMgG]?"
NUMBER = r"\d+"
SWITCH = "on|off"
CONFIG = """
daemon off;
user {user};
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ multi_accept on; worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    tcp_nopush on;
    reset_timedout_connection on;
    keepalive_timeout 75s;
    keepalive_requests 1000;
    client_header_buffer_size 1k;
    client_header_timeout 60s;
    large_client_header_buffers 4 8k;
    client_body_buffer_size 8k;
    client_body_timeout 60s;
    underscores_in_headers off;
    ignore_invalid_headers on;
    server_tokens off;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:SSL:10m;
    ssl_session_timeout 10m;
    ssl_session_tickets off;
    ssl_early_data off;
    ssl_certificate {certificate};
    ssl_certificate_key {certificate};
    {upstreams}
    server {{
        server_name _;
        listen 127.0.0.1:{http} default_server;
        listen 127.0.0.1:{https} default_server ssl http2;
        return 404;
    }}
    server {{
        server_name "{host}";
        listen 127.0.0.1:{http};
        listen 127.0.0.1:{https} ssl http2;
        {server}
        {locations}
    }}
}}
"""
UPSTREAM = """
    upstream {name} {{
        {servers}
        keepalive 320;
        keepalive_time 1h;
        keepalive_timeout 60s;
        keepalive_requests 10000;
    }}
"""
LOCATION = """
        location {match} {{
            {redirect}
            client_max_body_size {body_size};
            client_body_buffer_size {buffer_size};
            proxy_set_header Host $http_host;
            {certificate_headers}
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Request-ID $request_id;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Port $server_port;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Scheme $scheme;
            proxy_set_header X-Scheme $scheme;
            proxy_set_header X-Original-Forwarded-For $http_x_forwarded_for;
            proxy_set_header X-Original-Forwarded-Host $http_x_forwarded_host;
            proxy_set_header Proxy "";
            {headers}
            proxy_connect_timeout {connect_timeout}s;
            proxy_send_timeout {send_timeout}s;
            proxy_read_timeout {read_timeout}s;
            proxy_buffering {buffering};
            proxy_buffer_size 4k;
            proxy_buffers 4 4k;
            proxy_max_temp_file_size 1024m;
            proxy_request_buffering {request_buffering};
            proxy_http_version 1.1;
            proxy_cookie_domain off;
            proxy_cookie_path off;
            proxy_next_upstream {next_upstream};
            proxy_next_upstream_timeout {next_timeout};
            proxy_next_upstream_tries {next_tries};
            proxy_pass http://{service};
            proxy_redirect off;
        }}
"""
REDIRECT = "if ($scheme = http) { return 308 https://$host$request_uri; }"
CERTIFICATE_HEADERS = """
            proxy_set_header ssl-client-verify $ssl_client_verify;
            proxy_set_header ssl-client-subject-dn $ssl_client_s_dn;
            proxy_set_header ssl-client-issuer-dn $ssl_client_i_dn;
"""


def configuration(site: Site, folder: Path, http: int, https: int) -> str:
    """Return nginx.conf."""
    assert site.class_name == "nginx"
    values = Values(site.annotations(PREFIX))
    of_location = {
        "redirect": REDIRECT if _is_true(values, "ssl-redirect", "true") else "",
        "body_size": values.take("proxy-body-size", SIZE, "1m"),
        "buffer_size": values.take("client-body-buffer-size", SIZE, "8k"),
        "connect_timeout": values.take("proxy-connect-timeout", NUMBER, "5"),
        "send_timeout": values.take("proxy-send-timeout", NUMBER, "60"),
        "read_timeout": values.take("proxy-read-timeout", NUMBER, "60"),
        "buffering": values.take("proxy-buffering", SWITCH, "off"),
        "request_buffering": values.take("proxy-request-buffering", SWITCH, "on"),
        "next_upstream": values.take(
            "proxy-next-upstream", r"((error|timeout|http_50[234]|non_idempotent|off)\s?)+", "error"
        ),
        "next_timeout": values.take("proxy-next-upstream-timeout", NUMBER, "0"),
        "next_tries": values.take("proxy-next-upstream-tries", NUMBER, "3"),
        "headers": _headers(site),
    }
    server = ""
    ca = values.take("auth-tls-secret", r"[\w-]+/[\w-]+|", "")
    verify = values.take("auth-tls-verify-client", "on|off|optional|optional_no_ca", "on")
    if ca:
        assert ca == "tobogganing/ca"
        server = f"ssl_client_certificate {site.client_ca};"
        server += f" ssl_verify_client {verify}; ssl_verify_depth 1;"
    values.require_all_taken()
    of_location["certificate_headers"] = CERTIFICATE_HEADERS if ca else ""
    user = f"{pwd.getpwuid(os.geteuid()).pw_name} {grp.getgrgid(os.getegid()).gr_name}"
    return CONFIG.format(
        folder=folder,
        user=user,
        certificate=site.certificate,
        host=site.host,
        http=http,
        https=https,
        server=server,
        upstreams="".join(
            UPSTREAM.format(
                name=service,
                servers=" ".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports),
            )
            for service, ports in site.pods.items()
        ),
        locations="".join(
            LOCATION.format(match=match, service=rule.service, **of_location)
            for rule in site.rules()
            for match in _matches(rule)
        ),
    )


def _is_true(values: Values, name: str, default: str) -> bool:
    return values.take(name, "true|false", default) == "true"


def _matches(rule: Rule) -> list[str]:
    """A prefix other than `/` becomes two locations."""
    if rule.is_exact:
        return [f'= "{rule.path}"']
    if rule.path == "/":
        return ['"/"']
    return [f'"{rule.path}/"', f'= "{rule.path}"']


def _headers(site: Site) -> str:
    """The headers of the ConfigMap that `proxy-set-headers` names, if it names one."""
    named = site.controller.get("proxy-set-headers")
    if named is None:
        return ""
    namespace, _, name = named.partition("/")
    found = site.manifests.one("ConfigMap", name)
    assert found["metadata"]["namespace"] == namespace
    return " ".join(f'proxy_set_header {key} "{value}";' for key, value in found["data"].items())
