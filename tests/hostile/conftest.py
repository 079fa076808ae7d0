"""One service for all hostile files: it must be as well after the last as before the first."""

from collections.abc import Iterator

import pytest

from app.settings import Settings
from tests.app.api.conftest import Api, serve
from tests.servers import valkey


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    settings = {"data_dir": tmp_path_factory.mktemp("hostile")}
    with valkey() as url, serve(Settings(broker_url=url, **settings)) as client:
        yield client
