# SPDX-License-Identifier: Apache-2.0
"""The control socket: whoever owns the agent asks it how it is.

A question is one line of JSON, `{"ask": "status"}`, the answer another one; then the agent
hangs up. Only root and the agent's own user may ask.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from nodeagent.errors import ControlError, NodeagentError

__all__ = ["Answer", "Control", "Handing", "ask", "take"]

log: Final = logging.getLogger(__name__)

QUESTION_BYTES: Final = 4096
ANSWER_BYTES: Final = 16 << 20
DESCRIPTORS: Final = 1
"""That come with an answer, at most."""
PATIENCE_SECONDS: Final = 5.0
CREDENTIALS: Final = struct.Struct("iII")
"""`struct ucred`: pid, uid, gid."""

Answer = Callable[[], Mapping[str, object] | Awaitable[Mapping[str, object]]]
Handing = Callable[[int], tuple[Mapping[str, object], list[int]]]
"""Takes the pid of who asks; gives an answer, and descriptors that go with it."""


class _Question(msgspec.Struct):
    ask: str


class Control:
    """Serves the socket. `serve()` runs until cancelled."""

    def __init__(
        self,
        path: Path,
        answers: Mapping[str, Answer],
        troubles: MutableMapping[str, str],
        handing: Mapping[str, Handing] | None = None,
    ) -> None:
        """`answers` and what is `handing` by the word that asks for them. Nothing is opened yet.

        `troubles` gets what is wrong, by its code.
        """
        self._troubles = troubles
        self._path = path
        self._answers = answers
        self._handing = handing or {}

    async def serve(self) -> None:
        """A socket that cannot be made is told, and the agent goes on without."""
        try:
            server = await self._listen()
        except OSError as error:
            log.warning("no_control socket=%s why=%s", self._path, error.strerror or error)
            return
        try:
            await server.serve_forever()
        finally:
            server.close()
            self._path.unlink(missing_ok=True)

    async def _listen(self) -> asyncio.Server:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._path.is_socket():
            if _is_served(self._path):
                self._troubles["ANOTHER_AGENT"] = f"another agent serves {self._path}"
                raise OSError(0, "another agent serves it")
            # Of one that was killed.
            self._path.unlink()
        # From the first moment on with its permissions.
        mask = os.umask(0o177)
        try:
            return await asyncio.start_unix_server(
                self._on_connect, str(self._path), limit=QUESTION_BYTES
            )
        finally:
            os.umask(mask)

    async def _on_connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                question = await reader.readuntil(b"\n")
            await self._reply(question, writer)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # Whoever asked has gone, or never asked.
            pass
        finally:
            writer.close()

    async def _reply(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        peer: socket.socket = writer.get_extra_info("socket")
        pid, uid = _owner(peer)
        descriptors: list[int] = []
        try:
            if uid not in {0, os.geteuid()}:
                raise ControlError("only root and the user of the agent may ask")
            answer, descriptors = await self._answer(_word(line), pid)
        except NodeagentError as error:
            answer = {"error": str(error)}
        if not descriptors:
            writer.write(_line(answer))
            return
        with peer.dup() as handed:
            # The first that is written, and short: it fits.
            socket.send_fds(handed, [_line(answer)], descriptors)

    async def _answer(self, word: str, pid: int) -> tuple[Mapping[str, object], list[int]]:
        handing = self._handing.get(word)
        if handing is not None:
            return handing(pid)
        answer = self._answers.get(word)
        if answer is None:
            known = ", ".join([*self._answers, *self._handing])
            raise ControlError(f"nobody answers {word!r}; known are: {known}")
        said = answer()
        return await said if inspect.isawaitable(said) else said, []


def ask(path: Path, word: str, patience_seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
    """The answer of a running agent; raises ControlError."""
    answer, _, _ = take(path, word, patience_seconds)
    return answer


def take(
    path: Path, word: str, patience_seconds: float = PATIENCE_SECONDS
) -> tuple[dict[str, Any], int, list[int]]:
    """The answer of a running agent, its pid, and descriptors that it gives away, if any.

    Raises ControlError.
    """
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(patience_seconds)
            client.connect(str(path))
            client.sendall(_line({"ask": word}))
            pid, _ = _owner(client)
            raw, descriptors, _, _ = socket.recv_fds(client, QUESTION_BYTES, DESCRIPTORS)
            with client.makefile("rb") as answers:
                raw += b"" if raw.endswith(b"\n") else answers.readline(ANSWER_BYTES)
        answer = msgspec.json.decode(raw, type=dict[str, Any])
    except TimeoutError as error:
        raise ControlError(f"the agent behind {path} does not answer") from error
    except (BrokenPipeError, ConnectionResetError) as error:
        raise ControlError(f"what answers at {path} is no agent: it hangs up") from error
    except OSError as error:
        raise ControlError(
            f"no agent answers at {path} ({error.strerror}): is it running, and are you root?"
        ) from error
    except msgspec.MsgspecError as error:
        raise ControlError(f"what answers at {path} is no agent: {error}") from error
    if "error" in answer:
        raise ControlError(f"the agent behind {path} says: {answer['error']}")
    return answer, pid, descriptors


def _word(line: bytes) -> str:
    try:
        return msgspec.json.decode(line, type=_Question).ask
    except msgspec.MsgspecError as error:
        raise ControlError(f"no question: {error}") from error


def _owner(peer: socket.socket) -> tuple[int, int]:
    """Pid and uid of the other side."""
    raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    pid, uid, _ = CREDENTIALS.unpack(raw)
    return pid, uid


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def _line(answer: Mapping[str, object]) -> bytes:
    return orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE)
