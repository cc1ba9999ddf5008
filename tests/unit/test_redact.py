# SPDX-License-Identifier: Apache-2.0

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.encode import encode
from nodeagent.errors import ConfigError
from nodeagent.redact import MASK, Redactor
from tests.events import an_exec, an_open

SECRET = "hunter2!"

HIDDEN = [
    ["psql", f"--password={SECRET}"],
    ["tool", "--password", SECRET],
    ["tool", "-token", SECRET],
    ["tool", f"--api-key={SECRET}"],
    ["env", f"DB_PASSWORD={SECRET}", "app"],
    ["env", f"AWS_SECRET_ACCESS_KEY={SECRET}", "app"],
    ["sh", "-c", f"PGPASSWORD={SECRET} psql -h db"],
    ["sh", "-c", f"tool --password {SECRET} --verbose"],
    ["sh", "-c", f"tool --password='{SECRET}' --verbose"],
    ["curl", "-H", f"Authorization: Bearer {SECRET}", "https://api.example/"],
    ["curl", "-H", f"X-Api-Key: {SECRET}", "https://api.example/"],
    ["curl", "-d", f'{{"user": "me", "password": "{SECRET}"}}', "https://api.example/"],
    ["curl", "-u", f"me:{SECRET}", "https://api.example/"],
    ["curl", "-su", f"me:{SECRET}", "https://api.example/"],
    ["curl", "--user", f"me:{SECRET}", "https://api.example/"],
    ["git", "clone", f"https://me:{SECRET}@git.example/x.git"],
    ["mysql", "-u", "root", f"-p{SECRET}", "db"],
    ["/usr/bin/mysqldump", f"-p{SECRET}"],
    ["sshpass", "-p", SECRET, "ssh", "host"],
    ["sshpass", f"-p{SECRET}", "ssh", "host"],
]

SHOWN = [
    ["ls", "-l", "/etc/passwd"],
    ["tool", "--password-file=/run/secrets/x"],
    ["tool", "--password-file", "/run/secrets/x"],
    ["tool", "--token-ttl", "30s"],
    ["docker", "login", "--password-stdin"],
    ["tool", "--password", "--verbose"],
    ["mkdir", "-p", "/var/lib/x"],
    ["ssh", "-p", "22", "me@host"],
    ["curl", "-u", "me", "https://api.example:8443/path"],
    ["cat", "/home/me/tokens/keyboard"],
    ["env", "AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", "app"],
]

TOKENS = [
    f"ghp_{'a1' * 18}",
    f"glpat-{'b' * 20}",
    "xoxb-123456789012-abcdefghij",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    f"sk_live_{'c' * 24}",
]


@pytest.mark.parametrize("argv", HIDDEN, ids=" ".join)
def test_a_secret_is_masked_and_the_rest_stays(argv: list[str]) -> None:
    event = an_exec(argv=tuple(argv))
    Redactor().mask([event])
    assert SECRET not in " ".join(event.argv)
    assert len(event.argv) == len(argv)
    masked = [given for given, shown in zip(argv, event.argv, strict=True) if given != shown]
    assert len(masked) == 1
    assert MASK in " ".join(event.argv)
    assert b'"redacted":["argv"]' in encode([event])


@pytest.mark.parametrize("argv", SHOWN, ids=" ".join)
def test_what_is_no_secret_is_left_alone(argv: list[str]) -> None:
    event = an_exec(argv=tuple(argv))
    Redactor().mask([event, an_open()])
    assert list(event.argv) == argv
    assert b"redacted" not in encode([event])


@pytest.mark.parametrize("token", TOKENS)
@pytest.mark.parametrize("around", ["{}", "x={}", "https://h/?t={}&y=1"])
def test_a_token_that_shows_what_it_is_is_masked_anywhere(token: str, around: str) -> None:
    (_, masked) = Redactor().arguments(("tool", around.format(token)))
    assert masked == around.format(MASK)


def test_own_patterns_hide_their_group_or_all() -> None:
    redactor = Redactor([r"--pin[= ](\d+)", "card-[0-9]{4}"])
    event = an_exec(argv=("pay", "--pin=1234", "card-9999 x"))
    redactor.mask([event])
    assert event.argv == ("pay", "--pin=***", "*** x")


def test_a_pattern_that_is_none_says_so() -> None:
    with pytest.raises(ConfigError, match=r"redact.patterns: '\(' is no regular expression"):
        Redactor(["("])


@given(st.lists(st.text(max_size=200), max_size=8))
def test_any_arguments_stay_as_many(argv: list[str]) -> None:
    assert len(Redactor().arguments(argv)) == len(argv)


@pytest.mark.parametrize(
    "text",
    [
        "password",
        "-",
        "a://",
        "x",
        "eyJ",
        "token-",
        "'",
        '"secret":',
        "--a ",
        "cookie:a ",
        "=",
        "é",
    ],
)
def test_hostile_arguments_take_no_time(text: str) -> None:
    argument = (text * 8192)[:8192] + "token"
    started = time.thread_time()
    Redactor().arguments(("tool", argument))
    # Some 10 ms at most; what is quadratic takes a second.
    assert time.thread_time() - started < 0.2
