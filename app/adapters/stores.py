"""The store that the settings name."""

from app.adapters.measured import measured
from app.adapters.store import FolderStore
from app.domain.ports import Store
from app.settings import Settings


def open_store(settings: Settings) -> Store:
    """A folder in the data folder, or a bucket."""
    if not settings.store_url:
        return measured(FolderStore(settings.store_dir))
    from app.adapters.s3 import S3Store  # 20 ms and a runtime of its own, for those who use it.

    store = S3Store(
        settings.store_url,
        settings.store_dir,
        settings.store_endpoint,
        settings.store_region,
        settings.store_answer_seconds,
    )
    return measured(store)
