"""TLS, with an authority that is made for one gateway."""

from __future__ import annotations

import ssl
import subprocess
import sys
import textwrap
from pathlib import Path

import aiohttp
import pytest

from penstock.engine.testing import Gateway, answer, cut, reset

from .support import CHAT, chat


async def test_speaks_tls_to_who_trusts_its_authority() -> None:
    pytest.importorskip("trustme")
    async with Gateway(tls=True, script=[answer("a")]) as gateway, aiohttp.ClientSession() as session:
        assert gateway.url.startswith("https://127.0.0.1:")
        async with session.post(gateway.url + CHAT, json=chat(stream=True), ssl=gateway.ssl_context()) as response:
            assert b'"content":"a"' in await response.read()
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.post(gateway.url + CHAT, json=chat(), ssl=ssl.create_default_context())


async def test_another_gateway_has_another_authority() -> None:
    pytest.importorskip("trustme")
    async with Gateway(tls=True) as gateway, Gateway(tls=True) as other, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(gateway.url + "/health", ssl=other.ssl_context())


async def test_file_of_the_authority_is_there_until_it_stops() -> None:
    pytest.importorskip("trustme")
    async with Gateway(tls=True) as gateway:
        path = Path(gateway.ca_file)
        assert gateway.ca_file == str(path)
        context = ssl.create_default_context(cafile=path)
        async with aiohttp.ClientSession() as session, session.get(gateway.url + "/health", ssl=context) as response:
            assert response.status == 200
    assert not path.exists()  # noqa: ASYNC240


async def test_connections_are_cut_and_reset_as_without_it() -> None:
    pytest.importorskip("trustme")
    async with Gateway(tls=True, script=[cut(after_events=2), reset()]) as gateway, aiohttp.ClientSession() as session:
        async with session.post(gateway.url + CHAT, json=chat(stream=True), ssl=gateway.ssl_context()) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        with pytest.raises(aiohttp.ClientOSError):
            await session.post(gateway.url + CHAT, json=chat(), ssl=gateway.ssl_context())


async def test_without_tls_there_is_nothing_to_trust(gateway: Gateway) -> None:
    for ask in (gateway.ssl_context, lambda: gateway.ca_file):
        with pytest.raises(RuntimeError, match=r"does not speak TLS; make it with Gateway\(tls=True\)"):
            ask()


def test_names_the_extra_where_there_is_nothing_to_make_certificates_with() -> None:
    program = """
    import sys
    sys.modules["trustme"] = None
    from penstock.testing import Gateway
    try:
        Gateway(tls=True)
    except ImportError as error:
        print(error)
    """
    told = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    assert "trustme, which is not installed: pip install 'penstock[testing]'" in told.stdout
