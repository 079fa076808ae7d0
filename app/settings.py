"""Settings: read once from the environment (`SECATEUR_…`) at the entry point, then frozen."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.domain.addresses import networks
from app.domain.broker import read_broker_url
from app.domain.queues import HIGHEST_PRIORITY, QUEUES, QueueName

MIB = 1024 * 1024


class Settings(BaseSettings):
    """Every setting; docs/settings.md lists them all."""

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
    database_connections: int = Field(default=30, ge=1)
    """With PostgreSQL: connections that one process may have open."""
    database_wait_seconds: float = Field(default=10.0, gt=0)
    """With PostgreSQL: how long a request waits for a connection before it is answered with 503."""
    database_statement_seconds: float = Field(default=30.0, ge=0)
    """With PostgreSQL: longest statement, with its wait for locks; 0 for any."""
    broker_url: str = ""
    """Redis URL (redis, rediss, redis+socket, sentinel). Empty: `secateur serve` brings Valkey."""
    store_url: str = Field(default="", pattern=r"^(s3://[A-Za-z0-9._-]+(/[A-Za-z0-9._/-]*)?)?$")
    """Bucket for uploads and results: s3://bucket/prefix. Empty: a folder in the data folder."""
    store_endpoint: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Address of an S3-compatible service; empty for Amazon's."""
    store_region: str = ""
    """Region of the bucket; empty: AWS_REGION."""
    store_answer_seconds: float = Field(default=20.0, gt=0)
    """How long the bucket's service may be silent within a request, or fail, before it is away."""
    store_patience_seconds: float = Field(default=900.0, ge=0)
    """How long a worker tries again when the store is away, before its job fails."""
    upload_limit_bytes: int = Field(default=2048 * MIB, gt=0)
    """Largest model or data set that is accepted."""
    upload_expiry_hours: float = Field(default=24.0, gt=0)
    """A resumable upload that nothing was sent to for this long is given up."""
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
    quota_unfinished_uploads: int = Field(default=1000, ge=1)
    """Resumable uploads of one owner that may be unfinished at the same time."""
    quota_queued_jobs: int = Field(default=5000, ge=1)
    """Jobs of one owner that may wait at the same time."""
    quota_running_jobs: int = Field(default=64, ge=1)
    """Jobs of one owner that may run at the same time; the others wait."""
    queued_jobs_limit: int = Field(default=100_000, ge=1)
    """Jobs of all owners that may wait at the same time; more are refused with 503."""
    highest_priority: int = Field(default=HIGHEST_PRIORITY, ge=0, le=HIGHEST_PRIORITY)
    """Highest priority that a job may ask for; 0 where nobody is to overtake others."""
    priority_seconds: float = Field(default=60.0, gt=0)
    """A job that has waited this long goes before newer ones whose priority is one higher."""
    worker_queues: str = Field(
        default="jobs quick", pattern=r"^\s*((jobs|quick|gpu|large)([\s,]+|$))+$"
    )
    """What a worker serves unless --queue says it: jobs, quick (dry runs), gpu, large (memory)."""
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
    """Files that no row refers to are deleted after this long."""
    retention_days_uploads: float = Field(default=0.0, ge=0)
    """Models and data sets that no job needs are deleted after this long; 0 keeps them."""
    retention_days_jobs: float = Field(default=0.0, ge=0)
    """Jobs and their files are deleted so long after their end; 0 keeps them."""
    log_format: str = Field(default="json", pattern="^(json|console)$")
    """json for machines, console for people."""
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    """Least level that is logged."""

    @field_validator("broker_url")
    @classmethod
    def _can_be_read(cls, url: str) -> str:
        if url:
            read_broker_url(url)
        return url

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
    def database_limits(self) -> dict[str, float]:
        """Settings of `app.adapters.database.Limits`."""
        return {
            "connections": self.database_connections,
            "wait_seconds": self.database_wait_seconds,
            "statement_seconds": self.database_statement_seconds,
        }

    @property
    def allowed_origins(self) -> tuple[str, ...]:
        """Origins of `cors_origins`, one by one."""
        return tuple(self.cors_origins.replace(",", " ").split())

    @property
    def served_queues(self) -> tuple[QueueName, ...]:
        """Queues of `worker_queues`, one by one."""
        named = self.worker_queues.replace(",", " ").split()
        return tuple(queue for queue in QUEUES if queue in named)

    @property
    def store_dir(self) -> Path:
        """Folder of the store."""
        return self.data_dir / "store"
