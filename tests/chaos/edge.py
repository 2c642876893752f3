"""The edge of the installation: the real HAProxy, with its own configuration."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.ports import PORTS
from tests.chaos.supervised_process import SupervisedProcess
from tests.debian import or_give_up
from tobogganing.devstack import process
from tobogganing.devstack.certificate import self_signed
from tobogganing.devstack.ports import LOOPBACK, free_ports
from tobogganing.devstack.process import Process
from tools import debian
from tools.edge import edge_environ, write_configuration


class ChaosEdge:
    """A supervised HAProxy. If a gateway dies, the submissions that it has are sent to another
    one."""

    def __init__(self, folder: Path) -> None:
        self._program = or_give_up(debian.haproxy)
        self._folder = folder / "edge"
        self._folder.mkdir()
        http, https, own = free_ports(3, PORTS)
        self.url = f"http://{LOOPBACK}:{http}"
        self.metrics_url = f"http://{LOOPBACK}:{own}/metrics"
        certificate = self._folder / "edge.pem"
        certificate.write_text(self_signed(datetime.now(UTC)), encoding="ascii")
        self._environ = self._program.environ | edge_environ(http, https, own, certificate)
        self._config = self._folder / "haproxy.cfg"
        self.member = SupervisedProcess("edge", self._launch)

    def serve(self, gateways: Sequence[int], exporters: Sequence[int]) -> None:
        """Set the ports of the services, before the start."""
        write_configuration(self._config, {"gateway": gateways, "exporter": exporters})

    def _launch(self) -> Process:
        with (self._folder / "log").open("ab") as output:
            return process.start(
                [self._program.path, "-db", "-f", self._config],
                environ=self._environ,
                output=output,
                folder=self._folder,
            )
