"""Describe the code of a run: the commit, the branch, the remote, and the difference from the commit, as git has them."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ml_dash.provenance.git import OUTPUT_LIMIT, Git
from ml_dash.provenance.secrets import clean_address, mask_diff

if TYPE_CHECKING:
    import re

DIFF_LIMIT = 256 * 1024
"""Bytes of the difference that are kept: enough for written code, not for a notebook full of pictures."""

_BEYOND = 16 * 1024
"""Bytes behind the limit that are read to know a secret that is cut there."""

_MASKED = (
    b"# ml-dash masked secrets in %d lines of this difference: they have *** in their place. Applied with git, it writes "
    b"***, or is refused.\n"
)

MOST_NAMES = 100
"""Names listed of untracked files and of files for secrets."""

MOST_EXCLUDED = 1_000
"""Names that are excluded from the difference: each takes space on git's command line."""

MOST_SUBMODULES = 20
"""Submodules that are checked, with those of submodules: each takes two commands."""

_TEXT_ENDINGS = (
    "",
    ".txt",
    ".json",
    ".y*ml",
    ".toml",
    ".ini",
    ".cfg",
    ".conf",
    ".csv",
    ".dat",
    ".xml",
    ".pickle",
    ".pkl",
)
_NAMES_OF_SECRETS = (
    *("password", "passwords", "passwd", "token", "tokens", "api_key", "api_keys", "api-key", "apikey", "apikeys"),
    *(
        "*_token",
        "*-token",
        "*_api_key",
        "*_password",
        "*_passwords",
        "auth",
        "pwd",
        "pass",
        "access_key",
        "private_key",
    ),
)

SECRET_FILES = (
    *("*.env", "*.env.*", ".envrc", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.ppk", "*.kdbx"),
    *("*.kdb", "*.asc", "*.gpg", "*.age", "*.p8", "*.ovpn", "*.agekey"),
    *(
        "id_rsa*",
        "id_dsa*",
        "id_ecdsa*",
        "id_ed25519*",
        ".netrc",
        "_netrc",
        ".authinfo",
        ".pypirc",
        ".npmrc",
        ".yarnrc*",
    ),
    *(".pgpass", "pgpass.conf", ".htpasswd", ".my.cnf", ".mylogin.cnf", "pip.conf", "pip.ini", ".s3cfg", ".boto"),
    *(".condarc", ".vault_pass*", ".vault-token", "vault_pass*", "*.vault", ".terraformrc", "terraform.rc"),
    *(".git-credentials", "credentials", "credentials.*", "secret", "secret.*", "secrets", "secrets.*", "kubeconfig*"),
    *("*[_-]secret", "*[_-]secret.*", "*[_-]secrets", "*[_-]secrets.*"),
    *("*secret*.json", "*secret*.y*ml", "*secret*.toml", "*credential*.json", "*credential*.y*ml", "*credential*.toml"),
    *("*service*account*.json", "*adminsdk*.json", "gcp*key*.json", "*gcloud*key*.json", "client_secret*"),
    *("*.tfvars", "*.tfvars.json", "*.tfstate", "*.tfstate.*", ".dockercfg", ".dockerconfigjson"),
    *(".docker/config.json", ".kube/config", ".ssh", ".gnupg", ".aws", ".azure", ".kaggle", "kaggle.json"),
    *(".bash_history", ".zsh_history", ".python_history", ".psql_history", ".mysql_history", ".sh_history", ".history"),
    *(f"{name}{ending}" for name in _NAMES_OF_SECRETS for ending in _TEXT_ENDINGS),
)
"""Patterns, in lower case, of files for secrets, whose changes are left out of the difference."""

# So that `git apply` takes the difference, whatever the user's configuration.
_DIFF = (
    *("--no-color", "--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty", "--submodule=short"),
    *("--src-prefix=a/", "--dst-prefix=b/", "--unified=3", "--inter-hunk-context=0"),
)
_STATUS = ("--porcelain=v2", "--branch", "-z", "--no-ahead-behind", "--find-renames", "--ignore-submodules=dirty")
_NO_REPOSITORY = b"not a git repository"


@dataclass
class Code:
    """A description of the code.

    Attributes:
        facts: ``commit``, ``branch``, ``remote``, ``root``, ``dirty`` and more; empty outside a repository.
        diff: the difference from the commit, at most ``DIFF_LIMIT`` bytes; the last line says if it was cut.
        problems: which facts are missing, and why.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    diff: bytes = b""
    problems: list[str] = field(default_factory=list)


def describe_code(folders: list[str], is_wanted: Callable[[], bool] = lambda: True) -> Code:
    """Describe the repository of the first of some folders that is in one. Raises nothing that git can cause.

    Args:
        folders: absolute paths, such as that of the script and the current one.
        is_wanted: whether the answer is still wanted.
    """
    import shutil

    program = shutil.which("git")
    if program is None or not os.path.isabs(program):  # a relative one is a file in the current folder
        return Code(problems=["code: git is not installed, or not on PATH"])
    git = Git(program, is_wanted)
    code = Code(problems=git.problems)
    root = _root(git, folders)
    if root is not None:
        code.facts["root"] = root
        _Repository(git, root, code).describe()
    return code


def _root(git: Git, folders: list[str]) -> str | None:
    """Return the root of the repository of the first folder that is in one."""
    for folder in filter(os.path.isdir, dict.fromkeys(folders)):
        answer = git.say(folder, "rev-parse", "--show-toplevel")
        if answer is None:
            return None
        if answer.status == 0:
            return os.fsdecode(answer.output).rstrip("\n")
        if _NO_REPOSITORY not in answer.error:
            git.note("rev-parse", answer)
    return None


class _Repository:
    """Collects the facts of one repository. Quick commands run first: their facts are kept if the others get no answer."""

    def __init__(self, git: Git, root: str, code: Code) -> None:
        self._git = git
        self._root = root
        self._code = code
        self._facts = code.facts

    def describe(self) -> None:
        self._ask_head()
        self._ask_remote()
        options = self._git.options_without_filters(self._root)
        if options is not None:
            self._ask_status(options)
            if self._facts.get("dirty", True):
                self._ask_difference(options)
        self._git.forget_repository()
        changed = list(_changed_submodules(self._git, self._root))
        if changed:
            self._facts |= {"dirty": True, "changed_submodules": changed}

    def _ask_head(self) -> None:
        commit = self._git.say(self._root, "rev-parse", "--quiet", "--verify", "HEAD")
        if commit is not None:
            self._facts["commit"] = commit.output.decode("ascii", "replace").strip() if commit.status == 0 else None
        branch = self._git.say(self._root, "symbolic-ref", "--quiet", "HEAD")
        if branch is not None:
            name = os.fsdecode(branch.output).rstrip("\n").removeprefix("refs/heads/")
            self._facts["branch"] = name if branch.status == 0 else None

    def _ask_remote(self) -> None:
        pattern = r"^(remote\..*\.url|branch\..*\.remote)$"
        answer = self._git.say(self._root, "config", "-z", "--get-regexp", pattern)
        if answer is None or answer.status != 0:  # also without a remote
            return
        pairs = (entry.partition("\n")[::2] for entry in os.fsdecode(answer.output).split("\0") if entry)
        settings = dict(pairs)
        remotes = {key[len("remote.") : -len(".url")]: value for key, value in settings.items() if key.endswith(".url")}
        upstream = settings.get(f"branch.{self._facts.get('branch')}.remote", "")
        chosen = next((name for name in (upstream, "origin", *remotes) if name in remotes), None)
        if chosen is not None:
            self._facts["remote"] = clean_address(remotes[chosen])

    def _ask_status(self, options: tuple[str, ...]) -> None:
        answer = self._git.expect(self._root, "status", *_STATUS, "--untracked-files=normal", options=options)
        if answer is None:
            return
        self._facts |= read_status(os.fsdecode(answer.output))
        if answer.truncated:
            self._code.problems.append(f"code: more than {OUTPUT_LIMIT} bytes of changed files; the counts are too low")

    def _ask_difference(self, options: tuple[str, ...]) -> None:
        if "commit" not in self._facts:
            return
        against = "HEAD" if self._facts["commit"] else "--cached"
        names = self._names_left_out(options)
        if names is None:
            return
        secret, excluded_names = names
        excluded = [f":(exclude,top,literal){name}" for name in excluded_names]
        arguments = (against, "--no-renames", "--patch", *_DIFF, "--", ":/", *excluded)
        answer = self._git.expect(self._root, "diff", *arguments, options=options, limit=DIFF_LIMIT + _BEYOND)
        if answer is None:
            return
        if secret:
            self._facts["diff_left_out"] = secret[:MOST_NAMES]
        if answer.output or secret:
            self._facts["dirty"] = True  # also where the status got no answer
        self._facts["diff_truncated"] = len(answer.output) > DIFF_LIMIT
        self._code.diff, places = masked_diff(answer.output)
        if places:
            self._facts["diff_masked"] = places

    def _names_left_out(self, options: tuple[str, ...]) -> tuple[list[str], list[str]] | None:
        """Return the changed files for secrets, and all their present and earlier names; None if unknown.

        A renamed file counts by both names. A small one that was changed afterwards is no longer similar. So the index is
        compared as well, which has it as it was when it was renamed.
        """
        sides = [("--cached", "HEAD"), ("HEAD",)] if self._facts["commit"] else [("--cached",)]
        secret: set[str] = set()
        every: set[str] = set()
        for side in sides:
            arguments = (*side, "--name-status", "-z", "--find-renames=1%", *_DIFF, "--", ":/")
            answer = self._git.expect(self._root, "diff", *arguments, options=options)
            if answer is None:
                return None
            if answer.truncated:
                self._code.problems.append("code: too many files changed for a difference")
                return None
            for before, name in read_names(os.fsdecode(answer.output)):
                if is_for_secrets(name) or is_for_secrets(before):
                    secret.add(name)
                    every |= {before, name}
        if len(every) > MOST_EXCLUDED:
            self._code.problems.append("code: too many files for secrets were changed for a difference")
            return None
        return sorted(secret), sorted(every)


def _changed_submodules(git: Git, root: str) -> Iterator[str]:
    """Yield the paths of submodules with changed files, which the status of the outer repository does not show."""
    waiting, asked = [root], 0
    while waiting:
        outer = waiting.pop(0)
        for folder in _submodules(git, outer):
            asked += 1
            if asked > MOST_SUBMODULES:
                git.problems.append(
                    f"code: more than {MOST_SUBMODULES} submodules; the others were not asked for changes"
                )
                return
            options = git.options_without_filters(folder)
            if options is None:
                continue
            answer = git.expect(folder, "status", *_STATUS, "--untracked-files=no", options=options)
            if answer is not None and read_status(os.fsdecode(answer.output))["dirty"]:
                yield os.path.relpath(folder, root)
            waiting.append(folder)


def _submodules(git: Git, folder: str) -> list[str]:
    """Return the folders of the submodules of a repository that are checked out inside it."""
    path = os.path.join(folder, ".gitmodules")
    if not os.path.isfile(path):
        return []
    answer = git.say(folder, "config", "-z", "--file", path, "--get-regexp", r"^submodule\..*\.path$")
    if answer is None or answer.status != 0:
        return []
    paths = (entry.partition("\n")[2] for entry in os.fsdecode(answer.output).split("\0") if entry)
    top = os.path.realpath(folder)
    folders = (os.path.realpath(os.path.join(top, path)) for path in paths)
    inside = (inner for inner in folders if inner.startswith(top + os.sep))
    return [inner for inner in dict.fromkeys(inside) if os.path.exists(os.path.join(inner, ".git"))]


def is_for_secrets(path: str) -> bool:
    """Whether a file or one of its folders has a name of ``SECRET_FILES``."""
    parts = path.lower().split("/")
    return any(map(_secret_name().match, (*parts, *map("/".join, itertools.pairwise(parts)))))


@functools.cache
def _secret_name() -> re.Pattern[str]:
    import fnmatch
    import re

    return re.compile("|".join(map(fnmatch.translate, SECRET_FILES)))


def masked_diff(output: bytes) -> tuple[bytes, int]:
    """Return a difference without secrets and cut to ``DIFF_LIMIT``, and how many of its lines were masked.

    A difference with masked lines says so in its first line, which git passes over.
    """
    text, places = mask_diff(output.decode("utf-8", "surrogateescape"))
    diff = text.encode("utf-8", "surrogateescape")
    if len(output) > DIFF_LIMIT:
        diff = diff[:DIFF_LIMIT] + b"\n\\ cut here: the difference is larger than %d bytes\n" % DIFF_LIMIT
    return (_MASKED % places if places else b"") + diff, places


def read_names(text: str) -> Iterator[tuple[str, str]]:
    """Yield the earlier and the present name of each file in the output of ``git diff --name-status -z``."""
    entries = iter(text.split("\0"))
    for kind in entries:
        if kind:
            before = next(entries, "")
            yield before, next(entries, "") if kind[0] in "RC" else before


def read_status(text: str) -> dict[str, Any]:
    """Return the facts in the output of ``git status --porcelain=v2 --branch -z``: counts of files, and the upstream."""
    upstream, changed, untracked = None, 0, []
    entries = iter(text.split("\0"))
    for entry in entries:
        kind, _, rest = entry.partition(" ")
        if kind == "#" and rest.startswith("branch.upstream "):
            upstream = rest.partition(" ")[2]
        elif kind == "?":
            untracked.append(rest)
        elif kind in {"1", "2", "u"}:
            changed += 1
            if kind == "2":
                next(entries, None)  # the earlier name
    return {
        **({"upstream": upstream} if upstream else {}),
        "dirty": changed > 0,
        "changed_count": changed,
        "untracked_count": len(untracked),
        "untracked": untracked[:MOST_NAMES],
    }
