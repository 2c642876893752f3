"""Parts of uvicorn that are not its public interface. Written for uvicorn 0.54.0, pinned.

`tests/unit/service/http/test_uvicorn_compat.py` fails if a part no longer exists, and
`tests/unit/service/http/test_protocol.py` and `test_fast_path.py` fail if one behaves differently.
"""

import uvicorn
from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

WRITTEN_FOR = "0.54.0"

__all__ = [
    "HIGH_WATER_LIMIT",
    "STARTUP_FAILURE",
    "STATUS_LINE",
    "Config",
    "FlowControl",
    "RequestResponseCycle",
    "ServerState",
    "forget_signals",
    "get_local_addr",
    "get_remote_addr",
    "is_ssl",
]


def forget_signals(server: uvicorn.Server) -> None:
    """Forget the signals that a server has handled, which it would raise again at its end.

    `test_uvicorn_compat.py::test_a_handled_signal_is_not_raised_again`.
    """
    server._captured_signals.clear()
