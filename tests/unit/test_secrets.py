"""What is masked in the texts that a run records, what stays as it is, and how long it takes."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_dash.provenance import secrets
from ml_dash.provenance.private_keys import AGAIN, KeyLines
from ml_dash.provenance.secret_names import hides, is_code, kind_of_name
from ml_dash.provenance.secret_urls import mask_users
from ml_dash.provenance.secrets import MASK, mask_arguments, mask_diff, mask_text, mask_values
from ml_dash.records.record import Kind, Record
from ml_dash.records.values import decode, encode
from ml_dash.writer.log_mask import LogMask
from tests import secret_kinds

KINDS = secret_kinds.make(random.Random(7))
AROUND = ("{}", "INFO run: {}", "request failed: {} (retry 3)", "x = 1\n{}\ny = 2", "'{}'", 'msg="{}"', "{},")

PIECES = (
    *(
        "sk-",
        "-eyJ",
        "eyJa.",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\n",
        "-----END PRIVATE KEY-----\n",
    ),
    *(
        "A" * 60 + "\n",
        "password=",
        "password=x ",
        "password=x\n",
        "password:\n",
        "password: |\n  x\n",
        "password='x\n",
    ),
    *(
        'password="',
        "password=\"'",
        "https://a@b/",
        "://a:b@",
        "https://a/token/b1234567/",
        "?token=a&",
        "--password x ",
    ),
    *(
        "--",
        " -p a",
        "mysql -p",
        "mysql a ",
        "bearer a ",
        "basic aaaa",
        "token={a",
        "<password>",
        "<password",
        "password ",
    ),
    *(
        "password\\\\",
        "a.token-",
        '("token" ',
        "123456:A",
        "aaa8Q~",
        "$6$",
        "token=get(",
        "password: Optional[",
        "token:",
    ),
    *("hooks.slack.com/", "ghp_", "\n", 'password = """\n', "password: ***\n", "token-", "AKIA", "token=a,", "a=b "),
    *(
        "password: [\n 'x'\n",
        " ",
        "=",
        ":",
        "/",
        "@",
        "\\",
        "'",
        '"',
        "x",
        "0",
        "token" + " " * 50,
        "login a password ",
    ),
)


class TestEveryKind:
    def test_there_are_sixty_kinds_and_more(self):
        assert len(KINDS) >= 60

    @pytest.mark.parametrize("kind", KINDS)
    def test_it_is_masked_wherever_it_stands(self, kind):
        text, secret = KINDS[kind]
        masked = [mask_text(around.format(text)) for around in AROUND]
        arguments = mask_arguments(["train.py", text]), mask_arguments(["train.py", *text.split(" ")])

        assert [] == [shown for shown in masked if secret[:12] in shown or secret[-8:] in shown or MASK not in shown]
        if kind not in {"PEM", "PEM in a line", "netrc"}:  # no argument for each word of a file
            assert [] == [shown for shown in arguments if any(secret in argument for argument in shown)]

    @pytest.mark.parametrize("kind", KINDS)
    def test_what_is_masked_stays_so(self, kind):
        masked = [mask_text(around.format(KINDS[kind][0])) for around in AROUND]

        assert masked == [mask_text(shown) for shown in masked]

    @pytest.mark.parametrize("seed", range(5))
    def test_other_letters_are_masked_as_well(self, seed):
        kinds = secret_kinds.make(random.Random(seed))

        assert [] == [kind for kind, (text, secret) in kinds.items() if secret in mask_text(text)]

    @pytest.mark.parametrize("kind", KINDS)
    def test_the_added_line_of_a_difference_keeps_its_sign(self, kind):
        text, secret = KINDS[kind]
        added = "".join(f"+{line}\n" for line in text.split("\n"))
        diff = f"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,3 @@\n one\n{added}-two\n"
        masked, places = mask_diff(diff)

        assert secret not in masked
        assert [line[:1] for line in diff.split("\n")] == [line[:1] for line in masked.split("\n")]
        assert places > 0


class TestWhatStays:
    @pytest.mark.parametrize("text", secret_kinds.STAY)
    def test_a_text_without_secrets(self, text):
        assert text == mask_text(text)
        assert f"INFO {text}\nnext" == mask_text(f"INFO {text}\nnext")

    @pytest.mark.parametrize(
        "arguments",
        [
            ["train.py", "--password-policy", "strict", "--lr", "0.1"],
            ["train.py", "-p", "8080"],
            ["train.py", "-p", "data/train", "-u", "1000:1000"],
            ["train.py", "-p", "gpu"],
            ["train.py", "-p", "config.yaml"],
            ["python", "-u", "train.py", "a:b"],
            ["train.py", "--pin", "1", "--otp", "0.5"],
            ["train.py", "--token-ids", "1", "2"],
            ["train.py", "--use-auth-token", "True"],
            ["train.py", "bearer", "of", "news"],
            ["train.py", "basic", "usage"],
        ],
    )
    def test_a_command_line_without_secrets(self, arguments):
        assert arguments == mask_arguments(arguments)

    def test_numbers_of_a_log_line(self):
        values = {"loss": 0.5, "tokens": 128, "token": 7, "n": [1, None, True], "key": "pixels", "step_token": 0.25}

        assert values == mask_values(values)


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["-p", "hunter2"], ["-p", "***"]),
            (["-p", "swordfish"], ["-p", "***"]),
            (["-u", "bob", "-p", "1234"], ["-u", "bob", "-p", "***"]),
            (["-u", "bob:hunter2"], ["-u", "***"]),
            (["--pw", "x"], ["--pw", "***"]),
            (["--pin", "1234"], ["--pin", "***"]),
            (["--otp=123456"], ["--otp=***"]),
            (["bearer", "hunter2"], ["bearer", "***"]),
            (["Authorization:", "Bearer", "hunter2"], ["Authorization:", "Bearer", "***"]),
            (["password", "=", "hunter2"], ["password", "=", "***"]),
            (["sh", "-c", "mysql -u bob -p hunter2"], ["sh", "-c", "mysql -u bob -p ***"]),
            (["sh", "-c", "mysql -u bob -phunter2 db"], ["sh", "-c", "mysql -u bob -p*** db"]),
        ],
    )
    def test_short_and_separate_ones(self, arguments, expected):
        assert expected == mask_arguments(arguments)


class TestText:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("token=abc loss=0.1", "token=*** loss=0.1"),
            ("password: one two\nnext", "password: ***\nnext"),
            ("password: |\n  one\n  two\nnext: 1", "password: |\n  ***\n  ***\nnext: 1"),
            ("passwords:\n  - one\n  - two\nnext: 1", "passwords:\n  - ***\n  - ***\nnext: 1"),
            ("password = (\n    'one'\n)\nx = 1", "password = (\n    ***\n)\nx = 1"),
            ('password = """\none\ntwo"""\nx = 1', 'password = """\n***\n***"""\nx = 1'),
            ('{\n "password":\n  "x"\n}', '{\n "password":\n  ***\n}'),
            ("password: str = 'x'", "password: str = ***"),
            ("password: Optional[str] = 'x'", "password: Optional[str] = ***"),
            ("if password == 'x':", "if password == ***:"),
            (":password => 'x',", ":password => ***,"),
            ("os.getenv('API_KEY', 'x')", "os.getenv('API_KEY', ***)"),
            ("api_key = get_key('x')", "api_key = ***"),
            ("CREATE USER bob IDENTIFIED BY 'x'", "CREATE USER bob IDENTIFIED BY ***"),
            ("machine h login bob password x", "machine h login bob password ***"),
            ("ssh://git:x@host/r.git", "ssh://***@host/r.git"),
            ("://x@y", "://x@y"),
            ("secret: 12", "secret: ***"),
            ("curl --user bob:x1 https://host", "curl --user *** https://host"),
            ("gpg --passphrase 'one two' f", "gpg --passphrase *** f"),
            ('os.getenv("API_KEY") or "x"', 'os.getenv("API_KEY") or ***'),
            ('wandb.login(key="x")', "wandb.login(key=***)"),
            ("ValueError: invalid api key: x1", "ValueError: invalid api key: ***"),
            ("Incorrect API key provided: abc12345. You", "Incorrect API key provided: *** You"),
            ("Password for bob: hunter2", "Password for bob: ***"),
            ("the password 'swordfish' was refused", "the password *** was refused"),
            ("- name: DB_PASSWORD\n  value: x", "- name: DB_PASSWORD\n  value: ***"),
            ('{"name": "DB_PASSWORD", "value": "x"}', '{"name": "DB_PASSWORD", "value": ***}'),
            ('<password type="a">x</password>', '<password type="a">***</password>'),
            ('let password: String = "x";', "let password: String = ***;"),
            ("redis-cli -h h -a x1", "redis-cli -h h -a ***"),
            ("password=5", "password=***"),
            ("Proxy-Authorization: Digest a", "Proxy-Authorization: ***"),
        ],
    )
    def test_where_a_secret_ends(self, text, expected):
        assert expected == mask_text(text)

    def test_a_traceback_keeps_its_lines(self):
        text = (
            'Traceback (most recent call last):\n  File "a.py", line 3, in login\n    client.login(password=args.password)\n'
            "requests.HTTPError: 401 https://bob:pw123@host/api?token=T123 (Authorization: Bearer B123)"
        )
        masked = mask_text(text)

        assert text.split("\n")[:3] == masked.split("\n")[:3]
        assert "requests.HTTPError: 401 https://***@host/api?token=*** (Authorization: ***" == masked.split("\n")[3]

    def test_text_below_a_secret_name_in_a_log_line(self):
        values = {
            "auth": {"user": "bob", "url": "x"},
            "password": "x",
            "pins": ["1234"],
            "pin": 1234,
            "note": "token=x",
        }

        assert {
            "auth": {"user": MASK, "url": MASK}, "password": MASK, "pins": ["1234"], "pin": MASK, "note": "token=***",
        } == mask_values(values)  # fmt: skip

    def test_packages_are_not_masked_by_their_names(self):
        assert {"google-auth": "2.3"} == mask_values({"google-auth": "2.3"}, by_name=False)


class TestDifference:
    def test_a_key_of_which_only_a_part_is_shown(self):
        end = f"@@ -9,4 +9,4 @@ x\n {'aB3/' * 16}\n {'x' * 20}==\n -----END RSA PRIVATE KEY-----\n-a\n+b"
        begin = (
            f"@@ -1,4 +1,4 @@\n -----BEGIN RSA PRIVATE KEY-----\n {'aB3/' * 16}\n {'cD4/' * 16}\n@@ -20 +20 @@\n-a\n+b"
        )

        assert ("@@ -9,4 +9,4 @@ x\n ***\n ***\n -----END RSA PRIVATE KEY-----\n-a\n+b", 2) == mask_diff(end)
        assert (
            "@@ -1,4 +1,4 @@\n -----BEGIN RSA PRIVATE KEY-----\n ***\n ***\n@@ -20 +20 @@\n-a\n+b",
            2,
        ) == mask_diff(begin)

    def test_without_secrets_it_is_the_same(self):
        diff = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@ class Token:\n-lr = 1\n+lr = 2\n\\ No newline at end of file\n"

        assert (diff, 0) == mask_diff(diff)


class TestKeyLines:
    LINES = ("before", "-----BEGIN PRIVATE KEY-----", "aB3/" * 16, "aB3=", "-----END PRIVATE KEY-----", "after")
    MASKED = ("before", "-----BEGIN PRIVATE KEY-----", MASK, MASK, "-----END PRIVATE KEY-----", "after")

    def test_a_key_that_is_printed_line_for_line(self):
        keys = KeyLines()

        assert list(self.MASKED) == [keys.mask("stdout", line, n, MASK) for n, line in enumerate(self.LINES)]

    @pytest.mark.parametrize("again_from", range(6))
    def test_lines_that_come_again(self, again_from):
        keys = KeyLines()
        for number, line in enumerate(self.LINES):
            keys.mask("stdout", line, number, MASK)
        again = [keys.mask("stdout", self.LINES[number], number, MASK) for number in range(again_from, 6)]

        assert list(self.MASKED[again_from:]) == again

    def test_a_key_without_an_end_ends_with_other_text(self):
        keys = KeyLines()
        lines = [*self.LINES[1:3], "epoch 3: loss=0.5", "aB3/"]

        assert [lines[0], MASK, *lines[2:]] == [keys.mask("", line, n, MASK) for n, line in enumerate(lines)]

    def test_streams_have_keys_of_their_own(self):
        keys = KeyLines()
        keys.mask("stdout", self.LINES[1], 0, MASK)

        assert "aB3/" == keys.mask("stderr", "aB3/", 1, MASK)
        assert MASK == keys.mask("stdout", "aB3/", 2, MASK)

    def test_it_is_forgotten_once_no_line_can_come_again(self):
        keys = KeyLines()
        for number, line in enumerate(self.LINES):
            keys.mask("stdout", line, number, MASK)

        assert keys.are_recent(10)
        assert not keys.are_recent(AGAIN + 10)


class TestLogLines:
    def record(self, sequence, **line):
        return Record(0, 0, sequence, 0.0, Kind.LOG, b"", encode(line, "a log line"), 0)

    def test_a_line_without_secrets_is_the_same_bytes(self):
        record = self.record(1, level="info", message="tokens=128 größer", metadata={"x": float("nan"), "n": 2**70})

        assert record.data is LogMask().mask(record)

    def test_values_beside_a_secret_stay(self):
        metadata = {"x": float("nan"), "n": 2**70, "cut": "\ud83d", "token": "abc", "name": "NaN"}
        record = self.record(1, level="info", message="x", metadata=metadata)

        assert {**metadata, "token": MASK} | {"x": None} == decode(LogMask().mask(record))["metadata"] | {"x": None}

    def test_a_key_over_several_lines(self):
        mask = LogMask()
        lines = [
            decode(mask.mask(self.record(n, level="info", message=line, metadata={"stream": "stdout"})))["message"]
            for n, line in enumerate(TestKeyLines.LINES)
        ]

        assert list(TestKeyLines.MASKED) == lines


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            *("password", "dbPassword", "DB_PASSWORD_2", "api_key", "apikey", "client-key-data", "x-functions-key"),
            *("AccountKey", "clientSecret", "refresh_token", "authToken", "PGPASSWORD", "dbpass", "seedMnemonic"),
        ],
    )
    def test_a_name_of_a_secret(self, name):
        assert "secret" == kind_of_name(name)

    @pytest.mark.parametrize(
        "name", ["", "bypass", "compass", "author", "monkey", "tokenizer", "pad_token", "InvalidToken", "a" * 10_000]
    )
    def test_a_name_of_something_else(self, name):
        assert "" == kind_of_name(name)

    def test_code_that_only_names_a_secret(self):
        assert is_code("token", "args.token)")
        assert is_code("password", "password, user=user")
        assert not is_code("password", "hunter2")
        assert not is_code("token", "get_token('x')")
        assert not is_code("password", "hunter(2)")
        assert not hides("PWD", "/home/me")


ANY = st.text(st.characters(codec=None), max_size=200) | st.lists(
    st.sampled_from((*PIECES, *(text for text, _ in KINDS.values()))), max_size=8
).map("".join)


class TestAnyText:
    @given(ANY)
    def test_no_text_raises_or_gets_other_lines(self, text):
        assert text.count("\n") == mask_text(text).count("\n")
        assert 1 == len(mask_arguments([text]))
        mask_diff(text)
        secrets.clean_address(text)
        mask_users(text, MASK)

    @settings(max_examples=50)
    @given(st.text("\n ab=:", max_size=30), st.sampled_from(sorted(KINDS)), st.text("\n ab=:", max_size=30))
    def test_a_secret_between_other_lines(self, before, kind, after):
        text, secret = KINDS[kind]

        assert secret not in mask_text(f"{before}\n{text}\n{after}")


def seconds_for(text):
    begin = time.process_time()
    mask_text(text)
    return time.process_time() - begin


def test_the_time_grows_with_the_text_and_no_faster():
    """More than ten megabytes that are made to be slow: twelve times as much of a piece takes about twelve times as long."""
    mask_text("".join(PIECES))
    size = 20_000
    pairs = [(piece * (size // len(piece)), piece * (12 * size // len(piece))) for piece in PIECES]
    assert sum(map(len, (text for pair in pairs for text in pair))) > 10_000_000
    slow = [piece for piece, (short, long) in zip(PIECES, pairs, strict=True) if is_slow(short, long)]

    assert [] == slow


@pytest.mark.parametrize("piece", ["password=x ", "https://a@b/", "--token x ", "A"])
def test_a_long_line_is_looked_through_once(piece):
    """A search for the end of the line from each name would show here only: it is quick, and quadratic."""
    assert not is_slow(piece * (200_000 // len(piece)), piece * (12 * 200_000 // len(piece)))


def is_slow(short, long):
    """Whether a text takes more than twice its share in each of three trials; an instant says nothing."""
    return all(seconds_for(long) > max(2 * 12 * seconds_for(short), 0.05) for _ in range(3))
