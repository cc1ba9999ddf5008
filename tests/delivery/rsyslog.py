# SPDX-License-Identifier: Apache-2.0
"""A real rsyslog that listens in every way there is, and shows what it read."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from tests.requirement import need

CONFIG = """
global(
    workDirectory="{folder}" maxMessageSize="64k"
    defaultNetstreamDriver="gtls"
    defaultNetstreamDriverCAFile="{folder}/ca.pem"
    defaultNetstreamDriverCertFile="{folder}/server.pem"
    defaultNetstreamDriverKeyFile="{folder}/server.key"
)
module(load="imudp")
module(load="imptcp")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode="anon")
module(load="imuxsock" sysSock.use="off")
template(name="read" type="string" string="%jsonmesg%\\n")
ruleset(name="all") {{ action(type="omfile" file="{folder}/read" template="read") }}
input(type="imudp" address="127.0.0.1" port="{udp}" ruleset="all")
input(type="imptcp" address="127.0.0.1" port="{tcp}" ruleset="all")
input(type="imtcp" address="127.0.0.1" port="{tls}" ruleset="all")
input(type="imuxsock" socket="{folder}/log" useSpecialParser="off" parseHostname="on"
    rateLimit.interval="0" ignoreTimestamp="off" useSysTimeStamp="off" ruleset="all")
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Rsyslog:
    """The server, where it listens, and what it has read."""

    folder: Path
    ports: dict[str, int]

    @property
    def ca_file(self) -> str:
        return str(self.folder / "ca.pem")

    def address(self, scheme: str) -> str:
        if scheme == "unix":
            return f"unix://{self.folder}/log"
        host = "localhost" if scheme == "tls" else "127.0.0.1"
        return f"{scheme}://{host}:{self.ports[scheme]}"

    async def read(self, count: int) -> list[dict[str, Any]]:
        """The first messages, each with the fields that it was taken apart into."""
        path = self.folder / "read"
        async with asyncio.timeout(20):
            while not path.exists() or path.read_bytes().count(b"\n") < count:  # noqa: ASYNC110  a file
                await asyncio.sleep(0.02)
        lines = path.read_text().splitlines()
        assert len(lines) == count
        return [json.loads(line) for line in lines]


@asynccontextmanager
async def rsyslog(folder: Path | None = None, **ports: int) -> AsyncIterator[Rsyslog]:
    program = shutil.which("rsyslogd", path="/usr/sbin:/usr/bin")
    need("rsyslog", program is not None, "rsyslogd is not installed")
    with tempfile.TemporaryDirectory(prefix="rsyslog") as made:
        folder = folder or Path(made)
        if not (folder / "ca.pem").exists():
            authority = trustme.CA()
            authority.cert_pem.write_to_path(folder / "ca.pem")
            issued = authority.issue_cert("localhost")
            issued.private_key_pem.write_to_path(folder / "server.key")
            for number, part in enumerate(issued.cert_chain_pems):
                part.write_to_path(folder / "server.pem", append=number > 0)
        chosen = {name: ports.get(name) or free_port() for name in ("udp", "tcp", "tls")}
        config = folder / "rsyslog.conf"
        config.write_text(CONFIG.format(folder=folder, **chosen))
        server = await asyncio.create_subprocess_exec(
            *(str(program), "-n", "-f", str(config), "-i", str(folder / "pid")),
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(20):
                while not (folder / "log").exists() or not is_open(chosen["tls"]):
                    if server.returncode is not None:
                        _, said = await server.communicate()
                        raise AssertionError(said.decode())
                    await asyncio.sleep(0.02)
            yield Rsyslog(folder, chosen)
        finally:
            if server.returncode is None:
                server.kill()
            await server.communicate()
            (folder / "log").unlink(missing_ok=True)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
