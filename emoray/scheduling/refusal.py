"""Why a cluster can never hold a lane, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from emoray.scheduling.demand import demand, engine
from emoray.scheduling.packing import fits
from emoray.scheduling.resources import SLACK, Node, in_words
from emoray.spec.models import ModelEntry, Vllm
from emoray.spec.readers import JudgeReader, ReaderEntry


def refusal(entry: ModelEntry | None, readers: Sequence[ReaderEntry], nodes: Sequence[Node]) -> str | None:
    """Why a lane can never run on these nodes, in one sentence; None where it can. Without a model, of its readers."""
    if isinstance(entry, Vllm) and entry.device == "gpu" and (sentence := _no_gpus(entry, nodes)):
        return sentence
    who = f"model {entry.name!r}" if entry else "reading"
    asked = demand(entry, readers, nodes).bundles()
    if fits(asked, nodes):
        return None
    missing = {name for bundle in asked for name in bundle.others} - {name for node in nodes for name in node.others}
    if missing:
        return f"{who} asks for the resource {min(missing)!r}, which no node of the cluster has; {_RAY_START}"
    judges = [reader for reader in readers if isinstance(reader, JudgeReader)]
    networks = [reader for reader in readers if not isinstance(reader, JudgeReader)]
    beside = [replace(bundle, gpus=0.0) for bundle in demand(None, networks, nodes).bundles()]
    engines = demand(entry, judges, nodes).bundles()
    if any(bundle.gpus for bundle in engines) and fits([*engines, *beside], nodes):
        return f"{who} leaves no room on a GPU for the readers; give them gpus: 0, which reads on CPUs"
    hint = "lower replicas" if isinstance(entry, Vllm) and entry.engines.least > 1 else _LARGER
    both = f"{who} and its readers need" if entry else "the readers need"
    return f"{both} {in_words(asked)}, but the cluster has {_nodes(nodes)}; {hint}"


_LARGER = "submit to a larger cluster, or ask for less in the spec"
_RAY_START = "a node has what `ray start --resources` says"


def _no_gpus(entry: Vllm, nodes: Sequence[Node]) -> str | None:
    """What a look at the kinds of GPUs can tell already."""
    kinds = sorted({node.accelerator for node in nodes if node.accelerator})
    largest = max((node.gpus for node in nodes), default=0.0)
    tensor = entry.tensor_parallel_size
    reason, hint = None, _LARGER
    if not largest:
        reason = f"needs {in_words(engine(entry, nodes))}, but the cluster has {_nodes(nodes)}"
        hint = "a small model can be tried with device: cpu"
    elif entry.accelerator and entry.accelerator not in kinds:
        reason = f"asks for {entry.accelerator}, but the cluster has {', '.join(kinds) or 'no known type'}"
    elif tensor > largest + SLACK:
        reason = f"shares every layer among {tensor} GPUs of one node, but the largest has {largest:g}"
        hint = "lower it, and raise pipeline_parallel_size, whose stages may lie on several nodes"
    return reason and f"model {entry.name!r} {reason}; {hint}"


def _nodes(nodes: Sequence[Node]) -> str:
    return in_words(nodes) + (f" on {len(nodes)} nodes" if len(nodes) > 1 else "")
