"""The pictures of the documentation can be drawn anew."""

from pathlib import Path
from xml.etree import ElementTree

from tools import pictures


def test_the_pictures_of_the_documentation_can_be_drawn_anew(tmp_path: Path) -> None:
    pictures.main(tmp_path)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {path.name for path in pictures.OUT.iterdir()}
    for name in drawn:
        text = (tmp_path / name).read_text()
        ElementTree.fromstring(text.encode())
        assert "prefers-color-scheme:dark" in text
        assert len(text) < 100_000
    # Where nothing is trained, the file is the same to the byte.
    for name in ("schedules.svg", "granularities.svg"):
        assert (tmp_path / name).read_bytes() == (pictures.OUT / name).read_bytes()
