"""The broker's address: every kind of Redis URL that Celery takes, read once for all who use it."""

from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from app.domain.base import Record

SENTINEL_PORT = 26379
SENTINEL_OPTIONS = frozenset({"master_name", "sentinel_username", "sentinel_password"})
SSL_OPTIONS = frozenset(
    {"ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"}
)
CERTIFICATES = ("required", "optional", "none")


class BrokerUrl(Record):
    """A broker as Celery and as redis-py want to hear of it."""

    celery: str
    """URL, or several with semicolons, for Celery."""
    redis: str = ""
    """URL for redis-py; empty with Sentinel, which knows the address."""
    sentinels: tuple[tuple[str, int], ...] = ()
    master_name: str = ""
    """What the Sentinels call the servers that they watch."""
    sentinel_login: dict[str, str] = {}
    """`username` and `password` of the Sentinels themselves."""
    username: str | None = None
    """Of the servers behind Sentinel."""
    password: str | None = None
    db: int = 0


def read_broker_url(url: str) -> BrokerUrl:
    """`redis://`, `rediss://`, `redis+socket://` or `sentinel://…;sentinel://…?master_name=…`.

    Raises `ValueError` with a sentence for the operator, which never holds a password.
    """
    scheme = url.partition("://")[0]
    if scheme == "redis":
        return BrokerUrl(celery=url, redis=url)
    if scheme == "rediss":
        return _with_tls(url)
    if scheme == "redis+socket":
        told = url.replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db=")
        return BrokerUrl(celery=url, redis=told)
    if scheme == "sentinel":
        return _with_sentinels(url)
    raise ValueError(
        f"the broker's URL begins with {scheme[:20]!r}, and redis://, rediss:// (TLS), "
        "redis+socket:// or sentinel:// was expected, as in redis://redis:6379/0"
    )


def _with_tls(url: str) -> BrokerUrl:
    """Both libraries are told to check the certificate unless the URL says otherwise."""
    address, _, query = url.partition("?")
    options = dict(parse_qsl(query))
    unknown = {name for name in options if name.startswith("ssl_")} - SSL_OPTIONS
    if unknown:
        raise ValueError(
            f"the broker's URL has the option {sorted(unknown)[0]}, and there are "
            f"{', '.join(sorted(SSL_OPTIONS))}"
        )
    checked = options.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if checked not in CERTIFICATES:
        raise ValueError(
            f"ssl_cert_reqs of the broker's URL is {checked[:20]!r}, and "
            f"{', '.join(CERTIFICATES)} was expected"
        )
    told = f"{address}?{urlencode(options | {'ssl_cert_reqs': checked})}"
    return BrokerUrl(celery=told, redis=told)


def _with_sentinels(url: str) -> BrokerUrl:
    addresses, _, query = url.partition("?")
    options = dict(parse_qsl(query))
    _check_sentinel_options(options)
    parts = [urlsplit(each.strip()) for each in addresses.split(";") if each.strip()]
    if any(part.scheme != "sentinel" or not part.hostname for part in parts):
        raise ValueError(
            "the broker's URL names something else than Sentinels: expected "
            "sentinel://host:26379/0;sentinel://host:26379/0?master_name=NAME"
        )
    first = parts[0]
    path = first.path.strip("/") or "0"
    if not path.isdigit():
        raise ValueError(f"the broker's URL ends with {path[:20]!r}, not with a database's number")
    return BrokerUrl(
        celery=addresses,
        sentinels=tuple((str(part.hostname), part.port or SENTINEL_PORT) for part in parts),
        master_name=options["master_name"],
        sentinel_login={
            name.removeprefix("sentinel_"): value
            for name, value in options.items()
            if name != "master_name"
        },
        username=unquote(first.username) if first.username else None,
        password=unquote(first.password) if first.password else None,
        db=int(path),
    )


def _check_sentinel_options(options: Mapping[str, str]) -> None:
    unknown = set(options) - SENTINEL_OPTIONS
    if unknown:
        raise ValueError(
            f"the broker's URL has the option {sorted(unknown)[0][:40]!r}, and with Sentinel there "
            f"are {', '.join(sorted(SENTINEL_OPTIONS))}; TLS to Sentinels is not supported"
        )
    if not options.get("master_name"):
        raise ValueError(
            "the broker's URL names Sentinels and not what they watch: add ?master_name=NAME, "
            "the name in their `sentinel monitor` line"
        )
