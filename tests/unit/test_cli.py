# SPDX-License-Identifier: Apache-2.0
"""The command line: exit codes, one sentence for each mistake, output that can be used."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import fastjsonschema
import pytest

from nodeagent import __version__, cli
from nodeagent.cli import config as config_command
from nodeagent.cli.log import LineFormatter
from nodeagent.config import file as config_file
from nodeagent.errors import BpfError, ConfigError, NodeagentError, TornRecording
from nodeagent.event import EVENTS

COMMANDS = (
    *("run", "demo", "replay", "findings", "explain", "rules", "status", "coverage"),
    *("top", "impact", "reload", "config", "doctor", "schema", "completion"),
)


class Said(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture(autouse=True)
def as_on_a_fresh_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No file and no variables of this machine; logging is given back."""
    monkeypatch.setattr(config_file, "DEFAULT_PATH", tmp_path / "etc.toml")
    for name in os.environ:
        if name.startswith("NODEAGENT_"):
            monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:], logging.raiseExceptions = handlers, raises
    root.setLevel(level)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process."""

    def call(*arguments: str) -> Said:
        code = cli.main(arguments)
        return Said(code, *capfd.readouterr())

    return call


@pytest.fixture
def fails_with(monkeypatch: pytest.MonkeyPatch, run: Run) -> Callable[..., Said]:
    """Runs a command that raises."""

    def call(error: BaseException, *options: str) -> Said:
        def fail(_: object) -> NoReturn:
            raise error

        monkeypatch.setattr(config_command, "show", fail)
        return run(*options, "config", "show")

    return call


def shell(line: str) -> Said:
    """Runs a line of bash in which $N is the command, as a user would."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("NODEAGENT_", "PYTHON"))
    }
    environment["N"] = f"{sys.executable} -m nodeagent"
    done = subprocess.run(
        ["bash", "-c", line], env=environment, capture_output=True, text=True, check=False
    )
    return Said(done.returncode, done.stdout, done.stderr)


# Help


@pytest.mark.parametrize("arguments", [(), *((name,) for name in COMMANDS), ("config", "show")])
def test_help_has_examples(run: Run, arguments: tuple[str, ...]) -> None:
    said = run(*arguments, "--help")
    assert said.code == 0
    assert "examples:\n" in said.out
    assert said.err == ""


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("run",),
        ("schema",),
        ("completion",),
        ("replay",),
        ("doctor",),
        ("demo",),
        ("config",),
        ("config", "show"),
        ("config", "check"),
        ("rules",),
        ("rules", "list"),
        ("rules", "test"),
        ("rules", "cost"),
    ],
)
def test_help_fits_a_terminal(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, run(*arguments, "--help").out.splitlines())) <= 80


def test_help_names_every_command_once(run: Run) -> None:
    listed = [line.split()[0] for line in run("--help").out.splitlines() if line[:4] == "    "]
    assert [name for name in listed if name in COMMANDS] == list(COMMANDS)


def test_version_is_that_of_the_package(run: Run) -> None:
    first, source, *_ = run("--version").out.splitlines()
    assert first == f"nodeagent {__version__}"
    assert source == "source  a checkout"


def test_help_needs_neither_libraries_nor_the_agent() -> None:
    code = (
        "import sys, contextlib, io, nodeagent.cli\n"
        "with contextlib.redirect_stdout(io.StringIO()): nodeagent.cli.main(['--help'])\n"
        "print(*sorted({'msgspec', 'orjson', 'shtab', 'nodeagent.agent'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("rnu",), "invalid choice: 'rnu'"),
        (("config",), "the following arguments are required: COMMAND"),
        (("config", "check", "--set"), "expected one argument"),
        (("config", "check", "--set", "x"), "--set x is not KEY=VALUE"),
        (("config", "check", "--set", "x=1"), "x (--set) is not a known key"),
        (("config", "show", "--config", "/nowhere"), "file /nowhere does not exist"),
        (("config", "show", "--config", "/"), "file / is a folder"),
        (("config", "show", "extra"), "unrecognized arguments: extra"),
        (("schema", "exce"), "invalid choice: 'exce'"),
        (("completion", "fish"), "invalid choice: 'fish'"),
        (("--log-level", "loud", "schema"), "invalid choice: 'loud'"),
        (("run", "--only", "exce"), 'not "exce": did you mean "exec"?'),
        (("run", "--only", ""), "kinds (--only) may hold only known kinds of events"),
        (("run", "--duration", "0"), "must be a number of seconds greater than 0, not 0"),
        (("run", "--duration", "nan"), "must be a number of seconds greater than 0, not nan"),
        (("run", "--duration", "soon"), "must be a number of seconds greater than 0, not soon"),
        (("run", "--format", "xml"), "invalid choice: 'xml'"),
        (("run", "--sink", "nowhere"), "--sink nowhere is no sink of the configuration"),
        (("run", "--sink", "file"), "sinks.file.path is missing (--sink)"),
        (
            ("run", "--sink", "file", "--set", "sinks.file.path=/x", "--format", "json"),
            "--format has no effect",
        ),
        (("demo", "minre"), '"minre" is no behaviour: did you mean miner?'),
        (("demo", "--list", ""), '"" is no behaviour: `nodeagent demo --list` shows all'),
        (("replay",), "the following arguments are required: FILE"),
        (("replay", "/nowhere"), "/nowhere"),
        (("replay", "/etc/passwd"), "/etc/passwd"),
    ],
)  # fmt: skip
def test_mistake_is_told_in_one_sentence(
    run: Run, arguments: tuple[str, ...], sentence: str
) -> None:
    said = run(*arguments)
    assert said.code == 2
    assert said.out == ""
    last = said.err.splitlines()[-1]
    assert last.startswith("nodeagent")
    assert sentence in last
    assert "Traceback" not in said.err


def test_wrong_variable_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODEAGENT_KERNL", "1")
    said = run("config", "check")
    assert said.code == 2
    assert said.err == (
        "nodeagent: kernl (environment NODEAGENT_KERNL) is not a known key:"
        " did you mean NODEAGENT_KERNEL?\n"
    )


def test_suppressions_are_checked_and_those_that_are_over_are_told(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "suppressions.toml"
    check = ("config", "check", "--set", f'detect.suppressions=["{path}"]')
    one = '[[suppress]]\nreason = "a test"\nwhere = { type = "x" }\n'
    path.write_text(one)
    said = run(*check)
    assert (said.code, said.out) == (2, "")
    assert f"the suppressions {path} cannot be used:" in said.err
    assert "missing required field `owner`" in said.err
    path.write_text(f'{one}owner = "ops"\nuntil = 2020-01-31\n')
    said = run(*check)
    over = 'not used: the suppression "a test" of ops ended on 2020-01-31\n'
    assert (said.code, said.err) == (0, "")
    assert said.out.endswith(over)
    path.write_text(f'{one}owner = "ops"\nuntil = 9999-12-31\n')
    assert "not used" not in run(*check).out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("this is wrong"), 2),
        (BpfError("this is wrong", 1, "libbpf: why"), 2),
        (TornRecording("this is wrong"), 1),
        (NodeagentError("this\nis  wrong"), 1),
        (ExceptionGroup("", [ExceptionGroup("", [ConfigError("this is wrong")])]), 2),
    ],
)
def test_expected_error_is_its_own_sentence(
    fails_with: Callable[..., Said], error: Exception, code: int
) -> None:
    assert fails_with(error) == (code, "", "nodeagent: this is wrong\n")


def test_what_comes_from_outside_cannot_drive_the_terminal(
    fails_with: Callable[..., Said],
) -> None:
    assert fails_with(ConfigError("\x1b[2J\u202e")).err == "nodeagent: �[2J�\n"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("odd"),
        BrokenPipeError(32, "Broken pipe"),
        ExceptionGroup("", [ConfigError("known"), ValueError("odd")]),
    ],
)
def test_defect_is_one_sentence_too(fails_with: Callable[..., Said], error: Exception) -> None:
    said = fails_with(error)
    assert said.code == 1
    assert said.err.count("\n") == 1
    assert said.err.startswith("nodeagent: unexpected ")
    assert said.err.endswith("(a defect, please report it; --debug shows where)\n")


def test_debug_shows_the_traceback_and_the_words_of_libbpf(
    fails_with: Callable[..., Said],
) -> None:
    said = fails_with(BpfError("this is wrong", 1, "libbpf: why"), "--debug")
    assert "Traceback" in said.err
    assert said.err.endswith("libbpf: why\nnodeagent: this is wrong\n")
    assert "in fail" in fails_with(ValueError("odd"), "--debug").err


def test_debug_may_stand_behind_the_command(run: Run) -> None:
    assert "Traceback" in run("config", "check", "--debug", "--set", "x=1").err


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), BaseExceptionGroup("", [KeyboardInterrupt()])]
)
def test_interrupt_is_quiet(fails_with: Callable[..., Said], error: BaseException) -> None:
    assert fails_with(error) == (130, "", "")


# Output that nobody takes


@pytest.mark.parametrize("command", ["--help", "schema", "config show", "completion bash"])
def test_reader_that_goes_away_is_no_error(command: str) -> None:
    said = shell(f"set -o pipefail; $N {command} | true")
    assert (said.code, said.err) == (0, "")


@pytest.mark.parametrize("command", ["--help", "schema", "config show", "config check"])
def test_full_disk_is_told(command: str) -> None:
    said = shell(f"$N {command} > /dev/full")
    assert said.code == 1
    assert said.err == ("nodeagent: standard output cannot be written: No space left on device\n")


@pytest.mark.parametrize("command", ["schema", "config show", "config check"])
def test_closed_output_is_no_error(command: str) -> None:
    said = shell(f"$N {command} >&-")
    assert (said.code, said.err) == (0, "")


def test_closed_stderr_is_no_error() -> None:
    assert shell("$N config check --set x=1 2>&-").code == 2


def test_file_whose_name_is_no_text_can_be_used(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff.toml"
    Path(os.fsdecode(path)).write_text("")
    said = shell(f"$N config check --config {tmp_path}/*.toml")
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith("ok: ")


# What the commands print


def test_config_check_names_the_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("shutdown_seconds = 1")
    assert run("config", "check", "--config", str(path)) == (0, f"ok: {path}\n", "")
    assert run("config", "check").out.startswith("ok: there is no /etc/")


def test_config_show_can_be_used_as_the_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    first = run("config", "show", "--set", "kernel.argv_bytes=512").out
    path.write_text(first)
    again = run("config", "show", "--config", str(path)).out
    assert tomllib.loads(again) == tomllib.loads(first)
    assert "argv_bytes = 512                    # --set\n" in first
    assert f"# file {path}\n" in again


def test_config_schema_describes_what_config_show_prints(run: Run) -> None:
    schema = json.loads(run("config", "schema").out)
    fastjsonschema.validate(schema, tomllib.loads(run("config", "show").out))


def test_schema_prints_one_kind_or_all(run: Run) -> None:
    assert json.loads(run("schema", "open").out)["title"] == "open"
    assert set(EVENTS) < set(json.loads(run("schema").out)["$defs"])


# Completion


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script for bash, as a user installs it."""
    path = tmp_path_factory.mktemp("completion") / "nodeagent"
    assert shell(f"$N completion bash > {path}").code == 0
    return path


def complete(script: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words."""
    line = (
        'source $0; COMP_WORDS=(nodeagent "$@"); COMP_CWORD=$#;'
        " $(complete -p nodeagent | grep -o '_[a-z_]*nodeagent');"
        ' printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", line, script, *words], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("",), COMMANDS),
        (("re",), ("replay", "reload")),
        (("config", ""), ("check", "show", "schema")),
        (("config", "show", "--se"), ("--set",)),
        (("schema", "ex"), ("exec", "exit")),
        (("run", "--format", ""), ("pretty", "json")),
        (("--log-level", "w"), ("warning",)),
        (("config", "check", "--config", "/etc/hostnam"), ("/etc/hostname",)),
    ],
)
def test_bash_completes(script: Path, words: tuple[str, ...], offered: tuple[str, ...]) -> None:
    assert complete(script, *words) == list(offered)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_can_parse_its_script(tmp_path: Path) -> None:
    assert shell(f"$N completion zsh > {tmp_path}/_n && zsh -n {tmp_path}/_n").code == 0


def test_zsh_gets_a_script_of_its_own(run: Run) -> None:
    assert run("completion", "zsh").out.startswith("#compdef nodeagent\n")


# The log


def logged(record: logging.LogRecord, *, coloured: bool = False, tracebacks: bool = False) -> str:
    record.created, record.msecs = 1_764_025_869.5, 500
    return LineFormatter(coloured=coloured, tracebacks=tracebacks).format(record)


def a_record(message: str = "ready seconds=0.12", **fields: object) -> logging.LogRecord:
    plain = {"levelno": logging.WARNING, "levelname": "WARNING", "msg": message}
    return logging.makeLogRecord(plain | fields)


def a_failure() -> logging.LogRecord:
    try:
        raise ValueError("odd\nthing")
    except ValueError:
        return a_record("sink_failed sink=x", exc_info=sys.exc_info())


def test_log_line_has_time_level_and_message() -> None:
    assert logged(a_record()) == "2025-11-24T23:11:09.500Z warning ready seconds=0.12"


def test_log_is_coloured_only_when_asked_for() -> None:
    assert "\033[33mwarning\033[0m" in logged(a_record(), coloured=True)


def test_log_of_an_exception_stays_one_line() -> None:
    line = logged(a_failure())
    assert line.endswith(" warning sink_failed sink=x error=ValueError text=odd\\nthing")


def test_log_of_an_exception_has_its_traceback_on_demand() -> None:
    assert "Traceback" in logged(a_failure(), tracebacks=True)


def test_log_line_cannot_be_forged() -> None:
    assert logged(a_record("x path=/a\n2025 \x1b[2J")).endswith("x path=/a\\n2025 \\x1b[2J")


def test_log_goes_to_stderr_from_the_wanted_level_on(run: Run) -> None:
    assert run("--log-level", "error", "config", "check").err == ""
    logging.getLogger("nodeagent").warning("hidden")
    assert logging.getLogger().level == logging.ERROR
