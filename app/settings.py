"""Settings: read once from the environment (`SECATEUR_…`) at the entry point, then frozen."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.domain.addresses import networks

MIB = 1024 * 1024


class Settings(BaseSettings):
    """Every setting; the README's table lists them all."""

    model_config = SettingsConfigDict(
        env_prefix="SECATEUR_",
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    data_dir: Path = Path(".secateur")
    """Folder for everything that is kept: uploads, results, the SQLite file."""
    database_url: str = ""
    """SQLAlchemy URL (postgresql+psycopg://…). Empty: SQLite in the data folder."""
    broker_url: str = ""
    """Redis URL (redis://, rediss://, redis+socket://). Empty: `secateur serve` brings Valkey."""
    upload_limit_bytes: int = Field(default=2048 * MIB, gt=0)
    """Largest model or data set that is accepted."""
    body_limit_bytes: int = Field(default=MIB, gt=0)
    """Largest JSON request body."""
    require_keys: str = Field(default="auto", pattern="^(auto|always|never)$")
    """Whether requests need an API key: auto asks for one except on a loopback address."""
    cors_origins: str = Field(default="", pattern=r"^(https?://[^\s/,]+([\s,]+|$))*$")
    """Web pages of other origins that may use the API: https://a.example, … Empty: none."""
    requests_per_minute: int = Field(default=1200, ge=0)
    """With keys: requests that one owner may send; 0 for any number."""
    refused_per_minute: int = Field(default=60, ge=0)
    """Requests without a valid key that one address may send; 0 for any number."""
    trusted_proxies: str = "127.0.0.1, ::1"
    """Proxies whose X-Forwarded-For is believed: addresses and networks."""
    quota_stored_bytes: int = Field(default=512 * 1024 * MIB, gt=0)
    """What the uploads and results of one owner may hold."""
    quota_queued_jobs: int = Field(default=5000, ge=1)
    """Jobs of one owner that may wait at the same time."""
    quota_running_jobs: int = Field(default=64, ge=1)
    """Jobs of one owner that may run at the same time; the others wait."""
    quota_queued_questions: int = Field(default=100, ge=1)
    """Dry runs and analyses of one owner that may wait at the same time."""
    quota_webhooks: int = Field(default=20, ge=1)
    """Webhooks that one owner may have."""
    webhook_allow_networks: str = ""
    """Addresses that webhooks may ask although they are not public: 10.1.0.0/16, 127.0.0.1, …"""
    webhook_allow_http: bool = False
    """Webhooks may have http:// URLs, which everybody on the way can read."""
    webhook_timeout_seconds: float = Field(default=15.0, gt=0, le=120)
    """How long a webhook's receiver may take for one delivery."""
    webhook_give_up_days: float = Field(default=5.0, gt=0)
    """A webhook at which nothing has arrived for this long is disabled."""
    webhook_log_days: float = Field(default=30.0, gt=0)
    """How long deliveries to webhooks are remembered."""
    slow_client_seconds: float = Field(default=30.0, gt=0)
    """How long a request's headers, or the next piece of its body, may take."""
    slowest_bytes_per_second: int = Field(default=1024, ge=0)
    """A body that comes slower on the whole is cut off; 0 for any pace."""
    audit_days: float = Field(default=365.0, gt=0)
    """How long it is remembered who did what."""
    intake_processes: int = Field(default=4, ge=1)
    """Uploads that are read at once, each by a process of its own; more wait for their turn."""
    intake_memory_bytes: int = Field(default=1024 * MIB, ge=512 * MIB)
    """Memory of a process that reads an upload."""
    lease_seconds: float = Field(default=20.0, gt=0)
    """A worker that does not report for this long has lost its job."""
    heartbeat_seconds: float = Field(default=0.7, gt=0)
    """How often a worker renews its lease and looks whether its job was cancelled."""
    max_attempts: int = Field(default=3, ge=1)
    """A job whose worker was lost this often fails."""
    job_time_limit_seconds: float = Field(default=6 * 3600.0, gt=0)
    """Longest run of a job over all attempts; a spec may ask for less."""
    job_memory_bytes: int = Field(default=8192 * MIB, ge=3072 * MIB)
    """Address space of a job's process."""
    job_file_bytes: int = Field(default=4096 * MIB, gt=0)
    """Largest file a job's process may write."""
    job_processes: int = Field(default=4096, ge=64)
    """Processes and threads that the user of a job's process may have."""
    job_open_files: int = Field(default=1024, ge=64)
    """Files that a job's process may have open."""
    job_disk_bytes: int = Field(default=16384 * MIB, gt=0)
    """Disk space that a job's folder may take up: its inputs, what it writes, and its log."""
    job_uid_first: int = Field(default=60578, ge=1, lt=2**31)
    """First of the user ids that jobs get, one each, where the worker is root."""
    job_uid_count: int = Field(default=600, ge=1)
    """How many user ids there are for jobs; nobody else may have them."""
    allow_unconfined: bool = False
    """Run jobs although uid, Landlock or seccomp cannot confine them; results say so."""
    plan_timeout_seconds: float = Field(default=60.0, gt=0)
    """How long a dry run or an analysis may take before the API answers that no worker was free."""
    reaper_interval_seconds: float = Field(default=1.0, gt=0)
    """How often lost jobs are looked for."""
    redispatch_seconds: float = Field(default=5.0, gt=0)
    """A queued job that the broker has forgotten is announced again after this long."""
    idempotency_hours: float = Field(default=24.0, gt=0)
    """How long an Idempotency-Key is remembered."""
    blob_grace_seconds: float = Field(default=3600.0, ge=0)
    """Uploads that no row refers to are deleted after this long."""
    log_format: str = Field(default="json", pattern="^(json|console)$")
    """json for machines, console for people."""
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    """Least level that is logged."""

    @field_validator("webhook_allow_networks", "trusted_proxies")
    @classmethod
    def _are_networks(cls, text: str) -> str:
        networks(text)
        return text

    @property
    def effective_database_url(self) -> str:
        """The database URL, or SQLite's in the data folder."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'secateur.sqlite3'}"

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """Origins of `cors_origins`, one by one."""
        return tuple(self.cors_origins.replace(",", " ").split())

    @property
    def store_dir(self) -> Path:
        """Folder of the store."""
        return self.data_dir / "store"
