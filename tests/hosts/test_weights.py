"""A head start for weights, which never stands in anybody's way."""

from __future__ import annotations

from pathlib import Path

from emoray.hosts.weights import fetch, has_weights
from emoray.spec.models import Hosted, Scripted, Vllm


def test_the_weights_of_a_folder_are_read_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "model-00001.safetensors").write_bytes(b"x" * 70_000)
    (tmp_path / "model-00002.safetensors").write_bytes(b"y" * 30_000)
    (tmp_path / "notes.bin").write_bytes(b"z" * 10)

    assert fetch(str(tmp_path), None) == 100_000


def test_what_cannot_be_fetched_is_left_to_the_engine_to_tell() -> None:
    assert fetch("nobody/has-this-model", "main") == 0  # tests have no network


def test_only_models_that_run_here_have_weights_to_fetch() -> None:
    assert has_weights(Vllm(host="vllm", name="m", id="some/model"))
    assert not has_weights(Vllm(host="vllm", name="m", id="s3://bucket/model"))
    assert not has_weights(Hosted(host="hosted_api", name="m", id="gpt", account="a"))
    assert not has_weights(Scripted(host="scripted", name="m"))
