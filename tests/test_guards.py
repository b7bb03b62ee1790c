"""The guards of conftest.py fire: a small project with known faults is run under them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

OUR_CODE = """
import asyncio, logging, os, pathlib, sqlite3, subprocess, tempfile, time

def opens(folder): open(folder / "a", "w").close()
def opens_by_path(folder): (folder / "a").write_text("x")
def opens_temporary(folder): tempfile.mkstemp(dir=folder)
def renames(folder): os.rename(__file__, __file__)
def removes(folder): (folder / "a").unlink(missing_ok=True)
def makes(folder): (folder / "d").mkdir()
def lists(folder): list(folder.iterdir())
def connects(folder): sqlite3.connect(":memory:").close()
def runs(folder): subprocess.run(["true"])
def sleeps(folder): time.sleep(0)

async def in_a_coroutine(folder): opens(folder)

def imports(folder): import cache.late
def logs(folder):
    try: 1 / 0
    except ZeroDivisionError: logging.exception("known")
async def in_a_thread(folder): await asyncio.to_thread(opens, folder)
async def on_another_loop(folder):
    await asyncio.to_thread(asyncio.run, in_a_coroutine(folder))
async def by_a_library(folder): await (await asyncio.create_subprocess_exec("true")).wait()

async def waits(): await asyncio.sleep(3600)
async def ends_slowly():
    try: await waits()
    finally: await asyncio.to_thread(time.sleep, 0.2)
"""

TESTS = """
import asyncio, inspect
import pytest
from hypothesis import given, strategies as st, settings, HealthCheck
from cache import ours

@pytest.mark.parametrize("name", ["opens", "opens_by_path", "opens_temporary", "renames", "removes",
    "makes", "lists", "connects", "runs", "sleeps", "in_a_coroutine",
    "imports", "logs", "in_a_thread", "on_another_loop", "by_a_library"])
async def test_blocking(name, tmp_path):
    result = getattr(ours, name)(tmp_path)
    if inspect.isawaitable(result): await result

def test_blocking_without_loop(tmp_path): ours.opens(tmp_path)

async def test_blocking_in_a_test(tmp_path): open(tmp_path / "a", "w").close()

@given(st.none())
async def test_blocking_property(nothing): ours.sleeps(nothing)

async def test_task_left(): asyncio.get_running_loop().kept = asyncio.create_task(ours.waits())

async def test_task_cancelled_but_not_awaited():
    asyncio.get_running_loop().kept = task = asyncio.create_task(ours.ends_slowly())
    await asyncio.sleep(0)
    task.cancel()

async def test_task_ended():
    task = asyncio.create_task(ours.waits())
    task.cancel()
    await asyncio.wait([task])

@pytest.fixture
async def worker():
    task = asyncio.create_task(ours.waits())
    yield
    task.cancel()
    await asyncio.wait([task])

@pytest.fixture
async def careless_worker():
    asyncio.get_running_loop().kept = asyncio.create_task(ours.waits())
    yield

async def test_task_of_fixture(worker): pass

async def test_task_left_by_fixture(careless_worker): pass
"""

CAUGHT = {
    "test_blocking[opens]": ("ours.py:4", "open"),
    "test_blocking[opens_by_path]": ("ours.py:5", "open"),
    "test_blocking[opens_temporary]": ("ours.py:6", "open"),
    "test_blocking[renames]": ("ours.py:7", "os.rename"),
    "test_blocking[removes]": ("ours.py:8", "os.remove"),
    "test_blocking[makes]": ("ours.py:9", "os.mkdir"),
    "test_blocking[lists]": ("ours.py:10", "os.listdir"),
    "test_blocking[connects]": ("ours.py:11", "sqlite3.connect"),
    "test_blocking[runs]": ("ours.py:12", "subprocess.Popen"),
    "test_blocking[sleeps]": ("ours.py:13", "time.sleep"),
    "test_blocking[in_a_coroutine]": ("ours.py:4", "open"),
    "test_blocking_property": ("ours.py:13", "time.sleep"),
    "test_task_left": ("tasks left behind", "waits"),
    "test_task_cancelled_but_not_awaited": ("tasks left behind", "ends_slowly"),
    "test_task_left_by_fixture": ("tasks left behind", "waits"),
}
LEFT_ALONE = {
    "test_blocking[imports]",
    "test_blocking[logs]",
    "test_blocking[in_a_thread]",
    "test_blocking[on_another_loop]",
    "test_blocking[by_a_library]",
    "test_blocking_without_loop",
    "test_blocking_in_a_test",
    "test_task_ended",
    "test_task_of_fixture",
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The small project's run: test -> what its guard said (empty: nothing)."""
    root = tmp_path_factory.mktemp("project")
    for folder in ("cache", "tests"):
        (root / folder).mkdir()
    (root / "cache/ours.py").write_text(OUR_CODE)
    # A package of its own, found before the one that this environment has installed.
    (root / "cache/__init__.py").write_text("")
    (root / "cache/late.py").write_text("")
    (root / "tests/test_faults.py").write_text(TESTS)
    shutil.copy(HERE / "conftest.py", root / "tests")
    shutil.copy(HERE.parent / "pyproject.toml", root)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--tb=short"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    passed = re.findall(r"::(\S+) PASSED", run.stdout)
    blocks = re.split(r"^_+ ERROR at teardown of (\S+) _+$", run.stdout, flags=re.MULTILINE)
    said = dict(zip(blocks[1::2], blocks[2::2], strict=True))
    assert " failed" not in run.stdout, run.stdout
    return {name: said.get(name, "") for name in passed}


def test_every_fault_is_known(reports: dict[str, str]) -> None:
    """The small project ran whole, and each of its tests is in one of the two lists."""
    assert set(CAUGHT) | LEFT_ALONE == set(reports)


@pytest.mark.parametrize("name", CAUGHT)
def test_guard_fires(name: str, reports: dict[str, str]) -> None:
    """A blocking call is named with file and line, a task with its coroutine."""
    for words in CAUGHT[name]:
        assert words in reports[name]


@pytest.mark.parametrize("name", sorted(LEFT_ALONE))
def test_guard_is_silent(name: str, reports: dict[str, str]) -> None:
    """No alarm for imports, logged tracebacks, threads, libraries, tests, and tasks that ended."""
    assert "" == reports[name]
