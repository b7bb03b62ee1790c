"""Two guards around every asynchronous test, and how property tests are run.

- No task left behind: what a test (or its fixtures) began has ended when they have.
- No blocking call on the loop: a call of ``BLOCKING`` by our own code on the loop's thread.
  Seen by an audit hook, so it is exact: it does not depend on how long the call took. It does not
  see read, write, fsync and stat, for which there is no audit event.
"""

import asyncio
import inspect
import sys
import sysconfig
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import FrameType

import hypothesis
import pytest

# How long an example takes says nothing on a busy machine.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")

ROOT = Path(__file__).resolve().parent.parent
OURS = (f"{ROOT}/cache/", f"{ROOT}/registryd/")
_STDLIB = sysconfig.get_path("stdlib")
#: Not what our code asked for: imports read .pyc files, and logged tracebacks read sources.
PARDONED = ("<frozen importlib._bootstrap", f"{_STDLIB}/linecache.py")
#: Libraries that call the system on their own account, on a thread or in a way they answer for.
STRANGERS = (f"{_STDLIB}/asyncio/", f"{_STDLIB}/site-packages/", sysconfig.get_path("purelib"))
#: What a call of ours passes through on its way to the system.
OPEN_TO_VIEW = (_STDLIB, "<", __file__)

BLOCKING = frozenset(
    {
        "open",
        "os.link",
        "os.listdir",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.scandir",
        "os.symlink",
        "os.system",
        "os.truncate",
        "shutil.copyfile",
        "shutil.rmtree",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "sqlite3.connect",
        "subprocess.Popen",
        "time.sleep",
    }
)


class LoopWatch:
    """What the audit hook (which can never be taken away again) looks at and writes down."""

    def __init__(self) -> None:
        self.thread = 0
        self.found: list[str] = []

    def hook(self, event: str, arguments: tuple[object, ...]) -> None:
        """Called by the interpreter for every audit event of every thread."""
        if self.thread != threading.get_ident() or event not in BLOCKING:
            return
        if asyncio._get_running_loop() is None:
            return
        place = our_line(sys._getframe(1))
        if place:
            self.found.append(f"{place}: {event} {str(arguments[:1])[:120]}")


def our_line(frame: FrameType | None) -> str:
    """The line of ours that made this call, through the standard library but not through others.

    Empty when the call is not ours, or is pardoned.
    """
    place = ""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(PARDONED):
            return ""
        if not place and name.startswith(OURS):
            place = f"{Path(name).relative_to(ROOT)}:{frame.f_lineno}"
        elif not place and (name.startswith(STRANGERS) or not name.startswith(OPEN_TO_VIEW)):
            return ""
        frame = frame.f_back
    return place


WATCH = LoopWatch()
sys.addaudithook(WATCH.hook)


def with_audit(sleep: Callable[[float], None]) -> Callable[[float], None]:
    """The audit event of time.sleep, which the interpreter has from 3.13 on."""

    def audited(seconds: float) -> None:
        sys.audit("time.sleep", seconds)
        sleep(seconds)

    return audited


if sys.version_info < (3, 13):
    time.sleep = with_audit(time.sleep)


def is_asynchronous(function: object) -> bool:
    """Whether pytest-asyncio runs this test; a property test hides its coroutine function."""
    inner = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    return inspect.iscoroutinefunction(inner)


@pytest.fixture(autouse=True)
def guards(request: pytest.FixtureRequest) -> None:
    """Put the guards around asynchronous tests; first set up, they are the last to look."""
    if is_asynchronous(request.function):
        request.getfixturevalue("no_task_left_behind")
        request.getfixturevalue("no_blocking_call")


@pytest.fixture
async def no_task_left_behind() -> AsyncIterator[None]:
    """Fail a test after which a task still runs."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    words = sorted(repr(task) for task in left)
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=5)
        pytest.fail("tasks left behind:\n" + "\n".join(words), pytrace=False)


@pytest.fixture
async def no_blocking_call() -> AsyncIterator[None]:
    """Fail a test in which our code blocked the loop."""
    WATCH.found = []
    WATCH.thread = threading.get_ident()
    yield
    WATCH.thread = 0
    if WATCH.found:
        lines = "\n".join(dict.fromkeys(WATCH.found))
        pytest.fail(f"blocking calls on the loop:\n{lines}", pytrace=False)
