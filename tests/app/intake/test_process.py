"""The process that reads an upload: what ends it badly is a refusal, and it holds nothing."""

import errno
import json
import subprocess
import sys
import threading

import pytest

from app.domain.dataset import DatasetOptions
from app.domain.errors import InternalError, InvalidDataset, InvalidModel, Unavailable
from app.intake import canonical, child, process
from app.intake.models import inspect_model
from app.intake.process import MIB, Readers
from app.services.examples import DATASET_FILE, MODEL_FILE
from tests.app.importing import loaded

CONFINED = (
    "import json, sys, os, signal, time\n"
    "from pathlib import Path\n"
    "from app.intake.confinement import Limits, confine\n"
    "order = json.load(sys.stdin)\n"
    "path, folder = Path(order['path']), Path(order['folder'])\n"
    "lacks = confine(Limits.model_validate(order['limits']), path, folder)\n"
)


@pytest.fixture
def instead(monkeypatch):
    """Let another program stand for the one that reads; it is confined like that."""
    return lambda code: monkeypatch.setattr(process, "CHILD", ("-c", CONFINED + code))


def read(folder, readers=None):
    return (readers or Readers()).model(MODEL_FILE, "m.keras", folder / "canonical")


def test_a_model_is_read_as_it_is_here_and_written_anew(tmp_path):
    info = read(tmp_path)
    assert info == inspect_model(MODEL_FILE, "m.keras")
    assert [path.name for path in tmp_path.iterdir()] == ["canonical"]
    again = inspect_model(tmp_path / "canonical", "m.keras")
    assert again.model_copy(update={"training": info.training}) == info


def test_equal_uploads_give_equal_copies(tmp_path):
    copies = []
    for name in "ab":
        (tmp_path / name).mkdir()
        read(tmp_path / name)
        copies.append((tmp_path / name / "canonical").read_bytes())
    assert copies[0] == copies[1]


def test_a_data_set_is_read():
    info = Readers().dataset(DATASET_FILE, "digits.npz", DatasetOptions(scale=0.0625))
    assert info.format == "npz"


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS"])
def test_a_crash_is_a_refusal(instead, tmp_path, name):
    instead(f"signal.signal(signal.{name}, signal.SIG_DFL); os.kill(os.getpid(), signal.{name})")
    with pytest.raises(InvalidModel, match=f"{name}.*Save it again"):
        read(tmp_path)


def test_too_much_memory_is_a_refusal(instead, tmp_path):
    instead("bytearray(900 * 2**20)")
    with pytest.raises(InternalError):
        read(tmp_path, Readers(memory_bytes=512 * MIB))
    instead(
        "try:\n    bytearray(900 * 2**20)\nexcept MemoryError:\n    print('{\"memory\": true}')\n"
    )
    with pytest.raises(InvalidModel, match="more than the 512 MiB"):
        read(tmp_path, Readers(memory_bytes=512 * MIB))
    instead("os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(InvalidModel, match="more than the 1024 MiB"):
        read(tmp_path)


@pytest.mark.parametrize("code", ["time.sleep(60)", "while True: pass"])
def test_an_endless_reading_is_stopped_and_refused(instead, monkeypatch, code):
    monkeypatch.setattr(process, "BASE_SECONDS", 4)
    monkeypatch.setattr(process, "BASE_CPU_SECONDS", 2)
    instead(code)
    with pytest.raises(InvalidDataset, match="longer than 2 s"):
        Readers().dataset(DATASET_FILE, "d.npz", DatasetOptions())


@pytest.mark.parametrize(
    "answer", ["no JSON", "[]", "{}", "[" * 5000, json.dumps({"info": {"format": "keras"}})]
)
def test_an_answer_is_not_believed(instead, tmp_path, answer):
    instead(f"print({answer!r})")
    with pytest.raises(InternalError):
        read(tmp_path)


def test_an_answer_without_end_is_cut(instead, monkeypatch, tmp_path):
    monkeypatch.setattr(process, "ANSWER_LIMIT_BYTES", MIB)
    instead("while True: sys.stdout.write('x' * 65536)")
    with pytest.raises(InternalError):
        read(tmp_path)


def test_nothing_is_inherited(instead, monkeypatch, tmp_path):
    monkeypatch.setenv("SECATEUR_SECRET", "secret")
    instead(
        "status = open('/proc/self/status').read()\n"
        "held = [os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd')\n"
        "        if os.path.exists(f'/proc/self/fd/{n}')]\n"
        "said = {'env': dict(os.environ), 'held': held,\n"
        "        'privileges': 'NoNewPrivs:\\t1' in status, 'path': sys.path[0]}\n"
        "print(json.dumps({'refused': {'detail': json.dumps(said), 'errors': []}}))\n"
    )
    with (tmp_path / "open").open("wb"), pytest.raises(InvalidModel) as caught:
        read(tmp_path)
    said = json.loads(caught.value.detail)
    assert "secret" not in said["env"].values()
    assert set(said["env"]) <= set(process.environment("/")) | {"LC_CTYPE"}
    assert not any(str(tmp_path / "open") in path for path in said["held"])
    assert said["privileges"]


@pytest.mark.skipif(sys.platform != "linux", reason="the mechanisms are Linux'")
def test_it_reaches_the_upload_and_its_folder_and_nothing_else(instead, tmp_path):
    beside = tmp_path / "beside"
    beside.write_text("of another")
    folder = tmp_path / "own"
    folder.mkdir()
    instead(
        f"beside = {str(beside)!r}\n"
        "def tried(action):\n"
        "    try:\n"
        "        action()\n"
        "    except OSError as error:\n"
        "        return error.errno\n"
        "import socket\n"
        "said = {\n"
        "    'upload': tried(lambda: path.read_bytes()),\n"
        "    'own': tried(lambda: (folder / 'new').write_text('x')),\n"
        "    'passwd': tried(lambda: open('/etc/passwd')),\n"
        "    'beside': tried(lambda: open(beside)),\n"
        "    'write beside': tried(lambda: open(beside + '2', 'w')),\n"
        "    'write upload': tried(lambda: open(path, 'a')),\n"
        "    'link': tried(lambda: os.symlink('/etc/passwd', folder / 'link')),\n"
        "    'socket': tried(lambda: socket.socket()),\n"
        "    'fork': tried(os.fork),\n"
        "    'exec': tried(lambda: os.execv('/bin/true', ['true'])),\n"
        "    'parent': tried(lambda: os.kill(os.getppid(), 0)),\n"
        "    'mode': tried(lambda: os.chown(folder / 'new', 1, 1)),\n"
        "    'lacks': [name for name in lacks if name != 'network'],\n"
        "}\n"
        "print(json.dumps({'refused': {'detail': json.dumps(said), 'errors': []}}))\n"
    )
    with pytest.raises(InvalidModel) as caught:
        read(folder)
    said = json.loads(caught.value.detail)
    assert said.pop("lacks") == []
    assert (said.pop("upload"), said.pop("own")) == (None, None)
    assert set(said.values()) <= {errno.EACCES, errno.EPERM}, said
    assert beside.read_text() == "of another"


def test_only_a_few_read_at_once(instead, monkeypatch, tmp_path):
    monkeypatch.setattr(process, "WAIT_SECONDS", 0.1)
    instead("open('begun', 'w').close()\ntime.sleep(30)")
    monkeypatch.setattr(process, "BASE_SECONDS", 5)
    readers = Readers(at_once=1)

    def hold():
        with pytest.raises(InvalidModel):
            read(tmp_path, readers)

    first = threading.Thread(target=hold)
    first.start()
    while not (tmp_path / "begun").exists():
        pass
    with pytest.raises(Unavailable, match="busy"):
        read(tmp_path, readers)
    first.join()


def test_the_api_opens_no_hdf5_itself():
    among = {"h5py", "pyarrow", "PIL", "keras", "tensorflow"}
    assert loaded("import app.main", among) == set()


def test_the_process_imports_neither_keras_nor_tensorflow():
    code = "import app.intake.child, app.intake.canonical, app.intake.datasets"
    assert loaded(code, {"keras", "tensorflow"}) == set()


@pytest.fixture
def full_disk(tmp_path):
    """A folder on a disk of 16 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs root, or a kernel that lets it mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_not_the_file_s_fault(full_disk):
    with pytest.raises(Unavailable, match="no room on the disk"):
        read(full_disk)


@pytest.mark.parametrize("wrapped", [False, True])
def test_no_room_is_found_behind_what_libraries_raise(monkeypatch, tmp_path, wrapped):
    def write(*_):
        if wrapped:
            raise RuntimeError("Can't write data (no space: No space left on device)")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(canonical, "_write", write)
    order = {"kind": "model", "path": str(MODEL_FILE), "filename": "m.keras"}
    order |= {"folder": str(tmp_path), "canonical": "canonical"}
    assert child._answer(order) == {"full": True}
    monkeypatch.setattr(canonical, "_write", lambda *_: 1 / 0)
    assert "damaged" in child._answer(order)["refused"]["detail"]
