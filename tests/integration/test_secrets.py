"""No secret that a program uses is in a byte of its run's folder, but where the user stored it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tomllib

import pytest

from ml_dash import Experiment, MLRun
from ml_dash.ipc import launch
from ml_dash.storage.reading import read_environment
from ml_dash.writer.log_mask import LogMask
from tests import secret_kinds
from tests.support import python_environment

PREFIX = "alice/walker/run-1"
KINDS = secret_kinds.make(random.Random())

TRAINER = f"""
import json, logging, os, sys, time
from ml_dash import Experiment

texts = json.load(open(os.environ["TEXTS"]))
exp = Experiment({PREFIX!r}, dash_root="runs", echo=False, capture_output=True).run.start()
logging.getLogger().addHandler(exp.logs.handler())
for text in texts:
    exp.log(f"using {{text}}")
    exp.log("metadata", value=text, nested={{"list": [text]}}, password=text.split()[-1])
    print("printed", text, flush=True)
    os.write(2, f"error {{text}}\\n".encode())
    try:
        raise RuntimeError(f"refused: {{text}}")
    except RuntimeError as error:
        logging.exception("failed with %s", error)
exp.log(chr(10).join(texts), level="error")
exp.params.set(stored=texts[0])
exp.files("notes").save_text(texts[1], to="note.txt")
exp.flush()
deadline = time.monotonic() + 30
while not exp.environment().get("complete"):
    assert time.monotonic() < deadline
    time.sleep(0.01)
with exp.run:
    raise RuntimeError("last: " + chr(10).join(texts))
"""


def git(folder, *arguments):
    identity = {"GIT_AUTHOR_NAME": "A", "GIT_COMMITTER_NAME": "A", "GIT_CONFIG_GLOBAL": os.devnull}
    identity |= {"GIT_AUTHOR_EMAIL": "a@example.com", "GIT_COMMITTER_EMAIL": "a@example.com"}
    subprocess.run(["git", *arguments], cwd=folder, env={**os.environ, **identity}, check=True)


@pytest.fixture
def project(tmp_path):
    """A repository with a secret of each kind in its uncommitted changes, and one in the path of its remote."""
    folder = tmp_path / "project"
    folder.mkdir()
    names = ["train.py", "token.txt", "passwords.json", "my_secrets.py", "gcp-key.json", "state.tfstate", "pip.conf"]
    names += [".docker/config.json", ".kube/config", ".bash_history", "secret/x.txt", "hf_token", ".vault_pass"]
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("first\n")
    (folder / ".gitignore").write_text("runs\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-f", ".")
    git(folder, "commit", "-q", "-m", "first")
    secret = KINDS["flag"][1]
    git(folder, "remote", "add", "origin", f"https://host/token/{secret}/x.git")
    for name in names[1:]:
        (folder / name).write_text(f"{secret}\n")
    texts = "".join(f"{text}\n" for text, _ in KINDS.values())
    (folder / "train.py").write_text(f"lr = 2\n{texts}")
    return folder


def run_trainer(project, tmp_path):
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps([text for text, _ in KINDS.values()]))
    shown = [text for kind, (text, _) in KINDS.items() if kind != "PEM"]
    variables = {
        "TEXTS": str(texts),
        "ML_DASH_RECORD_ENVIRONMENT": "1",
        "LD_PRELOAD": "",
        "XLA_FLAGS": KINDS["flag"][0],
    }
    variables |= {f"SECRET_{number}": text for number, text in enumerate(shown)}
    done = subprocess.run(
        [sys.executable, "-c", TRAINER, *shown, *KINDS["flag"][0].split(), *KINDS["bearer"][0].split()],
        cwd=project, env=python_environment(variables), check=False, stdin=subprocess.DEVNULL, timeout=120,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert "RuntimeError: last:" in done.stderr, done.stderr[-2000:]
    return project / "runs" / PREFIX


def test_no_secret_is_in_the_folder_of_a_run(project, tmp_path):
    run = run_trainer(project, tmp_path)
    users_own = {"parameters.json", "note.txt"}
    contents = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name not in users_own}
    found = {
        (kind, str(path.relative_to(run)))
        for kind, (_, secret) in KINDS.items()
        for path, content in contents.items()
        if secret.encode() in content or secret[:12].encode() in content
    }
    lines = [json.loads(line) for line in (run / "logs/logs.jsonl").read_bytes().splitlines()]
    diff = (run / "code.diff").read_text()
    environment = read_environment(str(run))

    assert set() == found
    assert len(lines) > 5 * len(KINDS)
    assert "using --password ***" in [line["message"] for line in lines]
    assert diff.startswith("# ml-dash masked secrets in ")
    assert environment["code"]["diff_masked"] == sum("***" in line for line in diff.split("\n")[1:])
    assert 12 == len(environment["code"]["diff_left_out"])
    assert "https://host/token/***/x.git" == environment["code"]["remote"]
    assert "FAILED" == json.loads((run / "experiment.json").read_bytes())["status"]
    assert KINDS["GitHub ghp"][0] in (run / "parameters.json").read_text(), "what the user stores is the user's own"
    assert [] == list((run).glob("quarantine/*"))


def test_the_reason_of_a_managed_run_is_masked_in_both_files(tmp_path):
    run = MLRun.create({"lr": 0.1}, tmp_path, "p", wandb_mode="disabled")
    with pytest.raises(RuntimeError), run:
        raise RuntimeError("401 https://bob:pw123456@host/api (Authorization: Bearer T123456)")

    expected = "RuntimeError: 401 https://***@host/api (Authorization: ***"
    folder = tmp_path / "p" / run.run_id
    assert expected == tomllib.loads((folder / "config.toml").read_text())["_meta"]["status_reason"]
    assert expected == json.loads((folder / "experiment.json").read_bytes())["status_reason"]
    assert [] == [path for path in tmp_path.rglob("*") if path.is_file() and b"123456" in path.read_bytes()]


@pytest.mark.parametrize("ending", ["fail", "cancel"])
def test_a_reason_that_the_user_gives_is_masked(tmp_path, ending):
    with Experiment(PREFIX, dash_root=tmp_path, echo=False).run as exp:
        getattr(exp.run, ending)("the token=abc123456 was refused")

    document = json.loads((tmp_path / PREFIX / "experiment.json").read_bytes())
    assert "the token=***" == document["status_reason"]


def test_a_log_line_that_is_set_aside_is_masked(tmp_path, monkeypatch):
    def refuse(self, record):
        raise ValueError(f"cannot mask {record.data.decode()}")

    monkeypatch.setattr(launch, "can_launch", lambda: False)
    monkeypatch.setattr(LogMask, "mask", refuse)
    with Experiment(PREFIX, dash_root=tmp_path, echo=False, record_environment=False).run as exp:
        exp.log("login with --password hunter2-hunter2")
        exp.flush()
        health = exp.health()

    kept = {path.suffix: path.read_text() for path in (tmp_path / PREFIX / "quarantine").iterdir()}
    assert '{"level":"info","message":"login with --password ***' in kept[".data"]
    assert "cannot mask" in kept[".json"]
    assert [] == [text for text in (*kept.values(), str(health["last_error"])) if "hunter2" in text]
