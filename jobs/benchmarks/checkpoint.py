"""What Ray Data's own job checkpoint repeats when the driver is killed, beside what a run of emoray repeats.

The same work for both: so many paid calls of the same latency to the same provider, which counts them by key; `kill -9`
of the driver after so many answers; then the same command again. This is why a run keeps its own books, and leaves Ray
Data's alone: its checkpoint knows blocks that were written, not calls that were paid (docs/design.md).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

from emoray.rehearsal.behaviour import Behaviour
from emoray.rehearsal.provider import Provider

_PATIENCE_S = 180.0
_RAY = """
    import sys, time, urllib.request, json, pyarrow as pa, pyarrow.parquet as pq, ray
    from pathlib import Path
    from ray.data import ActorPoolStrategy, DataContext
    from ray.data.checkpoint import CheckpointConfig
    place, url, rows, block = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if not (place / "asked").exists():
        (place / "asked").mkdir()
        for start in range(0, rows, 20):
            ids = [f"{i:032x}" for i in range(start, min(start + 20, rows))]
            pq.write_table(pa.table({"id": ids}), place / "asked" / f"{start:06}.parquet")

    class Ask:
        def __call__(self, batch):
            for key in batch["id"].to_pylist():
                body = {"model": "m", "messages": [{"role": "user", "content": "How are you?"}]}
                headers = {"X-Emoray-Key": key, "Content-Type": "application/json"}
                ask = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode(), headers)
                urllib.request.urlopen(ask).read()
            return batch

    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    DataContext.get_current().checkpoint_config = CheckpointConfig(
        id_column="id", checkpoint_path=str(place / "checkpoint"), delete_checkpoint_on_success=False
    )
    asked = ray.data.read_parquet(str(place / "asked"))
    if block:
        asked = asked.repartition(target_num_rows_per_block=block)
    said = asked.map_batches(
        Ask, batch_size=10, batch_format="pyarrow", num_cpus=0.1, compute=ActorPoolStrategy(size=4)
    )
    said.write_parquet(str(place / "out"))
"""
_SPEC = """
name: peer
accounts: {{here: {{base_url: {url}}}}}
models: [{{name: m, host: hosted_api, account: here, id: m, in_flight: 4}}]
states: 10
questions: all
repetitions: {repetitions}
readers: [{{kind: scripted, name: r}}]
"""


def run(rows: int = 400, kill_after: int = 250, latency_s: float = 0.05) -> dict[str, float]:
    """Calls repeated of `kill_after`: by emoray, by Ray Data as it comes, and with small blocks (its best case)."""
    figures = {}
    for name, block in (("ray_repeated", 0), ("ray_small_blocks_repeated", 20)):
        figures[name] = _ray(rows, kill_after, latency_s, block)
    figures["emoray_repeated"] = _emoray(rows, kill_after, latency_s)
    return {"emoray_repeated": figures.pop("emoray_repeated"), **figures, "calls_before_the_kill": kill_after}


def _ray(rows: int, kill_after: int, latency_s: float, block: int) -> float:
    with Provider(Behaviour(latency_s=latency_s)) as provider, tempfile.TemporaryDirectory() as place:
        script = Path(place) / "job.py"
        script.write_text(textwrap.dedent(_RAY))
        return _repeated(
            [sys.executable, str(script), place, provider.base_url, str(rows), str(block)], provider, kill_after
        )


def _emoray(rows: int, kill_after: int, latency_s: float) -> float:
    with Provider(Behaviour(latency_s=latency_s)) as provider, tempfile.TemporaryDirectory() as place:
        spec = Path(place) / "spec.yaml"
        spec.write_text(_SPEC.format(url=provider.base_url, repetitions=-(-rows // 100)))
        command = [sys.executable, "-m", "emoray", "run", str(spec), "--out", f"{place}/run"]
        return _repeated(command, provider, kill_after)


def _repeated(command: list[str], provider: Provider, kill_after: int) -> float:
    """Answers beyond the first of each key, after a kill and a second run."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    first = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
    deadline = time.monotonic() + _PATIENCE_S
    while len(provider.counters.answered) < kill_after:
        if first.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"it ended before it was killed: {command}")
        time.sleep(0.01)
    first.kill()
    first.wait()
    subprocess.run(command, check=True, timeout=_PATIENCE_S, **quiet)  # type: ignore[call-overload]
    answered = provider.counters.answered
    return float(answered.total() - len(answered))
