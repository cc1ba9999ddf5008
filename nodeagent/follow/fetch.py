# SPDX-License-Identifier: Apache-2.0
"""Fetches a threat list by HTTPS. Blocks, so it belongs into a thread."""

from __future__ import annotations

import os
import ssl
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Final

from nodeagent.detect.feeds import FEED_BYTES, FeedError, list_of
from nodeagent.errors import NodeagentError

__all__ = ["FETCH_SECONDS", "FetchError", "fetch", "harmless"]

FETCH_SECONDS: Final = 60.0


class FetchError(NodeagentError):
    """A list could not be fetched."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Whoever is redirected should know where to."""

    def redirect_request(self, *_: object) -> None:
        """None: it is an error."""


def fetch(url: str, tag: str, ca_file: str, file: Path) -> str | None:
    """Fetch a list and keep it in `file`; its ETag, or None when it is the same as before.

    Raises FetchError, and then the file is as it was.
    """
    headers = {"User-Agent": "nodeagent"}
    if tag and file.exists():
        headers["If-None-Match"] = tag
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
        opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=context), _NoRedirect()
        )
        # Only https, which `is_url` sees to.
        request = urllib.request.Request(url, headers=headers)  # noqa: S310
        with opener.open(request, timeout=FETCH_SECONDS) as answer:
            data = answer.read(FEED_BYTES + 1)
            new_tag = answer.headers.get("ETag", "")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == HTTPStatus.NOT_MODIFIED:
            return None
        where = error.headers.get("Location")
        more = f": set {harmless(where)}, redirects are not followed" if where else ""
        raise FetchError(f"the server answered {error.code}{more}") from error
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise FetchError(str(getattr(error, "reason", error))) from error
    if len(data) > FEED_BYTES:
        raise FetchError(f"it has more than {FEED_BYTES >> 20} MiB")
    if file.exists() and file.read_bytes() == data:
        return None
    try:
        # What an error page or a login looks like must not replace a list.
        list_of(data, url, "malware")
    except FeedError as error:
        raise FetchError(f"it is no list: {error}") from error
    _keep(file, data)
    return str(new_tag)


def _keep(file: Path, data: bytes) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(new, flags, 0o600), "wb") as out:  # noqa: PTH123  no symlinks
        out.write(data)
    new.replace(file)


def harmless(url: str) -> str:
    """Without what may be a key."""
    return url.partition("?")[0]
