"""Whatever keeps a sidecar from starting is one line and a status, at once, and nothing is left running."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from support.certificates import Authority
from support.servers import Server, connect, free_port, wait_until
from support.serving import serving

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}}]"


def written(file: Path, content: str) -> Path:
    """Write a file and return it."""
    file.write_text(content)
    return file


def certificate(folder: Path) -> Path:
    """Return a certificate and key that can be used."""
    return Authority(folder / "ca").issue("localhost")


@contextmanager
def taken(folder: Path) -> Iterator[dict[str, str]]:
    """Listen at a port and at a path while the block runs, and have a file of each kind."""
    with socket.create_server(("127.0.0.1", 0)) as port, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(folder / "taken.sock"))
        unix.listen()
        os.mkfifo(folder / "pipe")
        (folder / "folder").mkdir()
        written(folder / "file", "mine\n")
        written(folder / "empty", "\n")
        written(folder / "bad.yaml", "version: 1\nrules: [{name: all, archived: {ttl: 7}}]")
        written(folder / "good.yaml", POLICY)
        yield {
            "port": f"127.0.0.1:{port.getsockname()[1]}",
            "folder": str(folder),
            "long": f"{folder}/{'x' * 200}",
            "certificate": str(certificate(folder)),
        }


FAULTS = [
    ("--listen {port}", 1, "cannot listen at 127.0.0.1:"),
    ("--listen 192.0.2.1:6380", 1, "cannot listen at 192.0.2.1:6380: "),
    ("--listen nowhere.invalid:6380", 1, "cannot listen at nowhere.invalid:6380: "),
    ("--listen a..b:6380", 2, "no host can be called that"),
    ("--listen {port} --tls-cert {certificate}", 1, "cannot listen at 127.0.0.1:"),
    ("--listen {port} --policy {folder}/good.yaml", 1, "cannot listen at 127.0.0.1:"),
    ("--listen {port} --embedded", 1, "cannot listen at 127.0.0.1:"),
    ("--listen {port} --upstream redis+sentinel://127.0.0.1:1/main", 1, "cannot listen at 127.0.0.1:"),
    ("--listen unix:{folder}/taken.sock", 1, "taken.sock: another process listens there"),
    ("--listen unix:{folder}/file", 1, "file: there is a file that is no socket"),
    ("--listen unix:{folder}/absent/x", 1, "absent/x: No such file or directory"),
    ("--listen unix:/proc/x", 1, "cannot listen at unix:/proc/x: "),
    ("--listen unix:{long}", 1, "AF_UNIX path too long"),
    ("--listen 6380", 2, "is no address; expected HOST:PORT or unix:PATH"),
    ("--admin {port}", 1, "the admin server cannot listen at 127.0.0.1:"),
    ("--admin {port} --embedded", 1, "the admin server cannot listen at 127.0.0.1:"),
    ("--listen {port} --share-port", 1, "cannot listen at 127.0.0.1:"),
    ("--reuse-port --share-port", 2, "a newer sidecar takes over"),
    ("--admin {port} --reuse-port", 1, "the admin server cannot listen at 127.0.0.1:"),
    ("--admin unix:{folder}/taken.sock", 1, "another process listens there; give --admin another address, or off"),
    ("--admin unix:{folder}/file", 1, "there is a file that is no socket"),
    ("--admin a..b:9180", 2, "no host can be called that"),
    ("--admin-token-file {folder}/absent", 2, "--admin-token-file"),
    ("--admin-token-file {folder}/empty", 2, "it is empty"),
    ("--policy {folder}/absent", 2, "cannot be read: No such file or directory"),
    ("--policy {folder}/folder", 2, "cannot be read: Is a directory"),
    ("--policy {folder}/pipe", 2, "pipe: cannot be read: nobody writes to this pipe"),
    ("--policy {folder}/taken.sock", 2, "taken.sock: cannot be read: "),
    ("--policy /dev/zero", 2, "/dev/zero: is larger than 1 MiB"),
    ("--policy /dev/null", 2, "/dev/null:1: nothing where a policy is a mapping"),
    ("--admin-token-file {folder}/pipe", 2, "pipe: is no regular file"),
    ("--admin-token-file {folder}/folder", 2, "folder: Is a directory"),
    ("--client-auth password --client-password-file {folder}/pipe", 2, "pipe: is no regular file"),
    ("--client-auth password --client-password-file /dev/zero", 2, "/dev/zero: is no regular file"),
    ("--tls-cert {folder}/pipe", 2, "pipe: is no regular file"),
    ("--tls-cert {certificate} --tls-client-ca /dev/zero", 2, "/dev/zero: is no regular file"),
    ("--upstream rediss://h?ssl_ca_certs={folder}/pipe", 2, "pipe: is no regular file"),
    ("--policy {folder}/bad.yaml", 2, "did you mean"),
    ("--policy {folder}/bad.yaml --embedded", 2, "did you mean"),
    ("--upstream http://h", 2, "the upstream must be"),
    ("--upstream redis://h:x", 2, "Invalid value for '--upstream'"),
    ("--upstream redis://:Azure1secret/x=@h:6379/0", 2, "percent-encode"),
    ("--upstream rediss://h --tls-cert {folder}/absent", 2, "absent: No such file or directory"),
    ("--upstream rediss://h?ssl_ca_certs={folder}/absent", 2, "absent: No such file or directory"),
    ("--upstream rediss://h?ssl_certfile={folder}/file", 2, "file: no certificate and key"),
    ("--tls-cert {folder}/file", 2, "file: no certificate and key"),
    ("--tls-cert {certificate} --tls-client-ca {folder}/file", 2, "file: no certificate authorities"),
    ("--client-auth password --client-password-file {folder}/absent", 2, "absent: No such file or directory"),
    ("--client-auth password --client-password-file {folder}/empty", 2, "empty: there is no password in it"),
    ("--sink ftp://h", 2, "expected file:PATH"),
    ("--max-connections 0", 2, "0 is not in the range"),
    ("--nonsense", 2, "No such option"),
]


@pytest.mark.parametrize(("line", "status", "told"), FAULTS, ids=[line for line, _, _ in FAULTS])
def test_what_keeps_it_from_starting_is_one_line(
    line: str, status: int, told: str, redis_server: Server, tmp_path: Path
) -> None:
    """With the status that is documented, and with nothing left running or lying about."""
    with taken(tmp_path) as names:
        options = ["--listen", f"127.0.0.1:{free_port()}", "--admin", "off", "--upstream", redis_server.url]
        given = line.format(**names).split()
        with serving(tmp_path, *options, *given, forked=True) as process:
            assert process.fail() == status, process.told()
        *usage, fault = process.faults
        assert told in fault
        assert [line for line in usage if not line.startswith(("Usage: ", "Try ")) and line] == []
        assert (tmp_path / "file").read_text() == "mine\n"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "taken.sock"))


def test_the_second_at_a_unix_socket_ends_and_the_first_goes_on(redis_server: Server, tmp_path: Path) -> None:
    """For clients and for the admin server. When the first ends, it leaves no socket behind."""
    path, admin = tmp_path / "clients", tmp_path / "admin"
    common = ["--upstream", redis_server.url]
    with serving(tmp_path, *common, "--listen", f"unix:{path}", "--admin", f"unix:{admin}", forked=True) as first:
        first.wait_for("listening at")
        for taken_path, other in ((path, "--admin"), (admin, "--listen")):
            option = "--listen" if other == "--admin" else "--admin"
            line = [*common, option, f"unix:{taken_path}", other, f"unix:{tmp_path}/other"]
            with serving(tmp_path, *line, forked=True) as second:
                assert second.fail() == 1
            assert len(second.faults) == 1
            assert f"cannot listen at unix:{taken_path}: another process listens there" in second.faults[0]
            assert not (tmp_path / "other").exists()
        for taken_path in (path, admin):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(taken_path))
        first.signal(signal.SIGTERM)
        assert first.end() == 0
    assert not path.exists()
    assert not admin.exists()


def test_of_sidecars_that_start_together_one_listens(redis_server: Server, tmp_path: Path) -> None:
    """At a path that was left behind, too; the others say why."""
    path = tmp_path / "clients"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    line = ["--upstream", redis_server.url, "--listen", f"unix:{path}", "--admin", "off"]
    with ExitStack() as stack:
        processes = [stack.enter_context(serving(tmp_path, *line, forked=True)) for _ in range(4)]
        wait_until(
            lambda: sum(each.process.poll() is not None for each in processes) == 3, "too many or too few listen"
        )
        for each in processes:
            assert each.process.poll() in (None, 1), each.told()
        with connect(unix_socket_path=str(path)) as client:
            assert client.ping()


def test_without_files_to_open_it_does_not_start(redis_server: Server, tmp_path: Path) -> None:
    """A limit that has no room for the sidecar's own files."""
    shell = ("sh", "-c", 'ulimit -n 8; exec "$@"', "sh")
    with serving(tmp_path, "--upstream", redis_server.url, "--admin", "off", before=shell) as process:
        assert process.fail() == 1
    assert process.faults == ["the limit of open files is 8, and a sidecar needs 66: raise ulimit -n"]


def test_an_embedded_valkey_that_does_not_start_is_one_line(tmp_path: Path) -> None:
    """Here no file can be written for it."""
    shell = ("bash", "-c", 'set -o pipefail; (ulimit -f 0; exec "$@") 2>&1 | cat >&2', "bash")
    with serving(tmp_path, "--embedded", "--admin", "off", before=shell) as process:
        assert process.fail() == 1
    assert len(process.faults) == 1
    assert process.faults[0].startswith("the embedded Valkey does not start: ")


@pytest.mark.parametrize("files", ["1", "2", "9", "999999999"])
def test_a_supervisor_that_leaves_no_listening_socket(files: str, redis_server: Server, tmp_path: Path) -> None:
    """It says which file descriptor it is."""
    program = (
        "import os, socket, sys; made = socket.socket(); os.dup2(made.fileno(), 3, inheritable=True);"
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=sys.argv[1]);"
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    before = ("python3", "-c", program, files)
    with serving(tmp_path, "--upstream", redis_server.url, "--admin", "off", before=before) as process:
        assert process.fail() == 1
    assert len(process.faults) == 1
    assert "LISTEN_FDS names file descriptor 3, which is no listening socket" in process.faults[0]
