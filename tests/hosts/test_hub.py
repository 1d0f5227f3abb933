"""Ids that can name a model, and what a hub that gives none means by it."""

from __future__ import annotations

import errno
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import errors
from huggingface_hub.utils._http import hf_raise_for_status

from emoray.hosts import hub

WANTED = "give a hub id (owner/model) or the folder of a model"


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


# ── ids ──


@pytest.mark.parametrize("id", ["gpt2", "org/model", "meta-llama/Meta-Llama-3-8B-Instruct", "a.b/c_d-1.5", "0x/1"])
def test_what_the_hub_would_take_is_an_id(id: str) -> None:
    assert hub.unusable(id) is None


def test_a_folder_is_one_wherever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "my own").mkdir(parents=True)
    for id in (str(tmp_path), "models/my own", "./models", "models"):
        assert hub.unusable(id) is None


@pytest.mark.parametrize(
    ("id", "sentence"),
    [
        ("./no/such", f"is './no/such', which is no folder here; {WANTED}"),
        ("/no/such", f"is '/no/such', which is no folder here; {WANTED}"),
        ("a/b/c", f"is 'a/b/c', which is no folder here; {WANTED}"),
        ("C:\\models\\x", f"is 'C:\\\\models\\\\x', which is no folder here; {WANTED}"),
        ("my model", f"is 'my model', which is neither a folder nor a hub id; {WANTED}"),
        (" org/model", f"is ' org/model', which is neither a folder nor a hub id; {WANTED}"),
        ("org/my model", f"is 'org/my model', which is neither a folder nor a hub id; {WANTED}"),
        ("org--model", f"is 'org--model', which is neither a folder nor a hub id; {WANTED}"),
        ("-org/model", f"is '-org/model', which is neither a folder nor a hub id; {WANTED}"),
        ("org/model.git", f"is 'org/model.git', which is neither a folder nor a hub id; {WANTED}"),
        ("modèle", f"is 'modèle', which is neither a folder nor a hub id; {WANTED}"),
        ("x" * 5000, f"is '{'x' * 100}…', which is neither a folder nor a hub id; {WANTED}"),
        (
            "llama3:8b",
            "is 'llama3:8b', which is neither a folder nor a hub id; a name with a colon is Ollama's, which host: "
            f"hosted_api asks; else {WANTED}",
        ),
        ("https://huggingface.co/org/model", "is 'https://huggingface.co/org/model', an address; write org/model"),
        ("huggingface.co/org/model/tree/main", "is 'huggingface.co/org/model/tree/main', an address; write org/model"),
        ("hf://org/model@main", "is 'hf://org/model@main', an address; write org/model"),
        ("https://huggingface.co/gpt2", "is 'https://huggingface.co/gpt2', an address; write gpt2"),
        ("hf://gpt2", "is 'hf://gpt2', an address; write gpt2"),
        ("file:///models/m", "is 'file:///models/m', an address; write /models/m"),
        ("ftp://a/m", f"is 'ftp://a/m', an address; {WANTED}"),
        ("https://example.com/m", f"is 'https://example.com/m', an address; {WANTED}"),
        ("s3://bucket/model", f"is 's3://bucket/model', an address; host: vllm loads from there; else {WANTED}"),
    ],
)
def test_what_can_be_no_model_is_told_with_what_to_do(id: str, sentence: str) -> None:
    assert hub.unusable(id) == sentence


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    said = hub.unusable(str(tmp_path / "model.safetensors"))
    assert said is not None
    assert said.endswith("a file; give the folder that it lies in, which must hold config.json and the weights")


def test_a_home_is_written_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert hub.unusable("~/model") == "is '~/model', which is no folder here; write it in full: /home/me/model"


def test_a_folder_of_another_machine_is_not_looked_for_here() -> None:
    assert hub.unusable("/shared/model", here=False) is None
    assert hub.unusable("my model", here=False) is not None


@pytest.mark.parametrize("id", ["s3://bucket/model", "gs://bucket/model", "unsloth/Qwen-GGUF:Q4_0", "./m.gguf"])
def test_vllm_takes_more(id: str) -> None:
    assert hub.unusable(id, vllm=True) is None
    assert hub.unusable(id) is not None


# ── the hub ──


def answered(status: int, **headers: str) -> BaseException:
    """What huggingface_hub raises for an answer of the hub."""
    request = httpx2.Request("HEAD", "https://huggingface.co/api/models/org/model/resolve/main/config.json")
    response = httpx2.Response(
        status, request=request, headers={f"X-{k.replace('_', '-')}": v for k, v in headers.items()}
    )
    with pytest.raises(errors.HfHubHTTPError) as told:
        hf_raise_for_status(response)
    return told.value


def behind(wrong: BaseException) -> OSError:
    """As transformers tells it: in words of its own, the cause behind it."""
    local, whole = errors.LocalEntryNotFoundError("Please check your connection"), OSError("We couldn't connect")
    local.__cause__, whole.__cause__ = wrong, local
    return whole


def test_a_gated_model_says_what_to_ask_for_and_where_the_token_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    gated = answered(403, Error_Code="GatedRepo")
    assert isinstance(gated, errors.GatedRepoError)
    cause, hint = hub.told(gated) or ("", "")
    assert cause == "the model is gated: its owner must grant access"
    assert hint == "ask for access on its page of the hub, and set HF_TOKEN in the environment of the run's actors"
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert "with the account that the token in HF_TOKEN belongs to" in (hub.told(gated) or ("", ""))[1]


@pytest.mark.parametrize(
    ("status", "headers", "cause", "hint"),
    [
        (429, {}, "the hub is busy (429, too many requests)", "run the same command later"),
        (503, {}, "the hub is busy or has trouble (503)", "run the same command later"),
        (500, {}, "the hub is busy or has trouble (500)", "run the same command later"),
        (404, {"Error_Code": "RepoNotFound"}, "the hub has no such model, or it is private", "HF_TOKEN"),
        (401, {}, "the hub has no such model, or it is private", "HF_TOKEN"),
        (404, {"Error_Code": "RevisionNotFound"}, "the hub has no such revision of the model", "check revision"),
        (403, {}, "the hub refuses the request (403)", "HF_TOKEN"),
        (403, {"Error_Message": "Access to this resource is disabled."}, "the hub has disabled the model", "another"),
    ],
)
def test_an_answer_of_the_hub_is_told_by_what_it_is(
    status: int, headers: dict[str, str], cause: str, hint: str
) -> None:
    wrong = answered(status, **headers)
    for told in (hub.told(wrong), hub.told(behind(wrong))):
        assert told is not None
        assert told.cause == cause
        assert hint in told.hint


@pytest.mark.parametrize(
    "wrong",
    [
        httpx2.ConnectError("[Errno -3] Temporary failure in name resolution"),
        httpx2.ConnectTimeout("timed out"),
        httpx2.ReadTimeout("timed out"),
        httpx2.ProxyError("403 Forbidden"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
    ],
)
def test_a_hub_that_is_out_of_reach_is_told_as_that(wrong: Exception) -> None:
    for told in (hub.told(wrong), hub.told(behind(wrong))):
        assert told is not None
        assert told.cause == "the hub cannot be reached from here, and the model is not in the cache"
        assert "HTTPS_PROXY" in told.hint


def test_offline_and_a_full_disk_are_told_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    told = hub.told(behind(errors.OfflineModeIsEnabled("offline mode is enabled")))
    assert told == (
        "HF_HUB_OFFLINE is set, and the model is not in the cache",
        "unset it, or give the folder of a model",
    )
    with monkeypatch.context() as offline:
        offline.setenv("HF_HUB_OFFLINE", "1")
        assert hub.told(errors.LocalEntryNotFoundError("not in the cache")) == told
    told = hub.told(OSError(errno.ENOSPC, "No space left on device"))
    assert told == ("the disk of the hub's cache is full", "make room, or name a larger one in HF_HOME")


@pytest.mark.parametrize(
    "wrong", [ValueError("no such architecture"), OSError("no file named config.json"), KeyError("x")]
)
def test_what_the_hub_has_no_part_in_is_left_to_others(wrong: Exception) -> None:
    assert hub.told(wrong) is None


def test_a_file_that_the_model_lacks_is_left_to_who_wanted_it() -> None:
    assert hub.told(answered(404, Error_Code="EntryNotFound")) is None


class Gate(http.server.BaseHTTPRequestHandler):
    """A hub all of whose models are gated."""

    def do_HEAD(self) -> None:
        self.send_response(403)
        self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815 (http.server calls it so)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


LOADING = """
from emoray.hosts.protocol import HostDown
from emoray.hosts.transformers import TransformersHost
from emoray.readers.protocol import ReaderDown
from emoray.readers.goemotions import GoEmotions
from emoray.spec.readers import GoEmotionsReader
from emoray.spec.models import Local
for load in (
    lambda: TransformersHost(Local(host="transformers", name="m", id="org/model")),
    lambda: GoEmotions(GoEmotionsReader(kind="goemotions", name="r", model="org/model")),
):
    try:
        load()
    except (HostDown, ReaderDown) as down:
        print(down)
"""


def test_hosts_and_readers_tell_it_alike(tmp_path: Path) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    there = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path)}
    there |= {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", LOADING], capture_output=True, text=True, check=True, env=os.environ | there
    )
    server.shutdown()
    server.server_close()
    gated = (
        "(org/model) cannot be loaded: the model is gated: its owner must grant access; ask for access on its page of "
        "the hub, and set HF_TOKEN in the environment of the run's actors"
    )
    assert done.stdout.splitlines() == [f"model 'm' {gated}", f"reader 'r' {gated}"]
