# SPDX-License-Identifier: Apache-2.0
"""Configuration: what overrides what, and what is said about each thing that is wrong."""

from __future__ import annotations

import json
import mmap
import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import field

from nodeagent import config
from nodeagent.config import Flag, Loaded
from nodeagent.config import file as config_file
from nodeagent.config.file import distrust
from nodeagent.config.layers import Table, node
from nodeagent.config.toml import masked, to_toml
from nodeagent.errors import ConfigError
from nodeagent.event import EVENTS
from nodeagent.sink import Batch, Sink, SinkConfig
from sinks import SINKS


class Wire(Sink):
    """Has what none of our own sinks has yet."""

    class Config(SinkConfig, kw_only=True, frozen=True):
        """A table of headers and a secret."""

        token: str = ""
        """Who we are."""
        headers: dict[str, str] = field(default_factory=dict)
        """Sent along."""
        codes: list[int] = field(default_factory=lambda: [200])
        """Mean success."""
        proxy: str | None = None
        """On the way."""

        def __post_init__(self) -> None:
            if self.proxy == "" and self.token:
                raise ValueError("a token needs a proxy")

    async def open(self) -> None:
        pass

    async def send(self, batch: Batch) -> None:
        pass

    async def close(self) -> None:
        pass


TYPES: Mapping[str, type[Sink]] = dict(SINKS) | {"wire": Wire}

Load = Callable[..., Loaded]


@pytest.fixture(autouse=True)
def no_file_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config_file, "DEFAULT_PATH", tmp_path / "etc.toml")


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads the text of a file, with environment, --set and flags."""

    def call(
        text: str = "",
        environment: Mapping[str, str] = {},
        overrides: Sequence[str] = (),
        **more: Any,
    ) -> Loaded:
        path = tmp_path / "config.toml"
        path.write_text(text)
        return config.load(path, environment, overrides, TYPES, **more)

    return call


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


# What is effective


def test_without_anything_the_defaults_are_effective() -> None:
    loaded = config.load(None, {}, (), TYPES)
    assert loaded.config.kinds == list(EVENTS)
    assert loaded.config.kernel.argv_bytes == 4096
    assert [*loaded.config.sinks] == ["stdout"]
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.file is None


def test_file_in_the_usual_place_is_read_when_it_exists() -> None:
    config_file.DEFAULT_PATH.write_text("shutdown_seconds = 1")
    loaded = config.load(None, {}, (), TYPES)
    assert loaded.config.shutdown_seconds == 1.0
    assert loaded.file == config_file.DEFAULT_PATH


def test_each_layer_overrides_the_one_before(load: Load, tmp_path: Path) -> None:
    text = "[kernel]\nargv_bytes = 100\nhigh_ring_bytes = 4194304\n[ledger]\ninterval_seconds = 1"
    environment = {"NODEAGENT_KERNEL__ARGV_BYTES": "200", "NODEAGENT_LEDGER__INTERVAL_SECONDS": "2"}
    loaded = load(text, environment, ["ledger.interval_seconds=3"])
    assert loaded.config.kernel.high_ring_bytes == 4194304
    assert loaded.config.kernel.argv_bytes == 200
    assert loaded.config.ledger.interval_seconds == 3.0
    assert loaded.origins["kernel.high_ring_bytes"] == f"file {tmp_path}/config.toml"
    assert loaded.origins["kernel.argv_bytes"] == "environment NODEAGENT_KERNEL__ARGV_BYTES"
    assert loaded.origins["ledger.interval_seconds"] == "--set"
    assert loaded.origins["kernel.bulk_ring_bytes"] == "default"


def test_flag_overrides_all_layers(load: Load) -> None:
    loaded = load(
        'kinds = ["open"]', {}, ['kinds=["exit"]'], flags=[Flag("--only", "kinds", ["exec"])]
    )
    assert loaded.config.kinds == ["exec"]
    assert loaded.origins["kinds"] == "--only"


def test_values_outside_of_the_file_need_no_quotes(load: Load) -> None:
    assert load(overrides=["kernel.object=/x y.o"]).config.kernel.object == "/x y.o"
    assert load(overrides=['kernel.object="/x"']).config.kernel.object == "/x"
    assert load(overrides=["kernel.object="]).config.kernel.object == ""


def test_string_that_looks_like_a_number_stays_as_it_was_written(load: Load) -> None:
    loaded = load(environment={"NODEAGENT_SINKS__WIRE__TOKEN": "0x10"})
    assert loaded.config.sinks["wire"].config == Wire.Config(token="0x10")


def test_line_break_in_a_value_adds_no_keys(load: Load) -> None:
    text = 'x"\nshutdown_seconds = 1'
    assert load(overrides=[f"kernel.object={text}"]).config.kernel.object == text
    assert refused(lambda: load(environment={"NODEAGENT_SHUTDOWN_SECONDS": "1\nkinds = []"}))


def test_sink_takes_its_type_from_its_name_unless_it_is_said(load: Load) -> None:
    text = '[sinks.file]\npath = "/a"\n[sinks.audit]\ntype = "file"\npath = "/b"'
    sinks = load(text).config.sinks
    assert {name: sink.type for name, sink in sinks.items()} == {"file": "file", "audit": "file"}
    assert sinks["audit"].config == SINKS["file"].Config(path="/b")  # type: ignore[call-arg]


def test_table_of_a_sink_can_be_built_from_all_layers(load: Load) -> None:
    loaded = load(
        '[sinks.wire.headers]\nAccept = "a"\n',
        {"NODEAGENT_SINKS__WIRE__CODES": "[200, 201]"},
        ["sinks.wire.headers.From=me"],
    )
    assert loaded.config.sinks["wire"].config == Wire.Config(
        headers={"Accept": "a", "From": "me"}, codes=[200, 201]
    )


def test_named_sinks_are_the_only_ones(load: Load) -> None:
    text = '[sinks.audit]\ntype = "file"\npath = "/b"\n[sinks.broken]\n'
    assert [*load(text, sinks=["audit"]).config.sinks] == ["audit"]
    assert [*load(text, sinks=["stdout", "audit"]).config.sinks] == ["stdout", "audit"]


def test_flag_for_every_sink_reaches_those_that_have_the_key(load: Load) -> None:
    flag = Flag("--format", "sinks.*.format", "json")
    loaded = load('[sinks.stdout]\n[sinks.wire]\n[sinks.o]\ntype = "stdout"', flags=[flag])
    for name in ("stdout", "o"):
        assert loaded.config.sinks[name].config == SINKS["stdout"].Config(format="json")  # type: ignore[call-arg]
        assert loaded.origins[f"sinks.{name}.format"] == "--format"
    assert refused(lambda: load("[sinks.wire]", flags=[flag])).startswith("--format has no effect")


@pytest.mark.parametrize(
    "name",
    [
        "NODEAGENT_REQUIRE",
        "NODEAGENT_SERVICE_HOST",
        "NODEAGENT_SERVICE_PORT_METRICS",
        "NODEAGENT_PORT",
        "NODEAGENT_PORT_9000_TCP_ADDR",
        "NODEAGENT_METRICS_PORT_9000_UDP",
        "OTHER",
    ],
)
def test_variables_that_others_set_are_no_settings(load: Load, name: str) -> None:
    assert set(load(environment={name: "x"}).origins.values()) == {"default"}


# What is refused


WRONG = r"""
kernl = 1
    kernl @ is not a known key: did you mean kernel?
argv_bytes = 512
    argv_bytes @ is not a known key: did you mean kernel.argv_bytes?
kernel.argv_byte = 512
    kernel.argv_byte @ is not a known key: did you mean kernel.argv_bytes?
ledger.x = 1
    ledger.x @ is not a known key: known in ledger are interval_seconds
kernel = 1
    kernel @ must be a table, not 1
kernel.argv_bytes = 63
    kernel.argv_bytes @ must be a whole number from 64 to 8192, not 63
kernel.argv_bytes = true
    kernel.argv_bytes @ must be a whole number from 64 to 8192, not true
kernel.argv_bytes = '512'
    kernel.argv_bytes @ must be a whole number from 64 to 8192, not "512"
kernel.bulk_ring_bytes = 8388607
    kernel.bulk_ring_bytes @ must be a power of two from PAGE to 1073741824, not 8388607
kernel.bulk_ring_bytes = 1024
    kernel.bulk_ring_bytes @ must be a power of two from PAGE to 1073741824, not 1024
shutdown_seconds = -1
    shutdown_seconds @ must be a number of at least 0, not -1
shutdown_seconds = inf
    shutdown_seconds @ must be a number of at least 0, not inf
shutdown_seconds = nan
    shutdown_seconds @ must be a number of at least 0, not nan
kinds = 'exec'
    kinds @ must be a list of known kinds of events, like ["exec", "fork"], not "exec"
kinds = []
    kinds @ must be a list of known kinds of events, like ["exec", "fork"], not []
kinds = ['opne']
    kinds @ may hold only known kinds of events, not "opne": did you mean "open"?
kinds = ['zzz']
    kinds @ may hold only known kinds of events, not "zzz": take KINDS
sinks = 1
    sinks @ must be a table, not 1: write [sinks.NAME]
sinks.x = 1
    sinks.x @ must be a table, not 1: write [sinks.x]
[sinks.x]
    sinks.x.type is missing @: set sinks.x.type to one of SINKS, wire
sinks.x.type = 'stdotu'
    sinks.x.type @ is "stdotu", no known type: did you mean "stdout"?
sinks.x.type = 1
    sinks.x.type @ must be a string, not 1
[sinks.'A b']
    sinks."A b" @ has an unusable name: take a-z, 0-9, single _ or -, a letter first, at most 32
[sinks.file]
    sinks.file.path is missing @: set sinks.file.path to a string that is not empty
sinks.file.keeep = 1
    sinks.file.keeep @ is not a known key: did you mean sinks.file.keep?
sinks.stdout.format = 'xml'
    sinks.stdout.format @ must be one of "auto", "json", "pretty", not "xml"
sinks.wire.token = 12345
    sinks.wire.token @ must be a string, not 12345
sinks.wire.token = ['geheim']
    sinks.wire.token @ must be a string, not ["********"]
sinks.wire = {token = 'x', proxy = ''}
    sinks.wire @ is not usable: a token needs a proxy
sinks.wire.codes = ['x']
    sinks.wire.codes @ must be a list, each item a whole number, not ["x"]
kinds = exec
    @ is not valid TOML at line 1, column 9: invalid value
a = 1\na = 2
    @ is not valid TOML at its end: cannot overwrite a value
"""
"""What the file says, and below it what is said about that; @ is where it was set."""


@pytest.mark.parametrize(
    ("text", "sentence"), re.findall(r"^(\S.*)\n    (.*)", WRONG, flags=re.MULTILINE)
)
def test_wrong_file_is_refused(load: Load, tmp_path: Path, text: str, sentence: str) -> None:
    said = refused(lambda: load(text.replace(r"\n", "\n")))
    origin = f"file {tmp_path}/config.toml"
    place = origin if sentence.startswith("@") else f"({origin})"
    kinds = ", ".join(EVENTS)
    sentence = sentence.replace("KINDS", kinds).replace("PAGE", str(mmap.PAGESIZE))
    assert said == sentence.replace("@", place).replace("SINKS", ", ".join(SINKS))


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        (
            "NODEAGENT_KERNEL_ARGV_BYTES",
            "512",
            "is not a known key: did you mean NODEAGENT_KERNEL__ARGV_BYTES?",
        ),
        (
            "NODEAGENT_KERNL__ARGV_BYTES",
            "512",
            "is not a known key: did you mean NODEAGENT_KERNEL__ARGV_BYTES?",
        ),
        ("NODEAGENT_CONFIG", "/x", "is not a known key: known here are"),
        ("NODEAGENT_", "1", "is not a known key: known here are"),
        ("NODEAGENT_KERNEL__ARGV_BYTES", "much", "must be a whole number from 64 to 8192"),
        ("NODEAGENT_SINKS__FILE__KEEP", "1", "set NODEAGENT_SINKS__FILE__PATH to a string"),
        ("NODEAGENT_KERNEL__OBJECT", "\udcff", "has a value that is not UTF-8"),
        ("NODEAGENT_" + "A__" * 40, "1", "nests more than 16 tables"),
        ("NODEAGENT_SINKS", "{a=" * 40 + "1" + "}" * 40, "nests more than 16 tables"),
        ("NODEAGENT_KINDS", "[" * 5000, "must be a list of known kinds of events"),
    ],
)
def test_wrong_variable_is_named(load: Load, name: str, value: str, sentence: str) -> None:
    text = refused(lambda: load(environment={name: value}))
    assert f"environment {name}" in text
    assert sentence in text


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("kernel", "--set kernel is not KEY=VALUE: write --set kernel.argv_bytes=512"),
        ("=1", "--set =1 is not KEY=VALUE: write --set kernel.argv_bytes=512"),
        ("kernel=1", "kernel (--set) must be a table, not 1"),
        ("kernel..x=1", 'kernel."".x (--set) is not a known key: known in kernel are'),
        ("a\x1b[2J=1", '"a\\u001b[2J" (--set) is not a known key'),
        ("x" * 999 + "=1", "(--set) is not a known key"),
        ("kernel.argv_bytes=" + "9" * 5000, "must be a whole number from 64 to 8192"),
    ],
)
def test_wrong_override_is_refused_with(load: Load, override: str, sentence: str) -> None:
    text = refused(lambda: load(overrides=[override]))
    assert sentence in text
    assert len(text) < 300


def test_unknown_name_of_a_sink_lists_what_there_is(load: Load) -> None:
    text = refused(lambda: load('[sinks.audit]\ntype = "file"', sinks=["audi"]))
    assert text == (
        "--sink audi is no sink of the configuration and no type: take audit,"
        f" {', '.join(SINKS)}, wire"
    )


# Files that are no configuration


def test_named_file_has_to_exist(tmp_path: Path) -> None:
    text = refused(lambda: config.load(tmp_path / "no.toml", {}, (), TYPES))
    assert text.endswith("does not exist: name another with --config, or leave that out")


def test_folder_is_refused(tmp_path: Path) -> None:
    text = refused(lambda: config.load(tmp_path, {}, (), TYPES))
    assert text.endswith("is a folder: name the file in it")


def test_fifo_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    text = refused(lambda: config.load(tmp_path / "fifo", {}, (), TYPES))
    assert "is not a regular file" in text


def test_unusable_path_is_refused(tmp_path: Path) -> None:
    text = refused(lambda: config.load(tmp_path / ("x" * 300), {}, (), TYPES))
    assert "File name too long" in text
    assert refused(lambda: config.load(tmp_path / "\0", {}, (), TYPES))


def test_wrong_encoding_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"# one\n# t\xffo\n")
    text = refused(lambda: config.load(path, {}, (), TYPES))
    assert text == f"file {path} is not UTF-8 in line 2: save it as UTF-8"


def test_file_that_is_far_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(os.urandom(10 << 20))
    text = refused(lambda: config.load(path, {}, (), TYPES))
    assert text == f"file {path} is larger than 1 MiB: it cannot be our configuration"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kinds = " + "[" * 5000, "nests too many lists"),
        ("kinds = " + "9" * 5000, "cannot be used"),
        (".".join("a" * 50) + " = 1", "nests more than 16 tables"),
    ],
)
def test_monstrous_toml_is_refused(load: Load, text: str, sentence: str) -> None:
    assert sentence in refused(lambda: load(text))


def status(mode: int, uid: int = 0, gid: int = 0) -> os.stat_result:
    return os.stat_result((stat.S_IFREG | mode, 1, 1, 1, uid, gid, 0, 0, 0, 0))


OF_USER_7 = "belongs to user 7, who could change it: make it yours with chown"


@pytest.mark.parametrize(
    ("found", "user", "reason"),
    [
        (status(0o644), 0, None),
        (status(0o664), 0, None),
        (status(0o646), 0, "can be changed by every user: run chmod o-w on it"),
        (status(0o664, gid=100), 0, "can be changed by group 100: run chmod g-w on it"),
        (status(0o600, uid=7), 0, OF_USER_7),
        (status(0o600, uid=7), 7, None),
        (status(0o600, uid=7), 8, OF_USER_7),
        (status(0o644), 7, None),
        (status(0o666), 7, None),
    ],
)
def test_root_trusts_only_files_that_nobody_else_can_write(
    found: os.stat_result, user: int, reason: str | None
) -> None:
    assert distrust(found, user) == reason


@pytest.mark.skipif(os.geteuid() != 0, reason="about what root refuses")
def test_file_that_everybody_can_write_is_refused_by_root(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("")
    path.chmod(0o666)
    text = refused(lambda: config.load(path, {}, (), TYPES))
    assert text == f"file {path} can be changed by every user: run chmod o-w on it"


# What is shown


def test_shown_configuration_loads_to_the_same(load: Load) -> None:
    text = """
        kinds = ["open"]
        [kernel]
        object = 'C:\\x "y" \\u00e9'
        [sinks.stdout]
        [sinks.audit]
        type = "file"
        path = "/a"
        [sinks.wire]
        headers = { "a b" = "c", d = "e" }
        codes = [1, 2]
    """
    first = load(text)
    again = load(config.show(first.config, first.origins))
    assert again.config == first.config


def test_each_shown_key_says_where_it_came_from(load: Load) -> None:
    loaded = load("", {"NODEAGENT_SHUTDOWN_SECONDS": "1"}, ['kinds=["exec"]'])
    lines = config.show(*loaded[:2]).splitlines()
    assert 'kinds = ["exec"]                    # --set' in lines
    assert "shutdown_seconds = 1.0              # environment NODEAGENT_SHUTDOWN_SECONDS" in lines
    assert "argv_bytes = 4096                   # default" in lines


def test_each_shown_key_has_its_sentence_above_it() -> None:
    shown = config.show(*config.load(None, {}, (), TYPES)[:2])
    assert "# Stream these kinds of events.\nkinds = [\n" in shown


def test_shown_lines_fit_a_terminal(load: Load) -> None:
    shown = config.show(*load('[sinks.stdout]\n[sinks.wire]\n[sinks.file]\npath = "/a"')[:2])
    assert max(map(len, shown.replace(str(load().file), "F").splitlines())) <= 80


def test_secrets_are_not_shown(load: Load) -> None:
    text = (
        '[sinks.wire]\ntoken = "geheim"\nproxy = "http://u:geheim@host/x"\n'
        'headers = { Authorization = "geheim", "X-Api-Key" = "geheim", Accept = "offen" }'
    )
    shown = config.show(*load(text)[:2])
    assert "geheim" not in shown
    assert 'token = "********"' in shown
    assert "http://********@host/x" in shown
    assert "offen" in shown


@pytest.mark.parametrize("key", ["a.client_secret", "password", "api-key", "tokens", "KEY"])
def test_keys_that_name_a_secret_are_masked(key: str) -> None:
    assert masked(key, "x") == "********"


@pytest.mark.parametrize("key", ["key_file", "token_path", "keep", "monkey", "token_seconds"])
def test_other_keys_are_not(key: str) -> None:
    assert masked(key, "x") == "x"


def test_value_that_is_not_set_is_a_comment(load: Load) -> None:
    assert "# proxy is not set" in config.show(*load("[sinks.wire]")[:2])


# The schema


def test_schema_takes_what_load_takes_and_refuses_what_it_refuses(load: Load) -> None:
    validate = fastjsonschema.compile(config.schema(TYPES))
    good = '[kernel]\nargv_bytes = 64\n[sinks.file]\npath = "/a"\n[sinks.x]\ntype = "stdout"'
    load(good)
    validate(tomllib.loads(good))
    for bad in (
        "x = 1",
        "[kernel]\nargv_bytes = 1",
        "[kernel]\nhigh_ring_bytes = 5000",
        'kinds = ["exce"]',
        "kinds = []",
        "[sinks.file]",
        "[sinks.x]",
        '[sinks.A]\ntype = "stdout"',
        '[sinks.stdout]\ntype = "wire"\nformat = "json"',
    ):
        assert refused(lambda text=bad: load(text))  # type: ignore[misc]
        with pytest.raises(fastjsonschema.JsonSchemaException):
            validate(tomllib.loads(bad))


def test_schema_takes_the_shown_defaults() -> None:
    shown = config.show(*config.load(None, {}, (), TYPES)[:2])
    fastjsonschema.validate(config.schema(TYPES), tomllib.loads(shown))


def test_every_key_in_the_schema_has_a_sentence() -> None:
    def without(schema: dict[str, Any], path: str) -> list[str]:
        found = []
        for name, each in schema.get("properties", {}).items():
            if "description" not in each and "if" not in each:
                found.append(f"{path}.{name}")
            found += without(each, f"{path}.{name}")
        return found

    schema = config.schema(TYPES)
    assert without(schema, "") == []
    for name, definition in schema["$defs"].items():
        assert without(definition, name) == []
    assert json.loads(json.dumps(schema)) == schema


# Whatever comes in


KEYS = st.sampled_from(
    ["kinds", "kernel", "sinks", "stdout", "file", "type", "path", "argv_bytes", "headers", "wire"]
) | st.text(max_size=5)
SCALARS = (
    st.integers()
    | st.floats()
    | st.booleans()
    | st.sampled_from(["exec", "open", "file", "stdout", "wire"])
    | st.text(max_size=10)
    | st.dates()
    | st.datetimes()
    | st.times()
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


def only_config_errors(call: Callable[[], Loaded]) -> None:
    with suppress(ConfigError):
        loaded = call()
        config.show(loaded.config, loaded.origins)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode()))
def test_any_bytes_are_a_configuration_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(data)
    only_config_errors(lambda: config.load(path, {}, (), TYPES))


@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_toml_is_a_configuration_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text("".join(f"{to_toml({k: v})[1:-1]}\n" for k, v in tree.items()))
    only_config_errors(lambda: config.load(path, {}, (), TYPES))


@given(st.lists(st.text(max_size=30) | st.tuples(KEYS, st.text(max_size=20)).map("=".join)))
def test_any_overrides_are_a_configuration_or_a_sentence(overrides: list[str]) -> None:
    only_config_errors(lambda: config.load(None, {}, overrides, TYPES))


@given(st.dictionaries(st.text(max_size=30).map("NODEAGENT_".__add__), st.text(max_size=30)))
def test_any_environment_is_a_configuration_or_a_sentence(environment: dict[str, str]) -> None:
    only_config_errors(lambda: config.load(None, environment, (), TYPES))


@given(VALUES)
def test_toml_reads_back_what_was_written(value: object) -> None:
    text = to_toml(value)
    assert text.isprintable()
    # Compared as text: nan is not equal to itself.
    assert to_toml(tomllib.loads(f"value = {text}")["value"]) == text


def test_tables_keep_where_they_were_written() -> None:
    table = node({"a": {}}, "file x")
    assert isinstance(table, Table)
    assert table.children["a"].origin == "file x"
