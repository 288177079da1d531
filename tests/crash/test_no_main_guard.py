"""A program needs no `if __name__ == "__main__"`: the writer is another process that never imports the user's code."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import zipapp
from pathlib import Path

import cv2
import numpy as np
import pytest

from ml_dash.storage import reading
from tests.crash.programs import ending, messages, points, run_folder
from tests.support import SUBPROCESS_SECONDS, import_root, python_environment, wait_until

pytestmark = pytest.mark.crash

# Nothing is guarded. The first lines report each process that runs the code. No quotes that a
# notebook or a command line would have to escape, and no json: a test puts a json.py beside it.
PROGRAM = """
import os, sys
from pathlib import Path

with open(os.environ['COUNTER'], 'a') as counter:
    counter.write(str(os.getpid()) + chr(10))

import numpy as np
from ml_dash import Experiment

exp = Experiment('alice/walker/run', dash_root=os.environ['ROOT'], echo=False).run.start()
exp.metrics('train').log(loss=0.5, step=1)
exp.log('hello', rate=0.1)
exp.files('frames').save_image(np.full((8, 12, 3), 200, np.uint8), to='one.png')
exp.files('config').save_json({'layers': [4, 4]}, to='model.json')
if not exp.flush():
    raise SystemExit('not everything is on disk')
health = exp.health()
Path(os.environ['REPORT']).write_text(repr({**health, 'pid': os.getpid(), 'package': sys.modules['ml_dash'].__file__}))
exp.run.complete()
"""


@pytest.fixture
def folder(tmp_path):
    """Make a folder with `script.py`, the module `program` and the package `package`, all with the same code."""
    code = tmp_path / "code"
    (code / "package").mkdir(parents=True)
    for name in ("script.py", "program.py", "package/__main__.py"):
        (code / name).write_text(PROGRAM)
    (code / "package/__init__.py").write_text("")
    return code


def variables(folder: Path) -> dict[str, str]:
    """Return the variables that tell the program its paths: absolute ones, since it may change its folder."""
    above = folder.parent
    return {
        "COUNTER": str(above / "counter.txt"),
        "REPORT": str(above / "report.txt"),
        "ROOT": str(above / "root"),
        "IPYTHONDIR": str(above / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(above / "jupyter"),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def run_command(command: list[str], folder: Path, *, text: str | None = None) -> str:
    """Run a command in `folder` with `text` as its input, and return what it printed."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=python_environment(variables(folder)),
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        timeout=SUBPROCESS_SECONDS,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def assert_logged_once_by_a_process(folder: Path) -> dict[str, object]:
    """Check that the run is whole, that a writer process wrote it, and that one process ran the program; return its report."""
    above = folder.parent
    report = ast.literal_eval((above / "report.txt").read_text())
    assert not report["writer_on_thread"]
    assert report["writer_pid"] not in (0, report["pid"])
    assert (0, 0, 0) == (report["writer_restarts"], report["errors"], report["records_refused"])
    assert [str(report["pid"])] == (above / "counter.txt").read_text().split()
    assert ("COMPLETED", None) == ending(above)
    assert [{"loss": 0.5, "step": 1}] == points(above)
    assert ["hello"] == messages(above)
    run = Path(run_folder(above))
    assert ["one.png", "model.json"] == [entry["filename"] for entry in reading.read_files(str(run))]
    (image,) = run.glob("files/frames/*/one.png")
    assert np.array_equal(np.full((8, 12, 3), 200, np.uint8), cv2.imread(str(image), cv2.IMREAD_UNCHANGED))
    (config,) = run.glob("files/config/*/model.json")
    assert {"layers": [4, 4]} == ast.literal_eval(config.read_text())
    assert not (run / ".writer-error.log").exists()
    return report


COMMANDS = {
    "script": ["script.py"],
    "script, isolated from its folder": ["-P", "script.py"],
    "script, optimized": ["-OO", "script.py"],
    "folder": ["package"],
    "-m module": ["-m", "program"],
    "-m package": ["-m", "package"],
    "-c": ["-c", PROGRAM],
}

IPYTHON_COMMANDS = {
    "ipython %run": ["-m", "IPython", "--quick", "-c", "%run script.py"],
    "ipython script": ["-m", "IPython", "--quick", "script.py"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_program_runs_however_python_is_given_it(folder, name):
    run_command([sys.executable, *COMMANDS[name]], folder)
    assert_logged_once_by_a_process(folder)


@pytest.mark.ecosystem
@pytest.mark.parametrize("name", IPYTHON_COMMANDS)
def test_a_program_runs_in_ipython(folder, name):
    run_command([sys.executable, *IPYTHON_COMMANDS[name]], folder)
    assert_logged_once_by_a_process(folder)


@pytest.mark.parametrize("arguments", [[], ["-"]], ids=["python <", "python -"])
def test_a_program_may_come_from_stdin(folder, arguments):
    run_command([sys.executable, *arguments], folder, text=PROGRAM)
    assert_logged_once_by_a_process(folder)


def test_a_program_may_be_an_archive(folder):
    shutil.move(folder / "script.py", folder / "package/script.py")
    zipapp.create_archive(folder / "package", folder / "program.pyz")
    shutil.rmtree(folder / "package")
    run_command([sys.executable, "program.pyz"], folder)
    assert_logged_once_by_a_process(folder)


def test_the_archive_may_hold_ml_dash_itself(folder):
    """The writer imports the package from the program's archive, not another one of the same name."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(import_root() / "ml_dash", folder / "package/ml_dash", ignore=ignored)
    zipapp.create_archive(folder / "package", folder / "program.pyz")
    decoy = folder / "ml_dash"
    decoy.mkdir()
    (decoy / "__init__.py").write_text("raise AssertionError('this is not the package that the program uses')")
    run_command([sys.executable, "program.pyz"], folder)
    report = assert_logged_once_by_a_process(folder)
    assert str(folder / "program.pyz/ml_dash/__init__.py") == str(folder / report["package"])


def test_a_program_may_change_its_folder_before_it_opens_a_run(folder):
    code = PROGRAM.replace("exp = Experiment", "os.chdir('/'); exp = Experiment")
    (folder / "script.py").write_text(code)
    run_command([sys.executable, "script.py"], folder)
    assert_logged_once_by_a_process(folder)


def test_a_daemonic_worker_may_open_a_run(folder):
    """`multiprocessing` forbids children to such a worker; the writer is started without it."""
    lines = "".join(f"    {line}\n" for line in PROGRAM.splitlines())
    code = f"""
import multiprocessing

def work():
{lines}

worker = multiprocessing.get_context("fork").Process(target=work, daemon=True)
worker.start()
worker.join()
assert worker.exitcode == 0
"""
    (folder / "script.py").write_text(code)
    run_command([sys.executable, "script.py"], folder)
    assert_logged_once_by_a_process(folder)


# Modules that only the writer imports, and some that the program has imported before.
TRAPS = (
    "json",
    "socket",
    "struct",
    "sysconfig",
    "tarfile",
    "queue",
    "logging",
    "traceback",
    "filelock",
    "cv2",
    "numpy",
)


def test_a_json_module_of_the_users_is_theirs_and_no_trap(folder):
    (folder / "json.py").write_text("import os\nopen(os.environ['COUNTER'] + '.json', 'a').write('x')\nMINE = 1\n")
    (folder / "script.py").write_text(f"{PROGRAM}\nimport json\nassert json.MINE == 1\n")
    run_command([sys.executable, "script.py"], folder)
    assert_logged_once_by_a_process(folder)
    assert "x" == Path(variables(folder)["COUNTER"] + ".json").read_text()


def test_a_json_module_that_the_user_has_imported_before_is_no_trap(folder):
    (folder / "json.py").write_text("MINE = 1\n")
    (folder / "script.py").write_text(f"import json\n{PROGRAM}\nimport json as again\nassert json is again\n")
    run_command([sys.executable, "script.py"], folder)
    assert_logged_once_by_a_process(folder)


@pytest.mark.parametrize("name", TRAPS)
def test_the_writer_never_imports_a_module_of_the_users(folder, name):
    """The program puts a folder first on its path that holds a module of the same name as one that the writer needs."""
    traps = folder / "traps"
    traps.mkdir()
    (traps / f"{name}.py").write_text("import os\nopen(os.environ['COUNTER'], 'a').write('trapped')\nraise SystemExit")
    code = PROGRAM.replace("exp = Experiment", f"sys.path.insert(0, {str(traps)!r}); exp = Experiment")
    (folder / "script.py").write_text(code)
    run_command([sys.executable, "script.py"], folder)
    assert_logged_once_by_a_process(folder)


NOTEBOOK = f"""
import os, signal
from jupyter_client.manager import KernelManager

def execute(code):
    reply = client.execute_interactive(code, timeout=60, stop_on_error=False, output_hook=lambda message: None)
    return reply["content"]["status"]

manager = KernelManager()
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
cells = {PROGRAM.replace("exp.run.complete()", "")!r}.split("\\n\\n")
print([execute(cell) for cell in cells if cell.strip()])
print(execute("raise ValueError('a cell that failed long ago is no reason for the end')"))
client.execute("import time; print('sleeps', flush=True); time.sleep(600)", stop_on_error=False)
while client.get_iopub_msg(timeout=60)["msg_type"] != "stream":
    pass
manager.interrupt_kernel()
client.get_shell_msg(timeout=60)
print(execute("exp.log('after the interruption'); assert exp.health()['writer_restarts'] == 0"))
{{end}}
client.stop_channels()
manager.shutdown_kernel(now={{now}})
manager.cleanup_resources()
"""


@pytest.mark.ecosystem
@pytest.mark.parametrize(
    ("end", "now", "expected"),
    [("print(execute('exp.run.complete()'))", False, "COMPLETED"), ("", False, "COMPLETED"), ("", True, "FAILED")],
    ids=["complete", "shut down", "killed"],
)
def test_a_notebook_logs_from_its_cells_through_errors_and_interruptions(folder, end, now, expected):
    (folder / "notebook.py").write_text(NOTEBOOK.replace("{end}", end).replace("{now}", str(now)))
    shown = run_command([sys.executable, "notebook.py"], folder).splitlines()
    assert {"ok"} == set(ast.literal_eval(shown[0]))
    assert ["error", "ok"] == shown[1:3]
    above = folder.parent
    wait_until(lambda: ending(above)[0] == expected, 30)
    assert [{"loss": 0.5, "step": 1}] == points(above)
    assert ["hello", "after the interruption"] == messages(above)
    report = ast.literal_eval((above / "report.txt").read_text())
    assert not report["writer_on_thread"]
    assert [str(report["pid"])] == (above / "counter.txt").read_text().split()
