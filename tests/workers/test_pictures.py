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
    # This one holds neither trained weights nor compressed pixels: it is the same to the byte.
    assert (tmp_path / "schedules.svg").read_bytes() == (
        pictures.OUT / "schedules.svg"
    ).read_bytes()
