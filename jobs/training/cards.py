"""The two model cards, filled with figures that were measured on the folders they lie in."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import AutoModel

from training.corpus import matter_of_fact, tones
from training.generator import COURSE, SHAPE
from training.generator_figures import Agreement, GeneratorFigures
from training.reader import STUDENT
from training.reader_figures import ReaderFigures

OLDER = " and 4.57"  # tried by hand: also reads both folders


def write_reader_card(folder: Path, figures: ReaderFigures, minutes: float) -> None:
    config = _config(folder)
    values = asdict(figures) | _file_facts(folder) | {
        "layers": config["num_hidden_layers"], "vocabulary": config["vocab_size"],
        "positions": config["max_position_embeddings"], "minutes": round(minutes),
        "student": f"learning rate {STUDENT.learning_rate:g}, {STUDENT.epochs} epochs, batch {STUDENT.batch}",
        "f1": ", ".join(f"{label} {value:.2f}" for label, value in figures.f1.items()),
        "confusions": ", ".join(f"{true} → {said} {count}" for true, said, count in figures.confusions),
    }  # fmt: skip
    _fill(folder, "reader_card.md", values)


def write_generator_card(folder: Path, figures: GeneratorFigures, minutes: float) -> None:
    config, course = _config(folder), COURSE
    tables = {"by_state": figures.by_state, "by_template": figures.by_template, "by_intensity": figures.by_intensity}
    plain = {"template `parameters`, intensity 1, twelve states": figures.plain} | figures.by_condition
    values = asdict(figures) | _file_facts(folder) | {name: _table(rows) for name, rows in tables.items()} | {
        "plain": _table(plain), "answers": figures.plain.answers, "minutes": round(minutes),
        "shuffled_mean": figures.shuffled[0], "shuffled_high": figures.shuffled[1],
        "layers": SHAPE.layers, "hidden": SHAPE.hidden, "vocabulary": config["vocab_size"],
        "steps": course.steps, "prompts": course.prompts, "per_prompt": course.answers,
        "sentences": sum(len(list(tone.sentences())) for tone in (*tones(), matter_of_fact())),
    }  # fmt: skip
    _fill(folder, "generator_card.md", values)


def sha256(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def _file_facts(folder: Path) -> dict[str, Any]:
    count = sum(parameter.numel() for parameter in AutoModel.from_pretrained(folder).parameters())
    size = (folder / "model.safetensors").stat().st_size
    facts = {"parameters": f"{count / 1e6:.1f}", "megabytes": size / 1e6, "sha256": sha256(folder)}
    return facts | {"older": OLDER, "seen": "measured beside other work on the same machine"}


def _table(rows: Mapping[str, Agreement]) -> str:
    return "\n".join(
        f"| {name} | {row.answers} | {row.neutral_zero:.2f} | {row.neutral_out:.2f} | {row.mean_place:.2f} "
        f"| {row.read_neutral:.0%} |"
        for name, row in rows.items()
    )


def _fill(folder: Path, card: str, values: Mapping[str, Any]) -> None:
    text = Path(__file__).with_name(card).read_text(encoding="utf-8")
    (folder / "README.md").write_text(text.format_map(values), encoding="utf-8")


def _config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config
