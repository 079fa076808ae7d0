# The body of a hostile job: tries every way out, and tells how each ended.
# Runs in the child, indented into the function `work` of tests/hostile/jail.py.
import importlib, json, resource
from app.confinement.kernel import MACHINE, call, syscall
from app.confinement.syscalls import ARCHITECTURES

number = ARCHITECTURES[MACHINE].number
parent = os.getppid()
IPV4 = socket.AF_INET

def connect_tcp():
    with socket.socket(IPV4, socket.SOCK_STREAM) as s:
        s.connect(("127.0.0.1", 80))

def listen_tcp():
    with socket.socket(IPV4, socket.SOCK_STREAM) as s:
        s.bind(("127.0.0.1", 0))

def send_udp():
    with socket.socket(IPV4, socket.SOCK_DGRAM) as s:
        s.sendto(b"x", ("192.0.2.1", 9))

def unix_socket():
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(PARAMETERS["socket"])

def netlink():
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()

def replace_out():
    out.rename(scratch / "moved")

def fork():
    if os.fork() == 0:
        os._exit(0)

def fork_in_a_thread():
    caught = []
    def run():
        try:
            fork()
        except OSError as error:
            caught.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if caught:
        raise caught[0]

def exec_from_memory():
    source = os.open(sys.executable, os.O_RDONLY)
    try:
        os.execve(source, ["python", "-c", ""], {})
    finally:
        os.close(source)

def exec_own_file():
    path = scratch / "program"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o700)
    os.execv(path, [str(path)])

def raise_limit():
    try:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except ValueError as error:
        raise PermissionError(errno.EPERM, str(error)) from error

def limit_parent():
    resource.prlimit(parent, resource.RLIMIT_CPU, (1, 1))

def ways(path):
    return lambda: open(path, "rb").close()

ESCAPES = {
    "TCP connect": connect_tcp,
    "TCP listen": listen_tcp,
    "UDP": send_udp,
    "unix socket": unix_socket,
    "socket pair": lambda: socket.socketpair(),
    "netlink": netlink,
    "read /etc/passwd": ways("/etc/passwd"),
    "read /etc/shadow": ways("/etc/shadow"),
    "read the database": ways(PARAMETERS["database"]),
    "list the store": lambda: os.listdir(PARAMETERS["store"]),
    "read another job's file": ways(PARAMETERS["other_file"]),
    "list another job's folder": lambda: os.listdir(PARAMETERS["other_folder"]),
    "list the folder of all jobs": lambda: os.listdir(folder.parent),
    "read the parent's environment": ways(f"/proc/{parent}/environ"),
    "read the parent's memory": ways(f"/proc/{parent}/mem"),
    "read another job's environment": ways(f"/proc/{PARAMETERS['other_pid']}/environ"),
    "list processes": lambda: os.listdir("/proc"),
    "read the source tree": ways(PARAMETERS["source"]),
    "write to the temporary folder": lambda: open("/tmp/secateur-escaped", "w").close(),
    "write to the data folder": lambda: open(PARAMETERS["data"] + "/escaped", "w").close(),
    "write beside its folders": lambda: (folder / "escaped").touch(),
    "write to the log by name": lambda: (folder / "log.txt").open("w").close(),
    "write to the library": lambda: Path(os.__file__).with_name("escaped.py").touch(),
    "write to Secateur": lambda: Path(child.__file__).open("a").close(),
    "replace the out folder": replace_out,
    "symbolic link in out": lambda: (out / "model.keras").symlink_to("/etc/passwd"),
    "hard link in out": lambda: os.link("/etc/ld.so.cache", out / "model.keras"),
    "pipe in out": lambda: os.mkfifo(out / "model.keras"),
    "device in out": lambda: os.mknod(out / "model.keras", 0o20600, os.makedev(1, 3)),
    "shared memory": lambda: open("/dev/shm/escaped", "w").close(),
    "terminal": lambda: open("/dev/tty", "w").close(),
    "fork": fork,
    "fork in a thread": fork_in_a_thread,
    "vfork": lambda: subprocess.run([sys.executable, "-c", ""]),
    "posix_spawn": lambda: os.posix_spawn(sys.executable, ["python"], {}),
    "clone3": lambda: syscall("clone3", number("clone3"), None, 0),
    "exec": lambda: os.execv("/bin/sh", ["sh", "-c", "true"]),
    "exec of an open file": exec_from_memory,
    "exec of its own file": exec_own_file,
    "signal to the parent": lambda: os.kill(parent, 0),
    "signal to another job": lambda: os.kill(PARAMETERS["other_pid"], 0),
    "signal to everybody": lambda: os.kill(-1, 0),
    "signal to its group": lambda: os.kill(0, 0),
    "signal by descriptor": lambda: os.pidfd_open(parent),
    "leave the group": lambda: os.setpgid(0, 0),
    "leave the session": lambda: os.setsid(),
    "outlive the parent": lambda: call("prctl", 1, 0, 0, 0, 0),
    "become traceable": lambda: call("prctl", 4, 1, 0, 0, 0),
    "become root": lambda: os.setresuid(0, 0, 0),
    "new namespaces": lambda: call("unshare", 0x10000000),
    "raise a limit": raise_limit,
    "limit the parent": limit_parent,
    "io_uring": lambda: syscall("io_uring_setup", number("io_uring_setup"), 1, None),
    "perf": lambda: syscall("perf", number("perf_event_open"), None, 0, -1, -1, 0),
    "message queue": lambda: syscall("msgget", number("msgget"), 0, 0o1600),
}
DENIED = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EXDEV}
# A user namespace without these ids has no such user; what another user cannot see is not there.
DENIED_BY_ABSENCE = {"become root": {errno.EINVAL}, "limit the parent": {errno.ESRCH}}

def outcome(name, attempt):
    try:
        attempt()
    except OSError as error:
        if error.errno in DENIED | DENIED_BY_ABSENCE.get(name, set()):
            return "denied"
        return repr(error)
    return "possible"

def thread():
    started = threading.Thread(target=lambda: None)
    started.start()
    started.join()

def move_out():
    (scratch / "made").write_text("x")
    (scratch / "made").rename(out / "made")
    (out / "made").unlink()

def lazy_import():
    late = [name for name in ("wave", "mailbox", "turtledemo", "ensurepip") if name not in sys.modules]
    importlib.import_module(late[0])

def flags(name):
    threads = Path("/proc/self/task").iterdir()
    lines = [line for t in threads for line in (t / "status").read_text().splitlines()]
    return [int(line.split()[1], 16) for line in lines if line.startswith(name)]

NEEDED = {
    "read its model": ways(order.model_path),
    "write and rename": move_out,
    "threads": thread,
    "a late import": lazy_import,
    "a signal to itself": lambda: os.kill(os.getpid(), 0),
    "the number of cores": lambda: os.cpu_count() or 1 / 0,
    "/dev/null": lambda: open("/dev/null", "w").write("x"),
}
if "tensorflow" in sys.modules:
    sys.modules["tensorflow"].reduce_sum([1.0, 2.0])  # Starts its threads.
found = {
    "escapes": {name: outcome(name, attempt) for name, attempt in ESCAPES.items()},
    "needed": {name: outcome(name, attempt) for name, attempt in NEEDED.items()},
    "descriptors": sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1],
    "environment": sorted(os.environ),
    "user": os.getuid(),
    "gpus": os.environ["CUDA_VISIBLE_DEVICES"],
    "seccomp": flags("Seccomp:"),
    "no_new_privileges": flags("NoNewPrivs:"),
    "capabilities": flags("CapEff:"),
    "tensorflow": "tensorflow" in sys.modules,
}
return METRICS | {"notes": [json.dumps(found)]}, []
