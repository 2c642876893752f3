"""`make clean` and `make distclean` delete what they say, and nothing else."""

import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"


@pytest.mark.parametrize("xdg", [True, False])
def test_distclean_leaves_nothing_but_the_sources(tmp_path: Path, xdg: bool) -> None:
    checkout, home = tmp_path / "check out", tmp_path / "home"
    cache = tmp_path / "other cache" if xdg else home / ".cache"
    shutil.copytree(MAKEFILE.parent / "contract", checkout / "contract")
    shutil.copy(MAKEFILE, checkout)
    for file in (
        *(checkout / ".state/secrets/ADMIN_TOKEN", checkout / ".venv/identity"),
        *(cache / "tobogganing/kafka/jar", cache / "another/file"),
    ):
        file.parent.mkdir(parents=True)
        file.touch()
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    if xdg:
        environ["XDG_CACHE_HOME"] = str(cache)

    def make(target: str) -> None:
        subprocess.run(["make", "-C", checkout, target], env=environ, check=True)

    make("clean")
    assert not (checkout / ".venv").exists()
    assert (checkout / ".state/secrets/ADMIN_TOKEN").exists()
    assert (cache / "tobogganing/kafka/jar").exists()
    make("distclean")
    assert sorted(each.name for each in checkout.iterdir()) == ["Makefile", "contract"]
    assert not list((checkout / "contract").rglob("__pycache__"))
    assert (checkout / "contract" / "row.py").exists()
    assert [each.name for each in cache.iterdir()] == ["another"]
