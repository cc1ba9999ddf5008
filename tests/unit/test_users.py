# SPDX-License-Identifier: Apache-2.0
"""Names from the passwd in the root of a real process, whatever lies there."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodeagent.enrich.user import UserKey, UserQuestion, UserSeen
from nodeagent.follow import users
from nodeagent.follow.inside import Inside, namespace_of
from nodeagent.follow.users import UserFollower, names_in
from nodeagent.follow.worker import Worker
from nodeagent.kernel.libbpf import Libbpf
from tests.requirement import need

BUSYBOX = Path("/bin/busybox")
HUGE_BYTES = 10 << 30


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    need("kernel", os.geteuid() == 0, "only root may look through /proc/PID/root of others")
    monkeypatch.setattr(users, "MOVING_SECONDS", 0.1)


@contextmanager
def rooted(root: Path, *options: str) -> Iterator[int]:
    """A process in mount namespace and root of its own."""
    need("containers", BUSYBOX.exists(), "busybox-static is not installed")
    shutil.copy(BUSYBOX, root / "busybox")
    (root / "etc").mkdir(exist_ok=True)
    command = ["unshare", "--mount", *options, "--root", str(root), "/busybox", "sh", "-c"]
    script = "echo ready; exec /busybox sleep 1000"
    with subprocess.Popen([*command, script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process.pid
        finally:
            process.kill()


def question(pid: int, uid: int, namespace: int | None = None) -> UserQuestion:
    mount_namespace = namespace or namespace_of(pid, "mnt")
    return UserQuestion(UserKey(mount_namespace, namespace_of(pid, "user"), uid), pid)


def answers(*questions: UserQuestion, count: int = 0) -> list[UserSeen]:
    """What the follower tells after its start."""
    told: list[UserSeen] = []
    done = asyncio.Event()

    def tell(seen: UserSeen) -> None:
        told.append(seen)
        if len(told) >= (count or len(questions)):
            done.set()

    worker = Worker("test")
    follower = UserFollower(Inside(Libbpf().syscall), worker, tell)
    follower.start()
    told.clear()
    done.clear()

    async def ask() -> None:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            task = group.create_task(follower.follow())
            follower.ask(questions)
            await done.wait()
            task.cancel()

    asyncio.run(ask())
    worker.close()
    return told


def name_in(root: Path, uid: int = 1000) -> str | None:
    with rooted(root) as pid:
        (told,) = answers(question(pid, uid))
    assert not told.is_of_host
    return told.name


def test_users_of_the_host_are_told_at_the_start() -> None:
    told: list[UserSeen] = []
    UserFollower(Inside(Libbpf().syscall), Worker("test"), told.append).start()
    names = {seen.key.uid: seen.name for seen in told}
    assert names[0] == "root"
    assert names[65534] == pwd.getpwuid(65534).pw_name
    assert {seen.is_of_host for seen in told} == {True}


def test_name_is_that_of_the_own_root(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:\nown:x:1000:1000::/:\n")
    assert name_in(tmp_path) == "own"
    assert name_in(tmp_path, 4711) == ""


def test_root_without_passwd_names_nobody(tmp_path: Path) -> None:
    assert name_in(tmp_path) == ""


def test_ids_of_a_user_namespace_count_in_there(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("wrong:x:0:0::/:\ninner:x:1000:1000::/:\n")
    tmp_path.chmod(0o755)
    with rooted(tmp_path, "--user", "--map-user=1000") as pid:
        mapped, other = answers(question(pid, 0), question(pid, 1000))
    assert (mapped.name, other.name) == ("inner", "")


def test_process_that_has_gone_is_not_answered_for(tmp_path: Path) -> None:
    with rooted(tmp_path) as pid:
        asked = question(pid, 1000)
    (told,) = answers(asked)
    assert told.name is None


def test_another_process_with_this_pid_is_not_asked() -> None:
    (told,) = answers(question(os.getpid(), 0, namespace=1))
    assert told.name is None


def symlink_out(path: Path) -> None:
    path.symlink_to("../" * 20 + "etc/passwd")


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def device(path: Path) -> None:
    os.mknod(path, 0o20644, os.makedev(1, 5))


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(HUGE_BYTES)
        file.seek(HUGE_BYTES - 100)
        file.write(b"\nlast:x:1000:1000::/:\n")


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(4096) + b"\n::\n:x:1000\nno:x:" + b"9" * 5000 + b"\nbad:x:-1:\n")


def magic_link(path: Path) -> None:
    path.symlink_to("/proc/self/root/etc/passwd")


@pytest.mark.parametrize(
    "make", [symlink_out, fifo, folder, device, huge, garbage, magic_link], ids=lambda f: f.__name__
)
def test_hostile_passwd_names_nobody_and_the_next_is_read(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    make(etc / "passwd")
    with rooted(tmp_path) as pid:
        hostile, fine = answers(question(pid, 1000), question(os.getpid(), 0))
    assert (hostile.name, fine.name) == ("", "root")


def test_names_of_another_encoding_and_length_are_bounded() -> None:
    ((uid, name),) = names_in(b"\xff" + b"n" * 1000 + b":x:7:7::/:")
    assert (uid, name) == (7, "\ufffd" + "n" * (users.NAME_LENGTH - 1))


def test_container_that_gets_its_root_later_is_asked_again(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("own:x:0:0::/:\n")
    shutil.copy(BUSYBOX, tmp_path / "busybox")
    script = f"read _; exec chroot {tmp_path} /busybox sleep 1000"
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f"echo ready; {script}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        told: list[UserSeen] = []
        worker = Worker("test")
        follower = UserFollower(Inside(Libbpf().syscall), worker, told.append)
        follower.start()
        told.clear()
        stdin = process.stdin

        async def watch() -> None:
            async with asyncio.timeout(20), asyncio.TaskGroup() as group:
                task = group.create_task(follower.follow())
                follower.ask([question(process.pid, 0)])
                while not told:  # noqa: ASYNC110  it is told by a thread
                    await asyncio.sleep(0.001)
                stdin.write(b"go\n")
                stdin.flush()
                while len(told) < 2:  # noqa: ASYNC110  as above
                    await asyncio.sleep(0.01)
                task.cancel()

        asyncio.run(watch())
        worker.close()
        process.kill()
    first, second = told
    assert (first.name, first.is_of_host) == ("root", True)
    assert (second.name, second.is_of_host) == ("own", False)


def test_more_questions_than_can_wait_are_given_back() -> None:
    told: list[UserSeen] = []
    follower = UserFollower(Inside(Libbpf().syscall), Worker("test"), told.append)
    follower.ask(question(os.getpid(), uid) for uid in range(users.QUESTIONS_WAITING + 2))
    assert [seen.name for seen in told] == [None, None]
