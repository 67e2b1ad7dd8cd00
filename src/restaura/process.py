# SPDX-License-Identifier: GPL-3.0-or-later
"""Child processes: always with a clean environment, never outliving this one, their errors kept short and whole."""

import contextlib
import ctypes
import fcntl
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Self

from restaura.errors import RestauraError, SourceError

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_M_MMAP_THRESHOLD = -3
ERROR_CHARACTERS = 2000
KILL_SECONDS = 5
BUFFER_BYTES = 1 << 18


def give_memory_back() -> None:
    """Have large blocks mapped one by one, so that the kernel has them again as soon as they are free (mallopt(3)).

    glibc would keep them for the next of that size after the first was free: parts of uploads then add up.
    """
    with contextlib.suppress(AttributeError):
        _libc.mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def _die_with_parent() -> None:
    """Ask the kernel to kill this child when the thread that made it dies, also by SIGKILL (prctl(2))."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """A running child with its standard error collected in an unlinked file, so that it can never block on it."""

    def __init__(
        self,
        argv: Sequence[str | bytes],
        *,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = subprocess.PIPE,
        user: str | None = None,
        cwd: str | None = None,
    ) -> None:
        """Start `argv`. `env` is added to the clean environment; `user` is a local account to become (as root)."""
        self.argv = argv
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        account = pwd.getpwnam(user) if user else None
        extra = {"HOME": account.pw_dir, "USER": account.pw_name} if account else {}
        try:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                argv,
                env=environment(**extra, **(env or {})),
                stdin=stdin,
                stdout=stdout,
                stderr=self._errors,
                bufsize=BUFFER_BYTES,
                cwd=cwd or "/",
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=os.getgrouplist(account.pw_name, account.pw_gid) if account else None,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, no Python lock is touched
            )
        except (FileNotFoundError, PermissionError) as error:
            self._errors.close()
            # A folder to start in, or an account to become, may be what is wrong.
            if error.filename != argv[0]:
                raise
            wrong = "is not installed" if isinstance(error, FileNotFoundError) else "may not be executed"
            raise RestauraError(
                f"the program {_text(argv[0])} {wrong}", fix="ansible-playbook setup_backup.yml"
            ) from error

        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                # Both sides go on longer before they wait for each other; where that is not granted, they wait.
                with contextlib.suppress(OSError):
                    fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, BUFFER_BYTES)

    @property
    def stdin(self) -> IO[bytes]:
        """The pipe to the child (started with stdin=PIPE)."""
        if self.process.stdin is None:
            raise ValueError("the child has no pipe on its standard input")
        return self.process.stdin

    @property
    def stdout(self) -> IO[bytes]:
        """The pipe from the child."""
        if self.process.stdout is None:
            raise ValueError("the child has no pipe on its standard output")
        return self.process.stdout

    def errors(self, most: int | None = ERROR_CHARACTERS) -> str:
        """Return the end of what the child wrote to standard error so far, `most` bytes of it (None: all)."""
        # The child writes at the same file offset, so it must not be moved.
        size = os.fstat(self._errors.fileno()).st_size
        most = size if most is None else most
        return os.pread(self._errors.fileno(), most, max(0, size - most)).decode(errors="replace").strip()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code (negative: the signal that ended it)."""
        return self.process.wait(timeout)

    def kill(self) -> None:
        """Kill the child and everything it started, and reap it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """Kill the child if it still runs, and free its pipes."""
        if self.process.poll() is None:
            self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run(
    argv: Sequence[str | bytes],
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    user: str | None = None,
    cwd: str | None = None,
    timeout: float | None = None,
    accept: Sequence[int] = (0,),
) -> tuple[int, bytes, str]:
    """Run `argv` to its end and return exit code, standard output and the end of standard error.

    Raises RestauraError, with standard error, for an exit code not in `accept` or when `timeout` seconds are over.
    """
    with tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        with Child(argv, env=env, stdin=given, user=user, cwd=cwd) as child:
            try:
                out, _ = child.process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                child.kill()
                raise RestauraError(f"{_text(argv[0])} did not end within {timeout} seconds") from None
            if child.process.returncode not in accept:
                raise RestauraError(failure(argv, child.process.returncode, child.errors()))
            return child.process.returncode, out, child.errors()


def shell(command: str, timeout: float, what: str, **extra: str) -> None:
    """Run a user's shell command; SourceError when it fails or takes longer than `timeout` seconds."""
    try:
        done = subprocess.run(  # noqa: S602 - the command is the administrator's own setting
            command, shell=True, env=environment(**extra), capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise SourceError(f"did not end within {timeout} s: {command}", where=what) from None
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()[-500:]
        raise SourceError(f"exit code {done.returncode}: {command}" + (f": {said}" if said else ""), where=what)


def end_marked(mark: str, seconds: float) -> None:
    """Wait until no process has `mark` (`NAME=value`) in its environment, as its children have; then kill those left.

    SourceError when one cannot be killed.
    """
    deadline = time.monotonic() + seconds
    while left := _marked(mark.encode()):
        if time.monotonic() > deadline + KILL_SECONDS:
            raise SourceError("cannot be killed", where=f"process {left[0]}")
        for pid in left if time.monotonic() > deadline else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _marked(mark: bytes) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def failure(argv: Sequence[str | bytes], code: int, errors: str) -> str:
    """Return one sentence for a child that failed."""
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"{_text(argv[0])} {how}" + (f": {errors}" if errors else "")


@contextlib.contextmanager
def reading(
    argv: Sequence[str | bytes],
    *,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    accept: Sequence[int] = (0,),
) -> Iterator[IO[bytes]]:
    """Yield the standard output of `argv`; on leaving, RestauraError unless it was read to its end and exited well.

    A body that leaves before the end has the child killed and no error raised for that.
    """
    with Child(argv, env=env, user=user, stdin=stdin) as child:
        yield child.stdout
        if child.stdout.read(1):
            child.kill()
            return
        code = child.wait()
        if code not in accept:
            raise RestauraError(failure(argv, code, child.errors()))


def without_network() -> list[str]:
    """Return the words that give a program an empty network; none where the kernel refuses (a bare container)."""
    words = ["unshare", "--net", "--"]
    with contextlib.suppress(RestauraError):
        run([*words, "true"])
        return words
    return []


def program_argv() -> list[str]:
    """Return the command that starts this very program again, be it the zipapp or the source tree."""
    archive = Path(sys.argv[0]).resolve()
    if zipfile.is_zipfile(archive):
        return [sys.executable, str(archive)]
    return python_argv("import runpy; runpy.run_module('restaura', run_name='__main__', alter_sys=True)")


def python_argv(code: str) -> list[str]:
    """Return the command that runs Python code which can import this very program, be it the zipapp or a tree."""
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {_package_root()!r}); {code}"]


def program_bytes() -> bytes | None:
    """Return the zipapp this process runs from, or None when it runs from a source tree."""
    archive = Path(sys.argv[0]).resolve()
    return archive.read_bytes() if zipfile.is_zipfile(archive) else None


def _package_root() -> str:
    return str(Path(__file__).resolve().parent.parent)


def _text(value: str | bytes) -> str:
    return os.fsdecode(value)


def environment(**extra: str) -> dict[str, str]:
    """Return the environment of every child: nothing of the caller's but its temporary folder, and `extra`."""
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "TMPDIR": os.environ.get("TMPDIR", tempfile.gettempdir()),
        **extra,
    }
