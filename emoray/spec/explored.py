"""Contrasts that are asked for after a run, on the command line of the report."""

from __future__ import annotations

import re
from collections.abc import Sequence

from emoray.printable import cut
from emoray.spec import yaml_file
from emoray.spec.base import SpecError
from emoray.spec.complaints import validated
from emoray.spec.contrasts import BadContrast, Levels, checked, same
from emoray.spec.readers import ReaderEntry
from emoray.spec.study import Study
from emoray.spec.yaml_file import BadYaml
from emoray.study.contrasts import Contrast

# key=, at the beginning or after a comma, with what stands behind it in quotes: a name may have = and commas itself
_GIVEN = re.compile(
    r"""(?P<before>(?:^|,)\s*)(?P<key>[a-z_]+)\s*=\s*(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^']|'')*')?""", re.IGNORECASE
)


def explored(study: Study, entries: Sequence[str], readers: Sequence[ReaderEntry]) -> tuple[Contrast, ...]:
    """Contrasts of a run, such as `factor=template,a=words,b=parameters`, or as YAML in braces; SpecError says what is
    wrong. `readers` are those that have read it.
    """
    found: list[Contrast] = []
    for text in entries:
        try:
            found += _explored(study, text, readers, found)
        except (BadYaml, SpecError, BadContrast) as wrong:
            lines = str(wrong).replace("contrasts[0].", "").replace("contrasts[0]", "it").splitlines()
            raise SpecError("\n".join(f"--contrast {cut(text)}: {line}" for line in lines)) from None
    return tuple(dict.fromkeys(found))


def _explored(
    study: Study, text: str, readers: Sequence[ReaderEntry], before: Sequence[Contrast]
) -> tuple[Contrast, ...]:
    entry = yaml_file.read(text if text.lstrip().startswith("{") else f"{{{_GIVEN.sub(_as_yaml, text)}}}")
    data = study.spec.model_dump(mode="json") | {"contrasts": [entry]}
    levels = Levels.of(study.experiment, [reader.name for reader in readers], study.headline)
    found = checked(validated(data).contrasts, levels)
    if {same(one, levels) for one in found} & {same(one, levels) for one in study.contrasts}:
        raise BadContrast("is said in the spec, and told in the report already; leave it out")
    if twins := [
        one for one in before if one not in found and same(one, levels) in {same(new, levels) for new in found}
    ]:
        raise BadContrast(f"is the same as another --contrast ({twins[0]}); keep one")
    return found


def _as_yaml(given: re.Match[str]) -> str:
    return f"{given['before']}{given['key']}: {given['quoted'] or ''}"
