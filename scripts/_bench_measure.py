"""Run the steps of the benchmark for a contestant, and measure each of them."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import subprocess
import threading
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from _bench_contestants import COLD, STEPS, CannotRunError, Contestant, Mlship, State
from _bench_engine import free_port
from _machine import last_lines, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _bench_engine import Engine, Manifest, Registry
    from _bench_table import Results

READY_LIMIT = 180.0
POLL = 0.01
SLOW = 60.0  # seconds; a step that takes longer is measured in the first round only
VERY_SLOW = 180.0  # seconds; a contestant whose cold build takes longer is only built once
PAIRS = 3  # source edits built by mlship and by the bare engine, in turn


@dataclass
class Bench:
    """The engine and registries of the benchmark, and the steps to run."""

    engine: Engine
    bases: Registry
    pushes: Registry
    base_images: Sequence[str]
    base_layers: int
    work: Path
    steps: Sequence[str] = tuple(STEPS)
    ready: bool = True
    dropped_caches: bool = field(default=False)


def one_round(bench: Bench, contestant: Contestant, results: Results, number: int) -> None:
    """Run a cold build, then every step on the result of the step before."""
    bench.pushes.reset(bench.bases.storage)
    bench.engine.forget(bench.base_images)
    repo = bench.work / "repos" / f"{contestant.name}-{number}"
    last = "cold"
    for step, state in STEPS.items():
        if step != "cold" and contestant.kind == "peer" and results.values["cold_s"][0] > VERY_SLOW:
            results.notes.append(f"the cold build took more than {VERY_SLOW:.0f} s, so no other step was measured")
            break
        if step != "cold" and number > 1 and results.values.get(f"{step}_s", [0])[0] > SLOW:
            break
        if step in bench.steps or step == "cold":
            last = step
            _step(bench, contestant, results, repo, step, state)
        # After the edit that is compared with the peers', which would otherwise run on a warmer engine than theirs.
        if step == "edit" and "edit" in bench.steps and isinstance(contestant, Mlship):
            _own_time(bench, contestant, results, repo)
    if bench.ready:
        _ready(bench, contestant, results, _tag(contestant, last))
    shutil.rmtree(repo, ignore_errors=True)


def _ready(bench: Bench, contestant: Contestant, results: Results, tag: str) -> None:
    """Measure the start; an image that does not start keeps its other numbers."""
    try:
        seconds = start_to_ready(bench, contestant, tag)
    except CannotRunError as error:
        results.notes.append(f"start to first answer not measured: {error}")
        say(f"{contestant.name}: {error}")
        return
    say(f"{contestant.name}: first answer after {seconds:.2f} s")
    results.add("ready_s", seconds)


def _tag(contestant: Contestant, step: str) -> str:
    """One name per step: an untagged image may be garbage-collected while a build uses it."""
    return f"bench/{contestant.name.lower()}:{step}"


def _step(bench: Bench, contestant: Contestant, results: Results, repo: Path, step: str, state: State) -> None:
    contestant.arrange(repo, state)
    with memory_peak() as memory:
        seconds = _timed(contestant, repo, _tag(contestant, step))
    pushed, manifest = _push(bench, contestant, step)
    layers = {digest: size for digest, size in manifest.layers if digest in pushed}
    say(
        f"{contestant.name}: {step} {seconds:.1f} s, pushed {sum(pushed.values()) / 1e6:.2f} MB in {len(layers)} layers"
    )
    results.add(f"{step}_s", seconds)
    results.add(f"{step}_pushed", sum(pushed.values()))
    results.add(f"{step}_layers", len(layers))
    if step == "heavy":
        results.largest_heavy_layer = float(max(layers.values(), default=0))
    if step == "cold":
        results.digests.append(manifest.digest)
        results.layers.append([digest for digest, _ in manifest.layers])
        if memory.peak > 0:  # else something else gave memory back, and this one's use is unknown
            results.add("cold_memory", memory.peak)
        _sizes(bench, results, manifest)


@dataclass
class Memory:
    """Peak memory use of the whole machine in bytes, minus its use at the start, without the page cache."""

    peak: int = 0


@contextlib.contextmanager
def memory_peak(interval: float = 0.2) -> Iterator[Memory]:
    """Measure all processes, since builders, installers and compressors have different parents."""
    before, found, ended = _available(), Memory(), threading.Event()

    def watch() -> None:
        while not ended.wait(interval):
            found.peak = max(found.peak, before - _available())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def _available() -> int:
    """MemAvailable, https://docs.kernel.org/filesystems/proc.html#meminfo, in bytes."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))


def _timed(contestant: Contestant, repo: Path, tag: str) -> float:
    os.sync()  # so that writes of an earlier step do not slow this one
    start = time.monotonic()
    contestant.build(repo, tag)
    seconds = time.monotonic() - start
    contestant.give_name(tag)
    return seconds


def _push(bench: Bench, contestant: Contestant, step: str) -> tuple[dict[str, int], Manifest]:
    """Push to an empty repository. Return the digests and sizes of the new blobs, and the manifest."""
    before = bench.pushes.blobs()
    repository = f"bench/{contestant.name.lower()}-{step}"
    name = f"{bench.pushes.host}/{repository}:1"
    bench.engine.must("tag", _tag(contestant, step), name)
    bench.engine.must("push", "--quiet", name)
    after = bench.pushes.blobs()
    # The tag stays until the next round: without it, containerd may collect layers that a build needs.
    return {digest: size for digest, size in after.items() if digest not in before}, bench.pushes.manifest(
        repository, "1"
    )


def _sizes(bench: Bench, results: Results, manifest: Manifest) -> None:
    """Measure, once, the layers above the base: compressed and unpacked."""
    if results.values.get("image_compressed"):
        return
    own = manifest.layers[bench.base_layers :]
    results.add("image_compressed", sum(size for _, size in own))
    with contextlib.suppress(OSError, zlib.error):
        results.add("image_unpacked", sum(unpacked(bench.pushes.blob(digest)) for digest, _ in own))


def unpacked(blob: Path) -> int:
    """Size in bytes of a layer's tar archive (gzip or zstd). OSError if it needs `zstd`, which is missing."""
    with blob.open("rb") as source:
        if source.read(2) == b"\x1f\x8b":
            source.seek(0)
            return _gunzipped(iter(lambda: source.read(1 << 20), b""))
    with subprocess.Popen(("zstd", "-dcq", str(blob)), stdout=subprocess.PIPE) as child:
        output = child.stdout
        return sum(map(len, iter(lambda: output.read(1 << 20), b""))) if output else 0


def _gunzipped(chunks: Iterator[bytes]) -> int:
    total, inflate = 0, zlib.decompressobj(wbits=31)
    for chunk in chunks:
        data = chunk
        while data:
            total += len(inflate.decompress(data))
            data = inflate.unused_data
            if inflate.eof and data:
                inflate = zlib.decompressobj(wbits=31)
    return total


def _own_time(bench: Bench, contestant: Mlship, results: Results, repo: Path) -> None:
    """Compare source edits built by mlship and by the bare engine, in turn (A B A B)."""
    ours, bare = [], []
    try:
        for pair in range(PAIRS):
            contestant.arrange(repo, State(revision=f"own-{pair}"))
            ours.append(_timed(contestant, repo, _tag(contestant, f"own-{pair}")))
            contestant.arrange(repo, State(revision=f"bare-{pair}"))
            files = bench.work / f"bare-{time.monotonic_ns()}"
            files.mkdir(parents=True)
            argv = contestant.bare(repo, files, _tag(contestant, f"bare-{pair}"))
            start = time.monotonic()
            contestant.place.call(argv, repo)
            bare.append(time.monotonic() - start)
    except CannotRunError as error:
        results.notes.append(f"not compared with the bare engine: {error}")
        return
    for a, b in zip(ours, bare, strict=True):
        results.add("edit_over_bare_s", a - b)
    say(f"{contestant.name}: source edits {ours}, bare engine {bare}")


def cold_again(bench: Bench, contestant: Contestant, results: Results) -> None:
    """Build the same inputs from another folder without a cache, for the digest only."""
    bench.pushes.reset(bench.bases.storage)
    bench.engine.forget(bench.base_images)
    repo = bench.work / "repos" / f"again-{contestant.name}"
    contestant.arrange(repo, COLD)
    contestant.build(repo, _tag(contestant, "again"))
    manifest = _push(bench, contestant, "again")[1]
    results.digests.append(manifest.digest)
    results.layers.append([digest for digest, _ in manifest.layers])
    say(f"{contestant.name}: built again, digests {results.digests}")
    shutil.rmtree(repo)


def reproducible_option(bench: Bench, contestant: Mlship, results: Results) -> None:
    """Build twice with --reproducible, from two folders, without a cache."""
    for number in (1, 2):
        bench.engine.forget(bench.base_images)
        bench.pushes.reset(bench.bases.storage)
        repo = bench.work / "repos" / f"option-{number}"
        contestant.arrange(repo, COLD)
        contestant.build_reproducible(repo, _tag(contestant, f"option-{number}"))
        contestant.give_name(_tag(contestant, f"option-{number}"))
        results.digests_reproducible.append(_push(bench, contestant, f"option-{number}")[1].digest)
        shutil.rmtree(repo)


def start_to_ready(bench: Bench, contestant: Contestant, tag: str) -> float:
    """Seconds from `docker run` to the first prediction, with an empty page cache."""
    bench.dropped_caches = drop_caches()
    port = free_port()
    serving = contestant.serving
    publish = f"127.0.0.1:{port}:{serving.port}"
    start = time.monotonic()
    flags = ("--read-only", "--tmpfs", "/tmp", *serving.flags, "--publish", publish)
    name = bench.engine.must("run", "--detach", *flags, tag).strip()
    try:
        while not _predicts(port, contestant):
            _require_running(bench, name, time.monotonic() - start)
            time.sleep(POLL)
        return time.monotonic() - start
    finally:
        bench.engine.docker("rm", "--force", "--volumes", name)


def _predicts(port: int, contestant: Contestant) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", contestant.serving.path, contestant.serving.body(), headers)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return answer.status == 200


def _require_running(bench: Bench, name: str, seconds: float) -> None:
    """Raise CannotRunError if the container ended or is late. Ask rarely, since asking slows the container."""
    late = seconds > READY_LIMIT
    if late or int(seconds * 100) % 200 == 0:
        alive = bench.engine.docker("inspect", "--format", "{{.State.Running}}", name).out.strip() == "true"
        if late or not alive:
            done = bench.engine.docker("logs", name)
            how = f"no answer after {seconds:.0f} s" if alive else "the container exited"
            raise CannotRunError(f"{how}: {last_lines(done.out + done.err, 8)}")


def drop_caches() -> bool:
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError:
        return False
    return True
