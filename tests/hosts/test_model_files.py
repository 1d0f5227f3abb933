"""What a model's files say before it is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emoray.hosts.model_files import chat_template, generation_config
from emoray.spec.models import Local, Vllm


def local(id: Any, **settings: Any) -> Local:
    return Local(host="transformers", name="m", id=str(id), **settings)


def written(folder: Path, **files: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_a_folder_says_what_its_generation_config_says(tmp_path: Path) -> None:
    folder = written(tmp_path, config__json={"top_k": 5}, generation_config__json={"top_k": 20})
    assert generation_config(local(folder)) == {"top_k": 20}
    (folder / "generation_config.json").unlink()
    assert generation_config(local(folder)) == {"top_k": 5}  # as older models have it


@pytest.mark.parametrize(
    "id", ["org/never-downloaded", "s3://bucket/model", "/no/such/folder", "not a hub id / at all"]
)
def test_of_a_model_that_is_not_here_nothing_is_known(id: str) -> None:
    assert generation_config(local(id)) is None
    assert chat_template(local(id)) == ""


def test_of_a_hub_id_the_files_that_were_downloaded_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    repository = tmp_path / "models--org--m"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    written(repository / "snapshots" / "abc", generation_config__json={"top_p": 0.5}, chat_template__jinja="{{ x }}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert generation_config(local("org/m")) == {"top_p": 0.5}
    assert generation_config(local("org/m", revision="abc")) == {"top_p": 0.5}
    assert generation_config(local("org/m", revision="other")) is None
    assert chat_template(local("org/m")) == "{{ x }}"


def test_a_template_is_found_wherever_families_keep_it(tmp_path: Path) -> None:
    inside = written(tmp_path / "a", tokenizer_config__json={"chat_template": "{{ enable_thinking }}"})
    several = [{"name": "default", "template": "{{ messages }}"}, {"name": "think", "template": "<think>"}]
    named = written(tmp_path / "b", tokenizer_config__json={"chat_template": several})
    beside = written(tmp_path / "c", chat_template__jinja="<think>", tokenizer_config__json={})
    processor = written(tmp_path / "d", chat_template__json={"chat_template": "<think>"})
    assert chat_template(local(inside)) == "{{ enable_thinking }}"
    for folder in (named, beside, processor):
        assert "<think>" in chat_template(local(folder))
    own = Vllm(host="vllm", name="m", id=str(inside), chat_template="{{ messages }}")
    assert chat_template(own) == "{{ messages }}"
    elsewhere = Vllm(host="vllm", name="m", id=str(inside), engine_kwargs={"tokenizer": str(beside)})
    assert chat_template(elsewhere) == "<think>"


def test_broken_files_say_nothing(tmp_path: Path) -> None:
    folder = written(tmp_path, generation_config__json="{", tokenizer_config__json="[1]")
    assert generation_config(local(folder)) == {}
    assert chat_template(local(folder)) == ""
