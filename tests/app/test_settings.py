"""Settings, and the documentation's table of them."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from app.settings import Settings

TABLE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_documentation_lists_exactly_the_settings() -> None:
    rows = re.findall(r"^\| `(SECATEUR_[A-Z_]+)` \|", TABLE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(f"SECATEUR_{name.upper()}" for name in Settings.model_fields)


def test_every_setting_is_described() -> None:
    undescribed = [name for name, field in Settings.model_fields.items() if not field.description]
    assert undescribed == []


def test_a_setting_comes_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_LEASE_SECONDS", "7.5")
    assert Settings().lease_seconds == 7.5


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().lease_seconds = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", ["lease_seconds", "upload_limit_bytes", "max_attempts"])
def test_nonsense_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings.model_validate({name: 0})


def test_the_database_defaults_to_a_file_in_the_data_folder(tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path).effective_database_url == (
        f"sqlite:///{tmp_path}/secateur.sqlite3"
    )
