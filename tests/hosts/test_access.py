"""The way to a provider: keys and proxies of the environment."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from aiohttp import web

from emoray.errors import UserError
from emoray.hosts.access import key_in, proxy_of
from emoray.hosts.hosted_api import HostedApi
from emoray.hosts.protocol import HostDown
from emoray.rate_limits.local import LocalLimiter
from emoray.rehearsal.responses import completion
from emoray.run_folder import manifest
from emoray.spec.accounts import Account
from emoray.spec.load import parse
from emoray.stream import told_keys
from emoray.stream.accounts import check_keys
from tests.hosts.raw import responses, writing
from tests.hosts.test_hosted_api import asks, entry, kinds, patient, serving, until_down

HOSTED = """
name: t
accounts: {lab: {base_url: "http://10.1.2.3:8000/v1", key_env: LAB_KEY}}
models: [{name: a, host: hosted_api, account: lab, id: x}]
states: 3
"""
KEYED = """
name: t
accounts: {lab: {base_url: "http://10.1.2.3:8000/v1"}}
models: [{name: a, host: hosted_api, account: lab, id: x, extra_body: {api_key: KEY}}]
readers:
  - kind: judge
    name: j
    model: {name: b, host: hosted_api, account: lab, id: x, extra_body: {headers: {x-api-key: KEY}}}
states: 3
"""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{kind}_proxy", raising=False)
        monkeypatch.delenv(f"{kind}_proxy".upper(), raising=False)


@pytest.mark.parametrize(("text", "key"), [("sk-1\n", "sk-1"), (" sk-1\r\n", "sk-1"), ("\tsk-1", "sk-1"), ("\n", "")])
def test_blanks_around_a_key_are_none_of_it(text: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", text)
    assert key_in("LAB_KEY") == key


@pytest.mark.parametrize("text", ["sk-canary\n2", "sk-canary\t2", "sk-canary-ü", "\u200bsk-canary"])
def test_a_run_with_a_key_that_cannot_be_sent_is_refused_before_it_begins(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_KEY", text)
    with pytest.raises(
        UserError, match=r"accounts\.lab\.key_env names the environment variable LAB_KEY, which"
    ) as said:
        check_keys(parse(HOSTED).spec)
    assert "canary" not in str(said.value)


@pytest.mark.parametrize(
    "settings",
    [
        '{"api_key": %s}',
        '{"headers": [{"X-Api-Key": %s}]}',
        '{"a": {"Authorization": %s}}',
        '{"hf_token": %s}',
        '{"authentication": {"type": "api_key", "key": %s}}',
        '{"headers": [{"name": "Authorization", "value": %s}]}',
        '{"a": [[%s]]}',
    ],
)
def test_a_key_among_settings_of_others_is_refused_for_it_would_be_kept(settings: str) -> None:
    keyless = HOSTED.replace(", key_env: LAB_KEY", "")
    asks_with = keyless.replace("id: x}", f"id: x, extra_body: {settings % json.dumps('sk-canary')}}}")
    with pytest.raises(UserError, match=r"model 'a': extra_body holds a key \(") as said:
        check_keys(parse(asks_with).spec)
    assert "canary" not in str(said.value)


@pytest.mark.parametrize(
    "innocent",
    [
        '{"prompt_cache_key": "t"}',
        '{"key": "t"}',
        '{"type": "string", "key": "t"}',
        '{"api_key": null, "max_tokens": 5}',
        '{"api_key": " "}',
        '{"chat_template_kwargs": {"auth_token": "t"}}',
    ],
)
def test_what_is_no_key_is_sent(innocent: str) -> None:
    keyless = HOSTED.replace(", key_env: LAB_KEY", "")
    check_keys(parse(keyless.replace("id: x}", f"id: x, extra_body: {innocent}}}")).spec)


@pytest.mark.parametrize(("value", "is_key"), [("<|auth|>", False), ("1f0d3a55c2e94b7797e1", True)])
def test_what_a_chat_template_calls_a_token_is_no_key_where_it_is_a_word(value: str, is_key: bool) -> None:
    entry = {"name": "a", "host": "transformers", "id": "x", "chat_template_kwargs": {"auth_token": value}}
    spec = {"name": "t", "models": [entry], "states": 3}
    told = told_keys.in_spec(parse(json.dumps(spec)).spec)
    assert [one.whose for one in told] == ["model 'a'"] * is_key


def test_a_run_whose_folder_has_the_key_already_goes_on_with_it_and_is_warned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    study = parse(KEYED.replace("KEY", "sk-canary"))
    kept = manifest.fresh(study)
    check_keys(study.spec, kept)
    said = capsys.readouterr().err
    assert "warning: model 'a': extra_body holds a key (api_key), which stands in run.json" in said
    assert "warning: reader 'j': extra_body holds a key (x-api-key)" in said
    assert "canary" not in said
    with pytest.raises(UserError, match=r"model 'a': extra_body holds a key \(api_key\).*key_env"):
        check_keys(parse(KEYED.replace("KEY", "sk-another")).spec, kept)


def test_a_key_of_blanks_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", " \n")
    with pytest.raises(UserError, match="LAB_KEY, which is not set"):
        check_keys(parse(HOSTED).spec)


@pytest.mark.parametrize(
    "url", ["http://[::1", "https://", "http://host:99999/v1", "http://a b/v1", "http://h\u0007/v1"]
)
def test_a_base_url_that_is_no_address_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(UserError, match=r"accounts\.lab\.base_url: .*is no address"):
        parse(HOSTED.replace('"http://10.1.2.3:8000/v1"', json.dumps(url)))


def test_a_base_url_with_the_endpoint_is_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match="which is added to it"):
        parse(HOSTED.replace(":8000/v1", ":8000/v1/chat/completions"))


@pytest.mark.parametrize(
    ("url", "no", "passed_by"),
    [
        ("http://10.1.2.3:8000/v1", "10.1.2.3:8000", True),
        ("http://10.1.2.3:8000/v1", "10.1.2.3:9000", False),
        ("http://10.1.2.3:8000/v1", "10.1.2.3", True),
        ("http://10.1.2.3:8000/v1", "10.0.0.0/8", True),
        ("http://10.1.2.3:8000/v1", "192.168.0.0/16, 10.1.2.3 ", True),
        ("http://10.1.2.3:8000/v1", "*", True),
        ("http://api.lab.edu/v1", "lab.edu", True),
        ("http://api.lab.edu/v1", ".lab.edu", True),
        ("http://api.lab.edu/v1", "*.lab.edu", True),
        ("http://api.lab.edu/v1", "lab.edu:80", True),
        ("https://api.lab.edu/v1", "lab.edu:80", False),
        ("http://mylab.edu/v1", "lab.edu", False),
        ("http://[::1]:8000/v1", "[::1]:8000", True),
        ("http://[::1]:8000/v1", "::1", True),
        ("http://API.lab.edu/v1", "api.LAB.edu", True),
        ("http://api.lab.edu/v1", "", False),
    ],
)
def test_what_no_proxy_names_is_asked_without_one(
    url: str, no: str, passed_by: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://proxy.lab:3128")
    monkeypatch.setenv("NO_PROXY", no)
    assert (proxy_of(url) is None) is passed_by


def test_a_proxy_for_the_scheme_comes_before_one_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy_of("https://api.lab.edu/v1") is None
    monkeypatch.setenv("ALL_PROXY", "http://all.lab:3128")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:s%40cret@tls.lab:3128")
    plain, tls = proxy_of("http://api.lab.edu/v1"), proxy_of("https://api.lab.edu/v1")
    assert plain is not None
    assert tls is not None
    assert plain.url == "http://all.lab:3128"
    assert tls == ("http://tls.lab:3128", f"Basic {b64encode(b'me:s@cret').decode()}")


@pytest.mark.parametrize(
    ("proxy", "said"),
    [
        ("canary.lab:3128", "without a scheme"),
        ("socks5://u:canary@proxy.lab:1080", "speaks socks5"),
        ("socks5h://canary:1080", "speaks socks5h"),
        ("http://canary:99999", "cannot be read"),
        ("http://", "cannot be read"),
    ],
)
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "all_proxy"])
def test_a_proxy_that_cannot_be_used_is_refused_by_the_name_of_its_variable(
    proxy: str, said: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(HostDown, match=f"{variable.upper()} names a proxy {said}|{variable.upper()} .*{said}") as wrong:
        HostedApi(entry(), Account(base_url="http://10.1.2.3/v1"), patient(), LocalLimiter())
    assert "canary" not in str(wrong.value)


def test_a_provider_is_asked_through_the_proxy_with_the_name_and_password_of_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[str, str | None]] = []

    async def forwards(request: web.Request) -> web.Response:
        seen.append((str(request.url), request.headers.get("Proxy-Authorization")))
        asked: dict[str, Any] = await request.json()
        return web.json_response(completion(asked, "Yes.", ""))

    with serving(forwards) as url:
        monkeypatch.setenv("ALL_PROXY", url.replace("http://", "http://me:secret@"))
        host = HostedApi(entry(), Account(base_url="http://provider.invalid/v1"), patient(), LocalLimiter())
        assert kinds(list(host.generate(asks(2)))) == {"answer": 2}
        host.close()
    assert {address for address, _ in seen} == {"http://provider.invalid/v1/chat/completions"}
    assert {sent for _, sent in seen} == {"Basic bWU6c2VjcmV0"}


def test_a_proxy_that_wants_a_login_before_it_leads_on_ends_the_lane_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with writing(lambda _: responses(b"407 Proxy Authentication Required", b"")) as (url, requests):
        monkeypatch.setenv("HTTPS_PROXY", url)
        host = HostedApi(entry(), Account(base_url="https://provider.invalid/v1"), patient(), LocalLimiter())
        replies, stopped = until_down(host, asks(1))
        host.close()
    assert "the proxy before https://provider.invalid/v1 wants a login (407: Proxy Authentication" in str(stopped)
    assert len(requests) == 1
    assert [reply.outcome.cost_usd for reply in replies] == [None]
