"""The small generator that ships with emoray, run like any other local model."""

from __future__ import annotations

from datetime import date

from emoray import embedded
from emoray.hosts.transformers import TransformersHost
from emoray.spec.models import Embedded, Local


class EmbeddedHost(TransformersHost):
    """The shipped folder through transformers; its revision is the checksum of its weights."""

    name = "embedded"

    def __init__(self, entry: Embedded, *, day: date | None = None) -> None:
        alike = entry.model_dump(include={"name", "batch_size", "cpus", "gpus", "reasoning_tags"})
        super().__init__(Local(host="transformers", id=str(embedded.generator_path()), **alike), day=day)
        self.revision = embedded.CHECKSUMS["generator"][:12]
