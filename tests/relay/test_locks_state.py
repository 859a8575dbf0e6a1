"""The state folder: private whatever the umask says, nobody else's, and on a local disk."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hermes_tui.journal import files
from hermes_tui.journal.files import StateDir, StateError, check_local, open_private, write_private
from tests.processes import DEADLINE_S, RelayProcess, clean_environment, counts, post, run_cli
from tests.support import body_of, wait_for, wire_span

Start = Callable[..., RelayProcess]
BODY = body_of(wire_span(1))
SOMEBODY = 12345  # a user id that is not ours


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.lstat().st_mode) for path in (folder, *folder.iterdir())}


# ---- private, and a hostile umask is survived


@pytest.mark.process
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777], ids=oct)
def test_everything_is_private_whatever_the_umask_says(tmp_path: Path, umask: int) -> None:
    state = StateDir(tmp_path / "far" / "below" / "state")
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "hermes_tui", "relay", "--state-dir", str(state.path)],
            env=clean_environment(HERMES_TRACE_HTTP_PORT="0", HERMES_TRACE_GRPC_PORT="0"),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            umask=umask,
        )
    try:
        relay = _attached(state, process)
        assert post(relay, BODY, Authorization="Bearer x") == 200
        wait_for(lambda: counts(state)["local"] == 1, DEADLINE_S)
        done = run_cli("status", "--state-dir", str(state.path), umask=umask)
        assert done.returncode == 0, done.stderr
        found = modes(state.path)
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
    assert {"journal.db", "journal.db-wal", "journal.db-shm", "relay.lock", "relay.json"} <= found.keys()
    assert found.pop("state") == 0o700
    assert set(found.values()) == {0o600}, {name: oct(mode) for name, mode in found.items()}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (state.path.parent, tmp_path / "far")} == {0o700}


def _attached(state: StateDir, process: subprocess.Popen[bytes]) -> str:
    from hermes_tui.relay.lock import find

    def ready() -> bool:
        assert process.poll() is None
        running = find(state)
        return running is not None and running.ready

    wait_for(ready, DEADLINE_S)
    running = find(state)
    assert running is not None
    return str(running.http)


@pytest.mark.parametrize("umask", [0o000, 0o777], ids=oct)
def test_files_are_private_without_the_programs_own_umask(state: StateDir, umask: int) -> None:
    before = os.umask(umask)
    try:
        state.create()
        write_private(state.address, "{}")
        os.close(open_private(state.lock, os.O_RDWR | os.O_CREAT))
        assert modes(state.path) == {"state": 0o700, "relay.json": 0o600, "relay.lock": 0o600}
        state.create()  # what was made can be used again
        assert state.address.read_text() == "{}"
    finally:
        os.umask(before)


def test_what_was_open_to_others_is_closed(state: StateDir) -> None:
    state.path.mkdir()
    for name in ("journal.db", "journal.db-wal", "relay.log.1", "credentials.json", "desk.db"):
        (state.path / name).write_text("")
        (state.path / name).chmod(0o666)
    (state.path / "notes.txt").write_text("somebody's own")
    (state.path / "notes.txt").chmod(0o644)
    state.path.chmod(0o777)
    state.create()
    found = modes(state.path)
    assert found.pop("notes.txt") == 0o644  # not ours
    assert found.pop("state") == 0o700
    assert set(found.values()) == {0o600}


def test_only_a_file_is_made_private(tmp_path: Path) -> None:
    before = stat.S_IMODE(os.stat(os.devnull).st_mode)
    os.close(open_private(Path(os.devnull), os.O_WRONLY))
    assert stat.S_IMODE(os.stat(os.devnull).st_mode) == before


# ---- nobody else's


NAMES = [
    "journal.db",
    "journal.db-wal",
    "journal.db-shm",
    "credentials.json",
    "relay.lock",
    "relay.json",
    "relay.log",
    "relay.log.1",
    "desk.db",
    ".relay.json.4242",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe", "another's"])
def test_a_file_that_is_not_ours_is_refused(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    state.create()
    planted, victim = state.path / name, tmp_path / "victim"
    if kind != "dangling link":
        victim.write_text("precious")
    if kind == "folder":
        planted.mkdir()
    elif kind == "pipe":
        os.mkfifo(planted)
    elif kind == "another's":
        planted.write_text("")
        _belongs_to_somebody(monkeypatch, planted)
    else:
        planted.symlink_to(victim)
    with pytest.raises(StateError) as refused:
        state.create()
    said = str(refused.value)
    assert str(state.path) in said
    assert name in said
    assert "Remove it, or choose another folder with --state-dir" in said
    assert victim.read_text() == "precious" if kind != "dangling link" else not victim.exists()


def _belongs_to_somebody(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Tests may run as anybody: what the system says of a path's owner is changed instead."""
    real = os.stat_result
    theirs = {str(path) for path in paths}

    def owned(original: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
        def found(path: Path, **said: bool) -> os.stat_result:
            result = original(path, **said)
            if str(path) not in theirs:
                return result
            values = list(result)
            values[stat.ST_UID] = SOMEBODY
            return real(values)

        return found

    monkeypatch.setattr(Path, "lstat", owned(Path.lstat))
    monkeypatch.setattr(Path, "stat", owned(Path.stat))


@pytest.mark.process
@pytest.mark.parametrize("name", ["journal.db", "relay.lock", "relay.json", "credentials.json"])
def test_a_relay_does_not_follow_a_link(state: StateDir, tmp_path: Path, name: str) -> None:
    state.create()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (state.path / name).symlink_to(victim)
    done = run_cli("relay", "--state-dir", str(state.path), "--http-port", "0")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"Error: cannot use the state folder {state.path}: {name} in it is a symbolic link"
    )
    assert victim.read_text() == "precious"


def test_anothers_folder_is_refused(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    state.path.mkdir(mode=0o777)
    _belongs_to_somebody(monkeypatch, state.path)
    with pytest.raises(StateError, match=rf"belongs to another user \(uid {SOMEBODY}\).*--state-dir"):
        state.create()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.process
def test_a_relay_refuses_anothers_folder(state: StateDir) -> None:
    state.path.mkdir()
    os.chown(state.path, SOMEBODY, SOMEBODY)
    done = run_cli("relay", "--state-dir", str(state.path), "--http-port", "0")
    assert done.returncode == 2
    assert "belongs to another user" in done.stderr
    assert list(state.path.iterdir()) == []


@pytest.mark.parametrize("place", ["itself", "above", "behind our own link"])
def test_a_link_of_another_user_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "real").mkdir()
    theirs = tmp_path / "theirs"
    theirs.symlink_to(tmp_path / "real")
    (tmp_path / "ours").symlink_to("theirs")
    _belongs_to_somebody(monkeypatch, theirs)
    path = {"itself": theirs, "above": theirs / "state", "behind our own link": tmp_path / "ours" / "state"}[
        place
    ]
    with pytest.raises(StateError, match="symbolic link of another user"):
        StateDir(path).create()
    assert list((tmp_path / "real").iterdir()) == []


def test_our_own_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "there").symlink_to("real/deep/../deep")
    (tmp_path / "here").symlink_to(tmp_path / "there")
    StateDir(tmp_path / "here" / "state").create()
    assert (tmp_path / "real" / "deep" / "state").is_dir()


def test_links_in_a_circle_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(StateError, match="symbolic links"):
        StateDir(tmp_path / "a" / "state").create()


# ---- on a local disk


MOUNTS = [
    ("/", "ext4"),
    ("/proc", "proc"),
    ("/home", "autofs"),
    ("/home", "nfs4"),
    ("/home/me/local", "xfs"),
    ("/mnt/win", "9p"),
    ("/mnt/ssh", "fuse.sshfs"),
    ("/mnt/ssh/under", "fuse.encfs"),
    ("/srv", "nfs"),
    ("/srv", "btrfs"),
    ("/Volumes/share", "smbfs"),
    ("/over", "overlay"),
    ("/shm", "tmpfs"),
    ("/vm", "virtiofs"),
]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/state", "nfs4, mounted at /home"),
        ("/home", "nfs4, mounted at /home"),
        ("/mnt/win/c", "9p"),
        ("/mnt/ssh/state", "fuse.sshfs"),
        ("/Volumes/share/state", "smbfs"),
        ("/homeless/state", None),
        ("/home/me/local/state", None),
        ("/mnt/ssh/under/state", None),
        ("/srv/state", None),
        ("/over/state", None),
        ("/shm/state", None),
        ("/vm/state", None),
        ("/var/lib/state", None),
    ],
)
def test_a_network_file_system_is_refused(path: str, kind: str | None) -> None:
    if kind is None:
        check_local(Path(path), MOUNTS)
        return
    with pytest.raises(StateError) as refused:
        check_local(Path(path), MOUNTS)
    for words in (path, kind, "network file system", "write-ahead log", "--state-dir"):
        assert words in str(refused.value)


@pytest.mark.parametrize(
    "kind",
    [
        *("nfs", "nfs3", "nfs4", "NFS", "cifs", "smb3", "smbfs", "afs", "9p", "lustre", "davfs", "webdav"),
        *("ceph", "glusterfs", "afpfs", "vboxsf", "prl_fs", "fuse.sshfs", "fuse.davfs2", "fuse.rclone"),
        *("fuse.glusterfs", "fuse.ceph-fuse", "fuse.vmhgfs-fuse"),
    ],
)
def test_network_file_systems(kind: str) -> None:
    with pytest.raises(StateError):
        check_local(Path("/state"), [("/", kind)])


@pytest.mark.parametrize(
    "kind", ["ext4", "apfs", "zfs", "fuseblk", "fuse.mergerfs", "hfs", "ufs", "overlay", ""]
)
def test_local_file_systems(kind: str) -> None:
    check_local(Path("/state"), [("/", kind)])


def test_a_link_onto_a_network_file_system_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far")
    with pytest.raises(StateError):
        check_local(tmp_path / "link" / "state", [("/", "ext4"), (os.path.realpath(tmp_path / "far"), "nfs")])


def test_where_mounts_cannot_be_told_the_folder_counts_as_local(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    def forbidden(**_: bool) -> None:
        raise PermissionError

    monkeypatch.setattr(psutil, "disk_partitions", forbidden)
    check_local(tmp_path)


@pytest.mark.process
def test_a_relay_asks_before_it_makes_anything(state: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from hermes_tui.relay.service import serve
    from hermes_tui.settings import Settings

    monkeypatch.setattr(files, "_mounts", lambda: [("/", "nfs4")])
    with pytest.raises(StateError, match="network file system"):
        asyncio.run(serve(Settings(state_dir=str(state.path), http_port=0)))
    assert not state.path.exists()
