"""Accounting: each byte counted once, owners by RECORD, groups by history and name, JSON round trip."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.errors import UsageError
from mlship.resources import read_template
from mlship.size.account import account
from mlship.size.content import BIG, File
from mlship.size.groups import OWN_STEPS, group_of_step
from mlship.size.layout import SavedLayer
from mlship.size.owners import Owners, source_of
from mlship.size.report import Part, SizeReport
from mlship.versioned import to_json
from tests.helpers.layouts import Image, record
from tests.helpers.size_reports import IMAGE, LABELS, OWN, SITE, SMOKE, TORCH, image_with, layer_with, report


def part(found: SizeReport, name: str) -> Part:
    return next(part for part in found.parts if part.name == name)


def test_packages_own_what_their_record_names_and_what_was_compiled_from_it() -> None:
    torch = part(report(), "torch")
    length = len(TORCH[f"{SITE}/torch-2.7.0+cu126.dist-info/RECORD"])
    assert (torch.group, torch.version, torch.files) == ("framework", "2.7.0+cu126", 7)
    assert torch.sorts == {"native": 500, "code": 30, "bytecode": 11, "data": 7 + 8 + 3 + length}
    assert torch.bytes == sum(torch.sorts.values())


def test_groups_by_history_by_name_and_by_place() -> None:
    groups = {part.name: part.group for part in report().parts}
    assert groups == {
        "torch": "framework",
        "nvidia-cublas-cu12": "cuda",
        "six": "light",
        "stray": "packages",
        "/app/weights/model.onnx": "weights",
        "/app/big.bin": "weights",
        "/app": "code",
        "/usr/lib": "base",
        "/etc": "system",
    }


@pytest.mark.parametrize(
    ("path", "size", "group"),
    [
        ("app/weights/model.onnx/part", 1, "weights"),
        ("app/small.onnx", 1, "weights"),
        ("app/data.bin", 100, "code"),
        ("app/data.bin", BIG, "weights"),
        ("models/llama.gguf", BIG, "weights"),
        ("models/tiny.gguf", 1, "system"),
        ("models/data.bin", BIG, "system"),
        ("usr/local/cuda-12.6/lib64/libcudart.so", 1, "cuda"),
        ("apple/x", 1, "system"),
    ],
)
def test_what_a_file_is_for(path: str, size: int, group: str) -> None:
    found = account(image_with(layer_with({path: File(size)}), labels={"dev.mlship.smoke": SMOKE}), "x", "y")
    assert [part.group for part in found.parts] == [group]


def test_files_of_a_group_that_no_package_owns() -> None:
    image = Image([{"opt/venv/pyvenv.cfg": b"x"}], ["COPY /layers/heavy/scipy / # buildkit"])
    assert [(part.group, part.name) for part in report(image).parts] == [("heavy", "/opt/venv")]


@pytest.mark.parametrize(
    ("step", "group"),
    [
        ("COPY /layers/framework/torch / # buildkit", ("framework", "torch")),
        ("COPY --link /layers/light/bucket-3/ /", ("light", "bucket-3")),
        ("COPY --from=x /layers/cuda/nvidia-nccl-cu12 /", ("cuda", "nvidia-nccl-cu12")),
        ("COPY layers/heavy/scipy /", ("heavy", "scipy")),
        ("COPY /elsewhere/layers/heavy/scipy /", None),
        ("COPY /layers/nonsense/x /", None),
        ("COPY /layers/ /", None),
        ("RUN ls /layers/light/x /", None),
        (None, None),
    ],
)
def test_the_path_in_the_history_names_group_and_package(step: str | None, group: tuple[str, str] | None) -> None:
    assert group_of_step(step) == group


def test_the_base_ends_where_mlships_first_step_is() -> None:
    base = report().base
    assert (base.layers, base.unpacked, base.name) == (1, 109, LABELS["org.opencontainers.image.base.name"])
    foreign = report(replace(IMAGE, labels={}))
    assert (foreign.base.layers, foreign.base.unpacked) == (None, None)
    assert "--against BASE" in foreign.base.why
    assert all(layer.base is None for layer in foreign.layers)
    lost = report(replace(IMAGE, steps=None))
    assert lost.base.layers is None
    assert len(lost.unknown) == 2


def test_the_dockerfile_has_the_step_that_marks_the_end_of_the_base() -> None:
    text = read_template("Dockerfile.j2")
    assert "\nFROM system AS runtime\n" in text
    system = text.partition("FROM base AS system\n")[2]
    assert system.count(OWN_STEPS[0]) == 1
    assert (
        OWN_STEPS[0] in re.split(r"^(?=RUN |COPY |ADD )", system, flags=re.MULTILINE)[1]
    )  # the first that makes a layer


def test_hidden_bytes_by_layer() -> None:
    found = report()
    assert found.totals.hidden == len(b"root" + b"hello")
    assert [layer.hidden for layer in found.layers] == [9, 0, 0, 0, 0, 0, 0]


def test_an_engine_that_stores_layers_uncompressed_does_not_know_what_a_pull_moves() -> None:
    found = report(replace(IMAGE, how="plain"))
    assert found.totals.compressed is None
    assert found.base.compressed is None
    assert "uncompressed" in found.unknown[0]


def test_json_both_ways() -> None:
    found = report()
    assert SizeReport.from_json(to_json(found), "x.json") == found
    with pytest.raises(UsageError, match=r"`x\.json` is not a report"):
        SizeReport.from_json("{}", "x.json")
    with pytest.raises(UsageError, match="is not a report"):
        SizeReport.from_json(b"\xff\xfe", "x.json")
    with pytest.raises(UsageError, match="schema 2"):
        SizeReport.from_json(to_json(replace(found, schema=2)), "x.json")


def test_a_record_that_was_removed_owns_nothing() -> None:
    gone = f"{SITE}/.wh.six-1.17.dist-info"
    found = report(Image([record(SITE, "six", "1.17", {"six.py": b"6"}), {gone: b""}]))
    assert [(part.name, part.version) for part in found.parts] == [("six", None)]


def test_a_namespace_has_no_owner() -> None:
    owners = Owners({f"s/site-packages/{name}-1.dist-info/RECORD": [f"s/site-packages/ns/{name}/x"] for name in "ab"})
    owner = owners.of("s/site-packages/ns/a/other")
    assert owner is not None
    assert (owner.name, owner.version) == ("a", "1")
    shared = owners.of("s/site-packages/ns/README")
    assert shared is not None
    assert (shared.name, shared.version) == ("ns", None)
    assert owners.of("usr/lib/x") is None


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("a/__pycache__/b.cpython-311.pyc", "a/b.py"),
        ("__pycache__/b.c.cpython-311.opt-1.pyc", "b.c.py"),
        ("a/b.pyc", None),
        ("a/__pycache__/b.txt", None),
    ],
)
def test_the_source_of_bytecode(path: str, source: str | None) -> None:
    assert (source_of(path) or (None,))[0] == source


PATHS = st.sampled_from(
    [
        *("etc/x", "app/m.onnx", "app/c.py", "usr/local/cuda-12.6/lib64/libcudart.so.12"),
        *(f"{SITE}/a/b.py", f"{SITE}/a/__pycache__/b.cpython-311.pyc"),
        *(f"{SITE}/nvidia/libcudart.so.12", f"{SITE}/a-1.dist-info/RECORD"),
    ]
)
FILES = st.builds(
    File,
    st.integers(0, 1 << 40),
    digest=st.sampled_from([None, "same"]),
    listed=st.sampled_from([None, (f"{SITE}/a/b.py",)]),
)
LAYERS = st.lists(
    st.builds(
        lambda size, files, gone: replace(layer_with(files, OWN, gone), compressed=size),
        st.integers(0),
        st.dictionaries(PATHS, FILES),
        st.lists(PATHS, max_size=3),
    ),
    max_size=5,
)


@given(LAYERS, st.sampled_from([{}, LABELS]))
def test_no_byte_is_lost_and_none_counts_twice(layers: list[SavedLayer[File]], labels: dict[str, str]) -> None:
    found = account(image_with(*layers, labels=labels), "x", "y")
    assert sum(layer.unpacked for layer in found.layers) == found.totals.unpacked
    assert sum(layer.hidden for layer in found.layers) == found.totals.hidden
    assert sum(part.bytes for part in found.parts) + found.totals.hidden == found.totals.unpacked
    assert all(sum(part.sorts.values()) == part.bytes for part in found.parts)
    assert sum(part.files for part in found.parts) == found.totals.files
    assert sum(waste.bytes for waste in found.waste) <= found.totals.unpacked
    assert found.totals.compressed == sum(layer.compressed or 0 for layer in found.layers)
    assert SizeReport.from_json(to_json(found), "x") == found
