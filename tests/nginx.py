"""Debian's nginx in front of a service, with one connection that all clients share."""

import asyncio
import contextlib
import grp
import os
import pwd
from collections.abc import AsyncIterator
from pathlib import Path

from tests.debian import or_give_up
from tobogganing.devstack import process
from tobogganing.devstack.ports import free_ports
from tools import debian

PATIENCE = 30
POLL = 0.02

CONFIG = """
daemon off;
user {user};
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ }}
http {{
    access_log off;
    sendfile on;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    upstream gateway {{ server 127.0.0.1:{upstream}; keepalive 1; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection {connection};
            proxy_request_buffering {buffering};
        }}
    }}
}}
"""


@contextlib.asynccontextmanager
async def nginx(
    folder: Path, upstream: int, connection: str, *, buffering: bool
) -> AsyncIterator[int]:
    """Run nginx until the context ends; yields its port.

    `connection` is what it sends as Connection; with `buffering` it sends no body before it has
    all of it.
    """
    program = or_give_up(lambda: debian.program("nginx", "usr/sbin/nginx"))
    (port,) = free_ports(1)
    config = folder / "nginx.conf"
    config.write_text(
        CONFIG.format(
            folder=folder,
            user=f"{pwd.getpwuid(os.geteuid()).pw_name} {grp.getgrgid(os.getegid()).gr_name}",
            upstream=upstream,
            port=port,
            connection=connection,
            buffering="on" if buffering else "off",
        )
    )
    with (folder / "nginx.log").open("wb") as log:
        child = process.start(
            [program.path, "-p", folder, "-c", config, "-e", folder / "nginx-error.log"],
            environ=program.environ,
            output=log,
        )
    try:
        async with asyncio.timeout(PATIENCE):
            while not await listens(port):
                assert child.poll() is None, (folder / "nginx.log").read_text()
                await asyncio.sleep(POLL)
        yield port
    finally:
        await process.stop(child, 5)


async def listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
