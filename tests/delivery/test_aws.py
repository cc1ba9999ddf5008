# SPDX-License-Identifier: Apache-2.0
"""Signatures like those of botocore, and credentials from wherever a process gets them."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.errors import Retry
from sinks.aws import Credentials, CredentialSource, sign
from sinks.https import Https
from tests.delivery.receiver import receiving
from tests.delivery.test_https_sink import a_batch

KEYS = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
LATER = datetime.fromtimestamp(time.time() + 3600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
ANSWER = {
    "AccessKeyId": "ASIA1",
    "SecretAccessKey": "secret1",
    "Token": "session1",
    "Expiration": LATER,
}
WORDS = st.text("abcXYZ019-_.~ /%+=&é", max_size=20)


def by_botocore(
    url: str, headers: Mapping[str, str], body: bytes, keys: Credentials, moment: str
) -> str:
    request = AWSRequest("POST", url, headers=dict(headers), data=body)
    auth = SigV4Auth(
        BotoCredentials(keys.access_key, keys.secret_key, keys.token or None),
        "execute-api",
        "eu-west-1",
    )
    request.context["timestamp"] = moment
    request.headers["X-Amz-Date"] = moment
    if keys.token:
        request.headers["X-Amz-Security-Token"] = keys.token
    request.headers["X-Amz-Content-SHA256"] = auth.payload(request)
    text = auth.string_to_sign(request, auth.canonical_request(request))
    return str(auth.signature(text, request))


@given(
    # A client takes segments like .. out of the path before it is sent.
    path=st.lists(st.text("abcXYZ019-_.~", min_size=1).filter(lambda t: t.strip(".")), max_size=4),
    query=st.dictionaries(st.text("abc", min_size=1, max_size=3), WORDS, max_size=3),
    value=st.text("abc xyz", max_size=20),
    body=st.binary(max_size=100),
    token=st.sampled_from(["", "a+session/token=="]),
)
def test_signature_is_that_of_botocore(
    path: list[str], query: dict[str, str], value: str, body: bytes, token: str
) -> None:
    request = AWSRequest("POST", f"https://api.example/{'/'.join(path)}", params=query)
    url = str(request.prepare().url)
    keys = Credentials(KEYS.access_key, KEYS.secret_key, token)
    headers = {"Content-Type": "application/json", "X-Own": value}
    now = 1_764_025_869.0
    added = sign(
        "POST", url, headers, body, keys, region="eu-west-1", service="execute-api", now=now
    )
    expected = by_botocore(url, headers, body, keys, added["X-Amz-Date"])
    assert added["Authorization"].endswith(f"Signature={expected}")
    assert added.get("X-Amz-Security-Token", "") == token


Handler = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def source(environment: Mapping[str, str]) -> AsyncIterator[CredentialSource]:
    """With the requests of a real sink."""
    settings = {"url": "http://127.0.0.1:1/", "aws_service": "x", "aws_region": "eu-west-1"}
    sink = Https(Https.Config(**settings))  # type: ignore[arg-type]
    await sink.open()
    try:
        yield CredentialSource(sink._client.ask, environment)
    finally:
        await sink.close()


async def test_keys_of_the_environment_come_first() -> None:
    given_keys = {
        "AWS_ACCESS_KEY_ID": "AK",
        "AWS_SECRET_ACCESS_KEY": "SK",
        "AWS_SESSION_TOKEN": "ST",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1/",
    }
    async with source(given_keys) as credentials:
        assert await credentials.get() == Credentials("AK", "SK", "ST")


async def test_instance_role_is_asked_by_the_second_version() -> None:
    seen = []

    async def handle(request: web.Request) -> web.Response:
        seen.append((request.method, request.path))
        if request.method == "PUT":
            assert request.headers["X-aws-ec2-metadata-token-ttl-seconds"]
            return web.Response(text="token")
        if request.headers.get("X-aws-ec2-metadata-token") != "token":
            return web.Response(status=401)
        if request.path.endswith("/security-credentials/"):
            return web.Response(text="the-role")
        return web.json_response(ANSWER)

    async with (
        serving(handle) as endpoint,
        source({"AWS_EC2_METADATA_SERVICE_ENDPOINT": endpoint}) as credentials,
    ):
        keys = await credentials.get()
        assert (keys.access_key, keys.secret_key, keys.token) == ("ASIA1", "secret1", "session1")
        await credentials.get()
    assert len(seen) == 3


async def test_pod_identity_shows_the_token_of_its_file(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("pod-token\n")

    async def handle(request: web.Request) -> web.Response:
        right = request.headers.get("Authorization") == "Bearer pod-token".removeprefix("Bearer ")
        return web.json_response(ANSWER) if right else web.Response(status=403)

    async with serving(handle) as endpoint:
        environment = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{endpoint}/v1/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token),
        }
        async with source(environment) as credentials:
            assert (await credentials.get()).access_key == "ASIA1"


async def test_web_identity_becomes_a_role(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a.jwt.token")
    xml = f"""<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
      <AssumeRoleWithWebIdentityResult><Credentials>
        <AccessKeyId>ASIA2</AccessKeyId><SecretAccessKey>secret2</SecretAccessKey>
        <SessionToken>session2</SessionToken><Expiration>{LATER}</Expiration>
      </Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""

    async def handle(request: web.Request) -> web.Response:
        assert request.query["WebIdentityToken"] == "a.jwt.token"
        assert request.query["RoleArn"] == "arn:aws:iam::1:role/agent"
        return web.Response(text=xml)

    async with serving(handle) as endpoint:
        environment = {
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
            "AWS_ROLE_ARN": "arn:aws:iam::1:role/agent",
            "AWS_ENDPOINT_URL_STS": endpoint,
        }
        async with source(environment) as credentials:
            assert (await credentials.get()).token == "session2"


async def test_keys_are_fetched_again_before_they_expire() -> None:
    served = 0

    async def handle(_: web.Request) -> web.Response:
        nonlocal served
        served += 1
        return web.json_response(ANSWER | {"AccessKeyId": f"ASIA{served}"})

    async with serving(handle) as endpoint:
        environment = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": endpoint}
        async with source(environment) as credentials:
            end = (await credentials.get()).expires
            assert end is not None
            assert (await credentials.get(end - 400)).access_key == "ASIA1"
            assert (await credentials.get(end - 200)).access_key == "ASIA2"


async def test_old_keys_serve_while_no_new_ones_can_be_had() -> None:
    broken = False

    async def handle(_: web.Request) -> web.Response:
        return web.Response(status=500) if broken else web.json_response(ANSWER)

    async with (
        serving(handle) as endpoint,
        source({"AWS_CONTAINER_CREDENTIALS_FULL_URI": endpoint}) as credentials,
    ):
        end = (await credentials.get()).expires
        assert end is not None
        broken = True
        assert (await credentials.get(end - 100)).access_key == "ASIA1"
        with pytest.raises(Retry, match="answered 500"):
            await credentials.get(end + 100)


@pytest.mark.parametrize(
    "answer", [b"<html>", b"{}", b"", json.dumps(ANSWER | {"Expiration": "soon"}).encode()]
)
async def test_answer_without_keys_is_told(answer: bytes) -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=answer)

    async with (
        serving(handle) as endpoint,
        source({"AWS_CONTAINER_CREDENTIALS_FULL_URI": endpoint}) as credentials,
    ):
        with pytest.raises(Retry, match="no AWS credentials"):
            await credentials.get()


async def test_keys_are_not_asked_from_strangers_without_tls() -> None:
    environment = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://evil.example/"}
    async with source(environment) as credentials:
        with pytest.raises(Retry, match="neither local nor https"):
            await credentials.get()


async def test_sink_signs_what_it_posts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_key)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    async with receiving() as receiver:
        url = f"http://127.0.0.1:{receiver.port}/prod/events?tenant=blue"
        sink = Https(Https.Config(url=url, aws_service="execute-api", compression="none"))
        await sink.open()
        await sink.send(a_batch())
        await sink.close()
    (request,) = receiver.requests
    headers = request.headers
    _, _, names = headers["Authorization"].partition("SignedHeaders=")
    signed = {name: headers[name] for name in names.partition(",")[0].split(";")}
    own = {k: v for k, v in signed.items() if not k.startswith("x-amz") and k != "host"}
    expected = by_botocore(url, own, request.body, KEYS, headers["X-Amz-Date"])
    assert headers["Authorization"].endswith(f"Signature={expected}")


def test_secrets_are_not_shown_by_accident() -> None:
    shown: Any = repr(Credentials("AKID", "the-secret", "the-token"))
    assert "the-secret" not in shown
    assert "the-token" not in shown
