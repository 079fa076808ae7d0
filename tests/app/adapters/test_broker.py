"""Every kind of broker's URL, on real servers: TLS, Unix sockets, Sentinel and its failover."""

import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from pydantic import ValidationError
from sqlalchemy.engine import make_url

from app.adapters.broker import connect
from app.adapters.limiter import Limiter
from app.adapters.queue import CeleryQueue
from app.domain.broker import read_broker_url
from app.domain.errors import Unavailable
from app.embedded import Broker
from app.settings import Settings
from tests.sentinels import Watched, sentinel
from tests.servers import HOST, Process, free_port, missing


# --- reading -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("url", "for_redis"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("rediss://u:p@h:1/2", "rediss://u:p@h:1/2?ssl_cert_reqs=required"),
        (
            "rediss://h:1/2?ssl_ca_certs=/ca.pem&ssl_cert_reqs=CERT_NONE",
            "rediss://h:1/2?ssl_ca_certs=%2Fca.pem&ssl_cert_reqs=none",
        ),
        ("redis+socket:///run/v.sock", "unix:///run/v.sock"),
        ("redis+socket:///run/v.sock?virtual_host=3", "unix:///run/v.sock?db=3"),
    ],
)
def test_a_url_is_spelled_as_redis_py_does(url: str, for_redis: str) -> None:
    assert read_broker_url(url).redis == for_redis
    redis.Redis.from_url(for_redis).close()


def test_sentinels_are_read_one_by_one() -> None:
    read = read_broker_url(
        "sentinel://u:a%40b@one:1/3;sentinel://two/3?master_name=main&sentinel_password=x"
    )
    assert read.sentinels == (("one", 1), ("two", 26379))
    assert (read.username, read.password, read.db) == ("u", "a@b", 3)
    assert (read.master_name, read.sentinel_login) == ("main", {"password": "x"})
    assert "master_name" not in read.celery


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("amqp://u:secret@h//", "redis://, rediss://"),
        ("rediss://:secret@h?ssl_cert_reqs=maybe", "required, optional, none was expected"),
        ("rediss://:secret@h?ssl_ca=/x", "ssl_ca_certs"),
        ("sentinel://:secret@h:1/0", "add \\?master_name=NAME"),
        ("sentinel://:secret@h:1/0?master_name=m&db=1", "there are master_name"),
        ("sentinel://:secret@h:1/0;redis://h?master_name=m", "something else than Sentinels"),
        ("sentinel://:secret@h:1/x?master_name=m", "database's number"),
    ],
)
def test_what_cannot_be_read_is_said_without_the_password(url: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said) as refused:
        Settings(broker_url=url)
    assert "secret" not in refused.value.errors()[0]["msg"]


# --- using -------------------------------------------------------------------------------------
@contextmanager
def queue_of(url: str) -> Iterator[CeleryQueue]:
    queue = CeleryQueue(url)
    try:
        yield queue
    finally:
        queue.close()


def use(url: str) -> None:
    """All that the service does with a broker."""
    limiter = Limiter(url)
    with queue_of(url) as queue, connect(url, 2) as client:
        client.flushall()
        queue.ping()
        queue.wake("gpu")
        assert queue.depth("gpu") == 1
        allowances = [limiter.hit("a", 2) for _ in range(3)]
        assert [one.allowed for one in allowances if one] == [True, True, False]
    limiter.close()


def test_a_unix_socket(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    broker.start()
    try:
        assert broker.url.startswith("redis+socket:///")
        use(broker.url)
    finally:
        broker.part.ask_to_stop()
        broker.part.wait(5)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ca.pem and a certificate for 127.0.0.1 that it has signed."""
    folder = tmp_path_factory.mktemp("certificates")
    (folder / "san").write_text(f"subjectAltName=IP:{HOST}\nbasicConstraints=CA:FALSE\n")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for command in (
        ("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=CA"),
        ("req", *key, "-keyout", "key.pem", "-out", "request", "-subj", "/CN=broker"),
        *(
            (
                *("x509", "-req", "-in", "request", "-CA", "ca.pem", "-CAkey", "ca.key"),
                *("-CAcreateserial", "-extfile", "san", "-out", "cert.pem"),
            ),
        ),
    ):
        try:
            subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
        except FileNotFoundError:
            missing("there is no openssl to make certificates with.")
    return folder


@pytest.fixture
def tls_port(certificates: Path, broker_url: str) -> Iterator[int]:
    """TLS in front of the Valkey, whose wheel is built without: what a proxy would be."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    behind = make_url(broker_url)
    assert behind.port
    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(
            target=_serve_tls, args=(listener, context, behind.port), daemon=True
        ).start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


def _serve_tls(listener: socket.socket, context: ssl.SSLContext, port: int) -> None:
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_one_client, args=(plain, context, port), daemon=True).start()


def _one_client(plain: socket.socket, context: ssl.SSLContext, port: int) -> None:
    try:
        with (
            context.wrap_socket(plain, server_side=True) as client,
            socket.create_connection((HOST, port)) as server,
        ):
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            _copy(client, server)
            back.join()
    except OSError:
        plain.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def test_tls_with_an_own_authority(tls_port: int, certificates: Path, broker_url: str) -> None:
    password = make_url(broker_url).password
    address = f"rediss://:{password}@{HOST}:{tls_port}"
    use(f"{address}/0?ssl_ca_certs={certificates / 'ca.pem'}")
    # Another database: kombu keeps its connections, in one process, by address and database.
    with queue_of(f"{address}/1") as queue:
        for call in (queue.ping, lambda: queue.wake("jobs")):
            with pytest.raises(Unavailable):
                call()


# --- Sentinel ----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with sentinel(tmp_path_factory.mktemp("sentinel")) as servers:
        yield servers


_WORKER = """
import sys
from app.adapters.queue import TASK_NAME, celery_app

app = celery_app(sys.argv[1])

@app.task(name=TASK_NAME, ignore_result=True)
def run_job(queue):
    print("took", queue, flush=True)

app.worker_main(["worker", "--queues=jobs", "--pool=solo", "--without-gossip",
                 "--without-mingle", "--without-heartbeat", "--loglevel=ERROR"])
"""


def _until(holds: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if holds():
                return True
        except Unavailable:
            pass
        time.sleep(0.05)
    return False


def test_a_promoted_replica_takes_over(watched: Watched, tmp_path: Path) -> None:
    """The last that uses these servers: the master is gone afterwards."""
    use(watched.url)
    log = tmp_path / "log"
    command = [sys.executable, "-W", "ignore", "-c", _WORKER, watched.url]
    root = Path(__file__).parents[3]
    worker = Process(command, log, signal.SIGTERM, environment={"PYTHONPATH": str(root)})
    limiter = Limiter(watched.url)
    try:
        with queue_of(watched.url) as queue:
            assert limiter.hit("b", 5) is not None
            queue.wake("jobs")
            assert _until(lambda: log.read_text().count("took jobs") == 1), log.read_text()
            watched.lose_master()

            def wake() -> bool:
                queue.wake("jobs")
                return True

            assert _until(wake)
            assert _until(lambda: log.read_text().count("took jobs") >= 2), log.read_text()
            assert _until(lambda: queue.depth("jobs") == 0)
            queue.ping()
            assert limiter.hit("b", 5) is not None
    finally:
        limiter.close()
        worker.stop()


def test_absent_sentinels_are_an_absent_broker() -> None:
    with queue_of(f"sentinel://{HOST}:{free_port()}/0?master_name=x") as queue:
        for call in (queue.ping, lambda: queue.depth("jobs"), lambda: queue.wake("jobs")):
            with pytest.raises(Unavailable):
                call()
