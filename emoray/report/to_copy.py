"""What a paper about a run needs: methods and limitations in words, a reference, and the prompts as they were sent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import emoray
from emoray.plurals import count
from emoray.report.phrasing import condition, listed, neutral, percent, refusals, until_sentence
from emoray.report.summary import ModelSummary, Summary
from emoray.study import prompts
from emoray.study.circumplex import Affect
from emoray.study.experiment import Cell, Model, Question, State
from emoray.study.goemotions import DIRECT

_ELSEWHERE = "worded otherwise in the run, or with questions of its own; see the column prompt of its answers"


@dataclass(frozen=True)
class Shown:
    """One prompt as it was sent; no messages where that is not known here, or not public."""

    template: str
    asked: str
    messages: tuple[tuple[str, str], ...]  # (role, text)
    why_not: str = ""


def methods(summary: Summary) -> str:
    """A paragraph for the section that a journal wants."""
    design, chosen = summary.design, summary.settings
    models = _listed(sorted({one.model for one in summary.browsed if one.kept.of}), "No model")
    states, questions = count(len(design.states), "emotional state"), count(len(design.questions), "question")
    templates = _listed([f"{one.name}{' (a control)' if one.control else ''}" for one in design.templates], "none")
    intensities = ", ".join(f"{one:g}" for one in design.intensities) or "none"
    readers = _listed([_reader(summary, name) for name in summary.readers], "nobody yet")
    asked = (
        f"{models} answered {questions} in the role of somebody in each of {states} on Russell's circumplex "
        f"(templates: {templates}; intensities: {intensities})."
    )
    read = f"The emotion in each answer was read by {readers}."
    score = (
        f"An answer's score is the cosine between the state asked for and {_places(summary)}; a neutral reading "
        f"{neutral(chosen)}, a refusal {refusals(chosen.refusals)}. Means {_of(summary)}weigh questions and prompts "
        "equally; intervals "
        f"({percent(chosen.level)}) are Student's t over questions. As a control, the asked states were dealt anew "
        f"among the answers of each question {chosen.shuffles:,} times (seed {chosen.seed})."
    )
    rule = until_sentence(summary.looks.until if summary.looks else None).strip()
    return " ".join(
        filter(None, [asked, read, score, rule, f"All numbers: emoray {emoray.__version__}{_spec(summary)}."])
    )


def limitations(summary: Summary) -> str:
    """What every such run leaves open, and what this one does."""
    questions = len(summary.design.questions)
    said = [
        f"{count(questions, 'question')} stand for all questions of their kind, so intervals are wide and say nothing "
        "about other kinds.",
        f"The reader is a model itself: what it misreads is scored as if it had been said{_out_of_reach(summary)}.",
        *_whose_maps(summary),
    ]
    failed = sum(one.counts.failures for one in _once(summary))
    asked = sum(one.counts.asked for one in _once(summary))
    if failed:
        said.append(f"{failed:,} of {asked:,} asks failed and are in no mean.")
    if len(summary.readers) == 1:
        said.append("One reader alone was asked; another may see other emotions in the same answers.")
    return " ".join(said)


def _of(summary: Summary) -> str:
    """The one condition that the means are of, where there are several."""
    of = condition(summary, "are of one condition,")
    return f"{of}, and " if of else ""


def _places(summary: Summary) -> str:
    """Where a reading lies, by those readers that are asked otherwise than by the run's label map too."""
    chosen = summary.settings
    shared = (
        f"the place of its most probable label under the label map {chosen.label_map.name} ({chosen.label_map.mark})"
    )
    own = [name for name in summary.readers if name in chosen.own_maps]
    others = [name for name in summary.readers if name not in own]
    if not own:
        return shared
    said = [f"{shared} (read by {listed(others)})"] if others else []
    return listed([*said, *(f"{_own_places(summary, name)} (read by {name})" for name in own)])


def _own_places(summary: Summary, reader: str) -> str:
    own = summary.settings.own_maps[reader]
    if own is DIRECT:
        return "the valence and arousal read"
    moved = ", moved" if reader in summary.settings.moved else ""
    return f"the place of its most probable label under the reader's own map ({own.mark}{moved})"


def _out_of_reach(summary: Summary) -> str:
    maps = [summary.settings.map_of(name) for name in summary.readers]
    if maps and all(one is DIRECT for one in maps):
        return ""
    return ", and its labels leave some directions of the circumplex out of reach (the ceiling)"


def _whose_maps(summary: Summary) -> list[str]:
    """A sentence for every label map that readings were placed by."""
    chosen = summary.settings
    shared = [("The label map", chosen.label_map)] if set(summary.readers) - set(chosen.own_maps) else []
    own = [(f"The label map of {name}", chosen.own_maps[name]) for name in summary.readers if name in chosen.own_maps]
    return [
        f"{what} is {'ours' if one.mark == 'ours' else 'the user’s'}; under another, means and ranks may differ."
        for what, one in [*shared, *own]
        if one is not DIRECT
    ]


def bibtex(summary: Summary) -> str:
    """The paper whose method this is, and this program at the version that made the numbers."""
    return f"""@inproceedings{{ishikawa2025emotions,
  author    = {{Ishikawa, S. and Yoshino, A.}},
  title     = {{{{AI}} with Emotions: Exploring Emotional Expressions in Large Language Models}},
  booktitle = {{{{NLP4DH}} 2025}},
  pages     = {{614--627}},
  year      = {{2025}},
  doi       = {{10.18653/v1/2025.nlp4dh-1.51}}
}}
@software{{emoray,
  title   = {{emoray}},
  version = {{{emoray.__version__}}},
  note    = {{Run {_plain(str(summary.run["name"]))}{_spec(summary)}}}
}}"""


def _spec(summary: Summary) -> str:
    """`, spec 1a2b…`; "" of a run that does not say which."""
    return f", spec {summary.run['digest']}" if summary.run.get("digest") else ""


def sent(summary: Summary) -> list[Shown]:
    """Of every template one prompt, where what is rendered here is what was sent, by its hash; shipped texts only."""
    return [_sent(summary, one.name, one.mark) for one in summary.design.templates]


def _sent(summary: Summary, template: str, mark: str) -> Shown:
    if mark == "user":
        return Shown(template, "", (), "the run's own template; it stands in run.json and is not repeated here")
    public = {one.id for one in summary.design.questions if one.mark != "user"}
    for row in _of_template(summary, template):
        rendered = _rendered(row, template) if row["question_id"] in public else None
        if rendered:
            return rendered
    answered = next(_of_template(summary, template), None)
    return Shown(
        template, "", (), _ELSEWHERE if answered else "no answer to it is kept here, by whose hash it is known"
    )


def _of_template(summary: Summary, template: str) -> Iterator[Mapping[str, Any]]:
    """At most a few: one shows the wording as well as all."""
    found = (row for one in summary.browsed for row in one.kept.rows() if row["template"] == template)
    return (row for row, _ in zip(found, range(50), strict=False))


def _rendered(row: Mapping[str, Any], template: str) -> Shown | None:
    if template not in prompts.shipped_templates():
        return None
    state = State(Affect.at(row["state_deg"]), row["state_deg"])
    question = Question(row["question_id"], row["question"])
    cell = Cell(Model("any", "any"), prompts.template(template), state, row["intensity"], question, 0)
    found = prompts.render(cell)
    if found.sha != row["prompt_sha"]:
        return None
    return Shown(
        template,
        f"{row['state_deg']:g}°, {row['question_id']}, intensity {row['intensity']:g}",
        tuple((one["role"], one["content"]) for one in found.chat),
    )


def _listed(names: Sequence[str], otherwise: str) -> str:
    return listed(names) if names else otherwise


def _reader(summary: Summary, name: str) -> str:
    revisions = summary.of_reader(name)[0].reader_revisions
    return f"{name} (revision {', '.join(revisions)})" if revisions else name


def _once(summary: Summary) -> list[ModelSummary]:
    return list({one.model: one for one in summary.models}.values())


def _plain(text: str) -> str:
    """Without what BibTeX and LaTeX would take for their own."""
    return re.sub(r"[{}\\%#$&~^]", " ", text).replace("_", r"\_")
