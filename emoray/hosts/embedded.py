"""The small generator that ships with emoray, run like any other local model."""

from __future__ import annotations

from emoray import embedded
from emoray.hosts.transformers import TransformersHost
from emoray.spec import Embedded, Local


class EmbeddedHost(TransformersHost):
    """The shipped folder through transformers; its revision is the checksum of its weights."""

    name = "embedded"

    def __init__(self, entry: Embedded) -> None:
        path = str(embedded.generator_path())
        super().__init__(
            Local(host="transformers", name=entry.name, id=path, batch_size=entry.batch_size, cpus=entry.cpus)
        )
        self.revision = embedded.CHECKSUMS["generator"][:12]
