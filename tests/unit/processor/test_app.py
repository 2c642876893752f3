"""Faust's application as a worker uses it."""

from pathlib import Path

from processor.app import FolderlessApp


def test_no_folder_is_made_where_none_could_be(tmp_path: Path) -> None:
    """Faust makes its folders at every start: in a container that would be the end of it."""
    app = FolderlessApp("test", datadir=tmp_path / "data", store="memory://")
    assert app.conf.datadir == tmp_path / "data"
    app._create_directories()
    assert list(tmp_path.iterdir()) == []
