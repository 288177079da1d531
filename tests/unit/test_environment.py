"""What a run records of itself: what is masked, how git and the system are asked, and within which limits."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from ml_dash.provenance import code, machine, packages, process, programs, secrets
from ml_dash.provenance import git as git_module
from tests.support import run_python, wait_until

SECRET = "hunter2-hunter2"
TOKEN = "ghp_" + "a1B2" * 9


class TestSecrets:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--api-key=" + SECRET], ["--api-key=***"]),
            (["--token", SECRET, "--lr", "0.1"], ["--token", "***", "--lr", "0.1"]),
            (["--use-token", "--lr", "0.1"], ["--use-token", "--lr", "0.1"]),
            (["--db.password", "-" + SECRET], ["--db.password", "***"]),
            (["wandb.api_key=" + SECRET], ["wandb.api_key=***"]),
            (["+auth.clientSecret=two words " + SECRET], ["+auth.clientSecret=***"]),
            (["~HF_TOKEN=" + SECRET], ["~HF_TOKEN=***"]),
            (["login", TOKEN], ["login", "***"]),
            (["--x=" + TOKEN], ["--x=***"]),
            (["--header", f"Authorization: Bearer {SECRET}"], ["--header", "Authorization: ***"]),
            (["--config", f'{{"lr": 1, "password": "{SECRET}"}}'], ["--config", '{"lr": 1, "password": ***}']),
            (["-c", f"api_key='{SECRET}'; main()"], ["-c", "api_key=***"]),
            (["-c", f"n = 1; api_key = '{SECRET}'; main()"], ["-c", "n = 1; api_key = ***; main()"]),
            ([f"a:b,token:{SECRET},c:d"], ["a:b,token:***"]),
            ([f"--cfg=db.password=a,{SECRET}"], ["--cfg=db.password=***"]),
            (["--c", f'{{"password": "a\\"{SECRET}"}}'], ["--c", '{"password": ***}']),
            (["--c", f'{{"password":["{SECRET}"]}}'], ["--c", '{"password":***']),
            (["--c", f"{{'token': {{'value': '{SECRET}'}}}}"], ["--c", "{'token': ***"]),
            (["--c", f"password='a' '{SECRET}'"], ["--c", "password=***"]),
            (["--tokens", SECRET, SECRET, "--lr", "1"], ["--tokens", "***", "***", "--lr", "1"]),
            (["--passwords", SECRET], ["--passwords", "***"]),
            (["--openai_key", SECRET], ["--openai_key", "***"]),
            (["password:", SECRET], ["password:", "***"]),
            ([f"--creds={SECRET}"], ["--creds=***"]),
            ([f"--key={SECRET.replace('-', '')}1234567890"], ["--key=***"]),
            (["-H", f"Authorization: Custom {SECRET}"], ["-H", "Authorization: ***"]),
            ([f"password: a b {SECRET}"], ["password: ***"]),
            ([f"https://host/x?a=1&X-Amz-Signature={SECRET}&b=2"], ["https://host/x?a=1&X-Amz-Signature=***&b=2"]),
            ([f"https://host/x?sig={SECRET}&b=2"], ["https://host/x?sig=***&b=2"]),
            (["-c", f'os.environ["API_TOKEN"] = "{SECRET}"'], ["-c", 'os.environ["API_TOKEN"] = ***']),
            (["-c", f"os.environ.setdefault('TOKEN', '{SECRET}')"], ["-c", "os.environ.setdefault('TOKEN', ***)"]),
            ([f"postgres://me:a/{SECRET}@host/db"], ["postgres://***@host/db"]),
            ([f"--url=http://me:1/{SECRET}@host/db next"], ["--url=http://***@host/db next"]),
            ([f"http://me:a#{SECRET}?@host/db"], ["http://***@host/db"]),
            ([f"https://proxy/?to=https://me:{SECRET}@host/"], ["https://proxy/?to=https://***@host/"]),
            ([f"--data=https://me:{SECRET}@host/x"], ["--data=https://***@host/x"]),
            ([f"https://host/x?access_token={SECRET}&page=2"], ["https://host/x?access_token=***&page=2"]),
            ([f"postgres://me:{SECRET}@host/db"], ["postgres://***@host/db"]),
        ],
    )
    def test_what_is_masked(self, arguments, expected):
        assert expected == secrets.mask_arguments(arguments)

    @pytest.mark.parametrize(
        "argument",
        [
            *("--tokenizer=gpt2", "--max_tokens=100", "--token-limit=3", "--key=value", "--keys=a,b", "--monkey=1"),
            *(
                "--tokens=1_000",
                "--num-tokens=2.5e9",
                "n_tokens: 100B",
                "--special-tokens=<pad>",
                "https://host:80/x@v2",
            ),
            *("signature=a", "--sig=0.5", "--obs-key=pixels", "('image_key', 'a')"),
            *("--password-file=/run/x", "--author=me", "--pass-rate=0.5", "task-with-a-very-long-name-indeed"),
            *(
                "data@v2",
                "me@example.com",
                "",
                "=",
                "=x",
                "--",
                "model=a=b",
                "https://host/x",
                "key" * 50_000,
                "a.token-" * 20_000,
            ),
        ],
    )
    def test_what_is_not(self, argument):
        assert [argument, "after"] == secrets.mask_arguments([argument, "after"])

    @pytest.mark.parametrize(
        ("address", "expected"),
        [
            (f"https://user:{SECRET}@host/x.git", "https://host/x.git"),
            (f"https://{TOKEN}@github.com/me/x.git", "https://github.com/me/x.git"),
            (f"https://user:{SECRET}@host:8443/x.git", "https://host:8443/x.git"),
            (f"https://user:a/{SECRET}@host/x.git", "https://host/x.git"),
            (f"https://user:{SECRET}@me@host/x.git", "https://host/x.git"),
            (f"https://user:pa#{SECRET}@host/x.git", "https://host/x.git"),
            (f"https://user:{SECRET}#a?b@host/x.git", "https://host/x.git"),
            (f"https://user:12/{SECRET}@host/x.git", "https://host/x.git"),
            (f"https://user:12?{SECRET}@host/x.git?q", "https://host/x.git"),
            (f"https://user:a@b/{SECRET}@host/x.git", "https://host/x.git"),
            (f"https://user:{SECRET}", "https://user:***"),
            (f"//user:{SECRET}@host/x.git", "***@host/x.git"),
            (f"https://me:{SECRET}@host/x@v2.git", "https://host/x@v2.git"),
            ("https://[::1]/x.git", "https://[::1]/x.git"),
            (f"http://host/x.git?token={SECRET}#{SECRET}", "http://host/x.git"),
            ("https://host/x@v2.git", "https://host/x@v2.git"),
            ("https://host:8443/x@v2.git", "https://host:8443/x@v2.git"),
            ("git@github.com:me/x.git", "git@github.com:me/x.git"),
            (f"git:{SECRET}@host:me/x.git", "git@host:me/x.git"),
            (f"{TOKEN}@host:me/x.git", "***@host:me/x.git"),
            ("ssh://git@host:22/x.git", "ssh://git@host:22/x.git"),
            (f"ssh://git:{SECRET}@host/x.git", "ssh://git@host/x.git"),
            (f"codecommit::https://me:{SECRET}@host/x", "codecommit::https://host/x"),
            (f"ext::sh -c 'curl {SECRET}'", "ext::***"),
            ("/srv/git/x.git", "/srv/git/x.git"),
            ("../x.git", "../x.git"),
            ("file:///srv/x.git", "file:///srv/x.git"),
        ],
    )
    def test_an_address_keeps_no_credentials(self, address, expected):
        assert expected == secrets.clean_address(address)


class TestProcess:
    def test_the_named_variables_and_no_other(self):
        environ = {
            "CUDA_VISIBLE_DEVICES": "0,1",
            "SLURM_JOB_ID": "12",
            "SLURM_JWT": SECRET,
            "RANK": "3",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "HOME": "/root",
        }

        assert {
            "variables": {"CUDA_VISIBLE_DEVICES": "0,1"},
            "slurm": {"SLURM_JOB_ID": "12"},
            "distributed": {"RANK": "3"},
        } == process.pick(environ)
        assert {} == process.pick({"WANDB_API_KEY": SECRET})

    def test_no_named_variable_is_one_for_secrets(self):
        names = [name for group in process.GROUPS.values() for name in group]

        assert [] == [name for name in names if secrets.is_secret_name(name)]
        assert len(names) == len(set(names))

    def test_a_long_value_is_cut_and_says_so(self):
        picked = process.pick({"XLA_FLAGS": "x" * 5_000, "LD_PRELOAD": f"https://me:{SECRET}@host"})["variables"]

        assert "x" * 1_000 + "... (4000 more characters)" == picked["XLA_FLAGS"]
        assert "https://***@host" == picked["LD_PRELOAD"]

    def test_a_long_command_line_is_cut_and_says_so(self, monkeypatch):
        monkeypatch.setattr("sys.argv", [Path("train.py"), "x" * 5_000, *map(str, range(1_000))])
        argv = process.observe("/project/train.py")["process"]["argv"]

        assert ["train.py", "x" * 1_000 + "... (4000 more characters)", "0"] == argv[:3]
        assert (501, "... (502 more arguments)") == (len(argv), argv[-1])

    def test_what_cannot_be_told_is_noted(self, tmp_path):
        printed = run_python(
            """
import os, sys, json
os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
sys.argv = None
from ml_dash.provenance.process import observe
told = observe(None)
print(sorted(told["process"]), [problem.split(":")[0] for problem in told["problems"]])
""",
            tmp_path,
        )

        assert ["['command', 'pid'] ['process.argv', 'process.cwd', 'process.entry']"] == printed.splitlines()


class TestMachine:
    def test_this_one(self):
        system, who, python = machine.system_facts(), machine.who(), machine.python_facts()

        assert os.cpu_count() == system["cpu_count"]
        assert 1 <= system["cpus_usable"] <= system["cpu_count"]
        assert system["memory_bytes"] > 2**28
        assert who["host"]
        assert python["version"] == python["build"].split()[0].rstrip("+")

    def test_gpus_as_the_driver_lists_them(self, tmp_path):
        card = tmp_path / "gpus/0000:0f:00.0"
        card.mkdir(parents=True)
        (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar 5\n")
        (card / "information").write_text(
            "Model: \t\t NVIDIA H200\nIRQ:   \t\t 16\nGPU UUID: \t GPU-1234\nBus Location: \t 0000:0f:00.0\n"
        )

        assert {
            "driver": "550.54.15",
            "cards": [{"name": "NVIDIA H200", "uuid": "GPU-1234", "bus": "0000:0f:00.0"}],
        } == machine.gpus(str(tmp_path))
        assert {} == machine.gpus(str(tmp_path / "none"))

    @pytest.mark.parametrize(
        ("files", "expected"),
        [
            ({}, {}),
            (
                {".dockerenv": "", "proc/self/mountinfo": f"1 2 /var/lib/docker/containers/{'ab' * 32}/hosts /etc\n"},
                {"kind": "docker", "id": "ab" * 32},
            ),
            ({"run/.containerenv": ""}, {"kind": "podman"}),
            (
                {
                    "var/run/secrets/kubernetes.io/serviceaccount/namespace": "research",
                    "var/run/secrets/kubernetes.io/serviceaccount/token": SECRET,
                },
                {"kind": "kubernetes", "namespace": "research"},
            ),
        ],
    )
    def test_the_container(self, tmp_path, monkeypatch, files, expected):
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)

        assert expected == machine.container(str(tmp_path))


def test_packages_by_the_names_of_their_folders(tmp_path, monkeypatch):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (
        *(first / "numpy-2.1.0.dist-info", first / "Params_Proto-3.3.0.dist-info", first / "linked.egg-info"),
        *(
            second / "numpy-1.0.dist-info",
            second / "old-1.2-py3.11.egg-info",
            second / "numpy",
            second / "odd.egg-info",
        ),
    ):
        folder.mkdir(parents=True)
    (first / "linked.egg-info/PKG-INFO").write_text("Metadata-Version: 2.1\nName: linked\nVersion: 0.3\n")
    paths = [str(first), str(tmp_path / "none"), str(second)]
    expected = {"linked": "0.3", "numpy": "2.1.0", "old": "1.2", "params-proto": "3.3.0"}

    assert (expected, 0) == packages.installed(paths)
    monkeypatch.setattr(packages, "MOST_PACKAGES", 1)
    assert ({"linked": "0.3"}, 3) == packages.installed(paths)


SETTINGS = {
    "prefix": {"diff.noprefix": "true"},
    "mnemonic": {"diff.mnemonicPrefix": "true"},
    "context": {"diff.context": "0", "diff.interHunkContext": "9"},
    "color": {"color.ui": "always", "color.diff": "always"},
    "order": {"diff.orderFile": "missing"},
    "renames": {"diff.renames": "copies", "status.renames": "copies"},
    "relative": {"diff.relative": "true", "diff.submodule": "diff"},
    "words": {"diff.wordRegex": ".", "diff.wsErrorHighlight": "all", "diff.suppressBlankEmpty": "true"},
    "pathspecs": {"GIT_LITERAL_PATHSPECS": "1"},
    "options": {"GIT_DIFF_OPTS": "-u0", "GIT_TRACE": "2", "GIT_EXTERNAL_DIFF": "false", "GIT_TRACE2": "2"},
}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one commit, whatever the machine's git is set to."""
    for name, value in {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CEILING_DIRECTORIES": str(tmp_path),
        **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "A"),
        **dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "a@example.com"),
    }.items():
        monkeypatch.setenv(name, value)
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    (root / "train.py").write_text("lr = 1\n")
    (root / ".env").write_text("A=1\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


def git(folder, *arguments):
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


class TestCode:
    def test_a_clean_repository(self, repository):
        found = code.describe_code([str(repository)])

        assert (git(repository, "rev-parse", "HEAD"), "main", str(repository)) == tuple(
            found.facts[key] for key in ("commit", "branch", "root")
        )
        assert (False, 0, [], b"", []) == (
            found.facts["dirty"], found.facts["untracked_count"], found.facts["untracked"], found.diff, found.problems,
        )  # fmt: skip
        assert "remote" not in found.facts

    def test_what_differs_from_the_commit(self, repository):
        (repository / "train.py").write_text("lr = 2\n")
        (repository / ".env").write_text(f"A={SECRET}\n")
        (repository / "zwölf.txt").write_text(SECRET)
        folder = repository / "deep/er"
        folder.mkdir(parents=True)
        found = code.describe_code([str(folder)])

        assert (True, 2, 1, ["zwölf.txt"]) == tuple(
            found.facts[key] for key in ("dirty", "changed_count", "untracked_count", "untracked")
        )
        assert b"-lr = 1\n+lr = 2\n" in found.diff
        assert SECRET.encode() not in found.diff

    def test_staged_changes_and_renames(self, repository):
        git(repository, "mv", "train.py", "run.py")
        (repository / "new.py").write_text("x = 1\n")
        git(repository, "add", ".")
        found = code.describe_code([str(repository)])

        assert (2, 0) == (found.facts["changed_count"], found.facts["untracked_count"])
        assert b"+++ b/run.py" in found.diff
        assert b"+x = 1" in found.diff

    def test_before_the_first_commit_and_off_every_branch(self, repository):
        git(repository, "checkout", "-q", "--orphan", "fresh")
        orphan = code.describe_code([str(repository)])
        git(repository, "checkout", "-q", "-f", "main")
        git(repository, "checkout", "-q", "--detach")
        detached = code.describe_code([str(repository)])

        assert (None, "fresh", True) == tuple(orphan.facts[key] for key in ("commit", "branch", "dirty"))
        assert b"+lr = 1" in orphan.diff
        assert (40, None) == (len(detached.facts["commit"]), detached.facts["branch"])

    @pytest.mark.parametrize(
        ("remotes", "expected"),
        [
            ({"origin": f"https://me:{SECRET}@host/x.git"}, "https://host/x.git"),
            ({"a": "git@host:a.git", "origin": "git@host:x.git"}, "git@host:x.git"),
            ({"fork": "/srv/x.git"}, "/srv/x.git"),
        ],
    )
    def test_the_remote_without_credentials(self, repository, remotes, expected):
        for name, address in remotes.items():
            git(repository, "remote", "add", name, address)

        assert expected == code.describe_code([str(repository)]).facts["remote"]

    def test_a_large_difference_is_cut_and_says_so(self, repository):
        (repository / "train.py").write_text("".join(f"line {i}\n" for i in range(100_000)))
        found = code.describe_code([str(repository)])

        assert found.facts["diff_truncated"]
        assert len(found.diff) < code.DIFF_LIMIT + 100
        assert found.diff.endswith(b"cut here: the difference is larger than 262144 bytes\n")

    def test_many_untracked_files_are_counted_and_some_named(self, repository):
        for number in range(150):
            (repository / f"{number:03d}.txt").touch()
        facts = code.describe_code([str(repository)]).facts

        assert (150, code.MOST_NAMES, "000.txt") == (
            facts["untracked_count"], len(facts["untracked"]), facts["untracked"][0],
        )  # fmt: skip

    def test_the_first_folder_in_a_repository_counts(self, repository, tmp_path):
        (tmp_path / "plain").mkdir()
        folders = [str(tmp_path / "none"), str(tmp_path / "plain"), str(repository)]

        assert str(repository) == code.describe_code(folders).facts["root"]

    def test_no_repository(self, repository, tmp_path):
        found = code.describe_code([str(tmp_path)])

        assert ({}, b"", []) == (found.facts, found.diff, found.problems)

    @pytest.mark.parametrize("filters", [["filter.a.trap.clean", "filter.a.trap.smudge"], ["filter.a.trap.process"]])
    def test_nothing_that_a_repository_names_is_run(self, repository, tmp_path, filters):
        """A hook of the file system monitor, a converter, a filter and an external diff would all leave a file."""
        trap = tmp_path / "trap"
        trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/caught\n")
        trap.chmod(0o755)
        for key in ("core.fsmonitor", "diff.external", "diff.trap.textconv", "core.pager", *filters):
            git(repository, "config", key, str(trap))
        git(repository, "config", "filter.a.trap.required", "true")
        (repository / ".gitattributes").write_text("*.py diff=trap filter=a.trap\n")
        (repository / "train.py").write_text("lr = 2\n")
        index = (repository / ".git/index").stat()
        found = code.describe_code([str(repository)])

        assert b"+lr = 2" in found.diff
        assert not (tmp_path / "caught").exists()
        assert (index.st_mtime_ns, index.st_ino) == (
            (repository / ".git/index").stat().st_mtime_ns, (repository / ".git/index").stat().st_ino,
        )  # fmt: skip

    def test_filters_that_cannot_be_switched_off_are_not_met(self, repository, tmp_path):
        git(repository, "config", "filter.a=b.clean", f"touch {tmp_path}/caught")
        (repository / ".gitattributes").write_text("*.py filter=a=b\n")
        (repository / "train.py").write_text("lr = 2\n")
        found = code.describe_code([str(repository)])

        assert [
            "code: the configured filters cannot be switched off; changed files were not asked for"
        ] == found.problems
        assert (40, "main") == (len(found.facts["commit"]), found.facts["branch"])
        assert not (tmp_path / "caught").exists()

    def test_files_for_secrets_are_left_out_by_both_names(self, repository):
        names = ["prod.env", "deep/.env.local", "My.PEM", "id_rsa", "Credentials.json", "secrets.yaml"]
        for name in names:
            (repository / name).parent.mkdir(exist_ok=True)
            (repository / name).write_text("first\n")
        git(repository, "add", "-f", ".")
        git(repository, "commit", "-q", "-m", "second")
        for name in (*names, ".env"):
            (repository / name).write_text(f"{SECRET}\n")
        git(repository, "mv", ".env", "re[n]amed*.txt")
        git(repository, "mv", "train.py", "new.py")
        found = code.describe_code([str(repository)])

        assert sorted([*names, ".env", "re[n]amed*.txt"]) == found.facts["diff_left_out"]
        assert SECRET.encode() not in found.diff
        assert b"+++ b/new.py" in found.diff

    @pytest.mark.parametrize(
        "name",
        [
            *(".docker/config.json", "a/.dockercfg", ".kube/config", "gcp-key.json", "firebase-adminsdk-x1.json"),
            *("x.tfstate", "password.txt", "passwords.txt", "token.txt", "tokens.yaml", "hf_token", "api_key.txt"),
            *(".vault_pass", ".my.cnf", "pip.conf", "auth.json", ".bash_history", "my_secrets.py", "secret/x.py"),
        ],
    )
    def test_a_file_for_secrets(self, name):
        assert code.is_for_secrets(name)

    @pytest.mark.parametrize(
        "name", ["token.py", "tokenizer.json", "docker/config.json", "config", "auth.py", "password.py", "keys.py"]
    )
    def test_a_file_for_something_else(self, name):
        assert not code.is_for_secrets(name)

    def test_a_folder_for_secrets_is_left_out_and_one_that_was_renamed(self, repository):
        for name in ("secrets/a.txt", "secret/b.txt", ".env"):
            (repository / name).parent.mkdir(exist_ok=True)
            (repository / name).write_text(f"{name * 20}\n{SECRET}\n")
        git(repository, "add", "-f", ".")
        git(repository, "commit", "-q", "-m", "second")
        (repository / "secrets/a.txt").write_text(f"{SECRET}\n")
        git(repository, "mv", "secret/b.txt", "plain.txt")
        git(repository, "rm", "-q", ".env")
        found = code.describe_code([str(repository)])

        assert [".env", "plain.txt", "secrets/a.txt"] == found.facts["diff_left_out"]
        assert SECRET.encode() not in found.diff

    def test_secrets_in_a_difference_are_masked_and_it_says_so(self, repository):
        (repository / "train.py").write_text("lr = 2\ndb_password = 'hunter2-hunter2'\n")
        found = code.describe_code([str(repository)])
        first, _, rest = found.diff.decode().partition("\n")

        assert "+lr = 2\n+db_password = ***\n" in rest
        assert first.startswith("# ml-dash masked secrets in 1 lines of this difference: they have *** in their place.")
        assert 1 == found.facts["diff_masked"]

    def test_a_secret_at_the_end_of_what_is_kept_is_masked(self, repository, monkeypatch):
        monkeypatch.setattr(code, "DIFF_LIMIT", 300)
        (repository / "train.py").write_text(f"lr = 2\n{'x' * 120}\n{TOKEN}\n{TOKEN}\n{TOKEN}\n")
        found = code.describe_code([str(repository)])

        assert TOKEN[:8].encode() not in found.diff
        assert found.facts["diff_truncated"]

    @pytest.mark.parametrize("setting", [None, *SETTINGS])
    def test_the_difference_can_be_applied_whatever_is_configured(self, repository, monkeypatch, setting):
        """What the user's git shows differently, and variables of an environment that change what it says."""
        (repository / "lines.txt").write_text("".join(f"{n}\n" for n in range(30)))
        (repository / "gone.txt").write_text("x\n")
        git(repository, "add", ".")
        git(repository, "commit", "-q", "-m", "second")
        wanted = {"lines.txt": "".join(f"{n * (n != 9)}\n" for n in range(30)), "zwölf drei.txt": "new\n"}
        for name, text in wanted.items():
            (repository / name).write_text(text)
        (repository / "gone.txt").unlink()
        git(repository, "add", "-A")
        for key, value in SETTINGS.get(setting, {}).items():
            if key.startswith("GIT_"):
                monkeypatch.setenv(key, value)
            else:
                git(repository, "config", key, value)
        found = code.describe_code([str(repository)])
        for key in (key for values in SETTINGS.values() for key in values if key.startswith("GIT_")):
            monkeypatch.delenv(key, raising=False)
        git(repository, "reset", "-q", "--hard")
        subprocess.run(["git", "apply"], cwd=repository, input=found.diff, check=True)

        assert ([], 3) == (found.problems, found.facts["changed_count"])
        assert wanted == {name: (repository / name).read_text() for name in wanted}
        assert not (repository / "gone.txt").exists()

    def test_a_submodule_with_changed_files(self, repository, tmp_path):
        inner = tmp_path / "inner"
        git(tmp_path, "clone", "-q", str(repository), str(inner))
        git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(inner), "deep/sub")
        git(repository, "commit", "-q", "-m", "second")
        clean = code.describe_code([str(repository)])
        sub = repository / "deep/sub"
        git(sub, "config", "filter.trap.clean", f"touch {tmp_path}/caught; cat")
        (repository / ".git/modules/deep/sub/info").mkdir(exist_ok=True)
        (repository / ".git/modules/deep/sub/info/attributes").write_text("*.py filter=trap\n")
        (sub / "train.py").write_text("lr = 3\n")
        changed = code.describe_code([str(repository)])

        assert (False, None) == (clean.facts["dirty"], clean.facts.get("changed_submodules"))
        assert (True, ["deep/sub"]) == (changed.facts["dirty"], changed.facts["changed_submodules"])
        assert ([], []) == (clean.problems, changed.problems)
        assert not (tmp_path / "caught").exists()

    def test_variables_that_name_a_repository(self, repository, tmp_path, monkeypatch):
        """Both of them name one; the one alone that a hook of git gets does not."""
        monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
        alone = code.describe_code([str(tmp_path)])
        monkeypatch.setenv("GIT_WORK_TREE", str(repository))
        both = code.describe_code([str(tmp_path)])

        assert {} == alone.facts
        assert str(repository) == both.facts["root"]

    @pytest.mark.parametrize("path", ["", ".", "relative"])
    def test_git_is_missing(self, repository, monkeypatch, path):
        """A program of that name in the current folder is not git."""
        shutil.copy("/bin/true", repository / "git")
        monkeypatch.chdir(repository)
        monkeypatch.setenv("PATH", path)

        assert ["code: git is not installed, or not on PATH"] == code.describe_code([str(repository)]).problems

    def test_git_hangs(self, repository, tmp_path, monkeypatch):
        fake_git(tmp_path, monkeypatch, "sleep 600 & echo $! > {folder}/pid; wait")
        monkeypatch.setattr(git_module, "COMMAND_SECONDS", 0.5)
        found = code.describe_code([str(repository)])

        assert ["code: git rev-parse gave no answer in time; what else is here is what it said"] == found.problems
        wait_until(lambda: not running(int((tmp_path / "pid").read_text())))  # its killer does not wait for it

    def test_what_git_said_is_kept_when_one_question_has_no_answer(self, repository, tmp_path, monkeypatch):
        git(repository, "remote", "add", "origin", "/srv/x.git")
        (repository / "train.py").write_text("lr = 2\n")
        real = shutil.which("git")
        fake_git(tmp_path, monkeypatch, f'case "$*" in *" status "*) exec sleep 600;; esac; exec {real} "$@"')
        monkeypatch.setattr(git_module, "COMMAND_SECONDS", 0.5)
        found = code.describe_code([str(repository)])

        assert ["code: git status gave no answer in time; what else is here is what it said"] == found.problems
        assert (40, "main", "/srv/x.git", True) == (
            len(found.facts["commit"]), found.facts["branch"], found.facts["remote"], found.facts["dirty"],
        )  # fmt: skip
        assert b"+lr = 2" in found.diff

    def test_git_hangs_and_nobody_wants_the_answer(self, repository, tmp_path, monkeypatch):
        fake_git(tmp_path, monkeypatch, "sleep 600")
        found = code.describe_code([str(repository)], is_wanted=lambda: False)

        assert 1 == len(found.problems)

    def test_git_fails(self, repository, tmp_path, monkeypatch):
        fake_git(tmp_path, monkeypatch, "echo 'fatal: detected dubious ownership' >&2; exit 128")
        found = code.describe_code([str(repository)])

        assert ["code: git rev-parse: status 128: fatal: detected dubious ownership"] == found.problems


def fake_git(folder, monkeypatch, script):
    place = folder / "bin"
    place.mkdir()
    (place / "git").write_text("#!/bin/sh\n" + script.format(folder=folder) + "\n")
    (place / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}{os.pathsep}{os.environ['PATH']}")


def running(pid):
    try:
        return "Z" != Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_a_program_that_says_too_much_is_stopped(tmp_path):
    answer = programs.ask(
        ["/bin/sh", "-c", "yes"], str(tmp_path), {"PATH": "/usr/bin:/bin"},
        limit=1_000, deadline=time.monotonic() + 60, is_wanted=lambda: True,
    )  # fmt: skip

    assert (0, b"y\n" * 500, True) == (answer.status, answer.output, answer.truncated)


def test_what_a_program_says_in_error_is_kept_in_part(tmp_path):
    answer = programs.ask(
        ["/bin/sh", "-c", "yes | head -c 1000000 >&2; exit 3"], str(tmp_path), {"PATH": "/usr/bin:/bin"},
        limit=1_000, deadline=time.monotonic() + 60, is_wanted=lambda: True,
    )  # fmt: skip

    assert (3, b"", False) == (answer.status, answer.output, answer.truncated)
    assert 4_096 <= len(answer.error) < 100_000
