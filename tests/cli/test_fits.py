"""`mlship fits`: the answer for each host, exit code 4 unless all of them run the lock."""

import json
from pathlib import Path

import pytest
import yaml

from mlship.image.labels import LAYERS, PACKAGES
from mlship.registry.client import digest_of
from tests.helpers.command import mlship_in_process as mlship
from tests.helpers.device_code import fatbin
from tests.helpers.device_code import library as elf
from tests.helpers.layouts import packed, record, tar
from tests.helpers.registry_server import RegistryState, registry_server

TORCH = "torch==2.8.0\nnvidia-cuda-runtime-cu12==12.8.90\n"
A100 = ("--compute-capability", "8.0")


def test_the_answer_is_printed_with_what_helps(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text(TORCH)
    done = mlship("fits", "lock.txt", "--driver", "470.82.01", *A100, cwd=tmp_path)
    assert done.code == 4
    assert (
        done.stdout
        == """\
lock.txt: 2 packages, on 1 kind of host from the command line

  ✗ the named host (driver 470.82.01): does not run
      torch 2.8.0 (cu128) needs driver >= 525.60.13; the named host has 470.82.01

What helps:
  lock `torch<2.7`: its build cu118 from PyTorch's wheel index runs on all of these hosts
  update the driver: the named host to >= 525.60.13
"""
    )


def test_what_is_unknown_says_how_to_find_out(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text("torch>=2\n")
    done = mlship("fits", "lock.txt", "--driver", "580.95.05", *A100, cwd=tmp_path)
    assert done.code == 4
    assert done.stdout.endswith("\nTo find out, prove an image of it on such a host: `mlship smoke IMAGE --on gpu`\n")


def test_json_says_the_same_and_every_host_counts(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text(TORCH)
    hosts = Path(__file__).parents[2] / "examples/hosts"
    done = mlship("fits", "lock.txt", "--hosts", str(hosts), "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert (done.code, found["outcome"]) == (4, "refused")
    assert [host["host"] for host in found["hosts"] if host["outcome"] != "runs"] == ["gtx1080ti"]


@pytest.mark.parametrize("form", ["nfd", "affinity", "claim"])
def test_where_it_runs_is_printed_for_a_cluster(form: str, tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text(TORCH)
    done = mlship("fits", "lock.txt", "--as", form, cwd=tmp_path)
    assert (done.code, done.stderr) == (0, "")
    assert {"nfd": "compatibilities", "affinity": "affinity", "claim": "kind"}[form] in yaml.safe_load(done.stdout)


def test_what_is_unknown_is_not_printed_for_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text(f"{TORCH}faiss-gpu-cu12==1.99\n")
    done = mlship("fits", "lock.txt", "--as", "nfd", cwd=tmp_path)
    assert (done.code, done.stdout) == (4, "")
    assert "where this runs is unknown" in done.stderr
    assert mlship("fits", "lock.txt", "--as", "nfd", "--json", cwd=tmp_path).code == 2


@pytest.mark.parametrize(("config", "code", "said"), [(b"[]", 5, "cannot read image"), (b"{}", 2, "no `rootfs`")])
def test_what_a_registry_has_as_configuration_is_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: bytes, code: int, said: str
) -> None:
    monkeypatch.setenv("PATH", "")  # no docker
    state = RegistryState(blobs={digest_of(config): config})
    manifest = {"config": {"digest": digest_of(config)}, "layers": []}
    state.put("application/vnd.oci.image.manifest.v1+json", json.dumps(manifest).encode(), "1")
    with registry_server(state) as host:
        done = mlship("fits", f"{host}/model:1", "--driver", "580.95.05", *A100, cwd=tmp_path)
    assert (done.code, said in done.stderr) == (code, True)


def test_an_image_in_a_registry_is_read_by_its_configuration_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # no docker
    state = RegistryState()
    labels = {PACKAGES: "numpy==2.1.0 nvidia-cuda-runtime-cu12==12.8.90 torch==2.8.0", LAYERS: "1"}
    config = json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "rootfs": {"diff_ids": []},
            "config": {"Labels": labels, "Env": ["NVIDIA_REQUIRE_CUDA=cuda>=12.4"]},
        }
    ).encode()
    state.blobs[digest_of(config)] = config
    layer = {"digest": f"sha256:{'1' * 64}", "size": 10**9}
    manifest = {"config": {"digest": digest_of(config)}, "layers": [layer]}
    state.put("application/vnd.oci.image.manifest.v1+json", json.dumps(manifest).encode(), "1")
    with registry_server(state) as host:
        done = mlship("fits", f"{host}/model:1", "--driver", "580.95.05", *A100, cwd=tmp_path)
        claim = mlship("fits", f"{host}/model:1", "--as", "claim", cwd=tmp_path)
        absent = mlship("fits", f"{host}/model:3", "--driver", "580.95.05", *A100, cwd=tmp_path)
    assert 'semver("550.0.0")' in claim.stdout, "NVIDIA's runtime refuses older drivers, which would run it"
    assert 'semver("525.60.13")' not in claim.stdout
    assert (done.code, "3 packages" in done.stdout, "torch 2.8.0" in done.stdout) == (0, True, True), done.stderr
    assert not [path for path in state.asked if "1111" in path]
    assert (absent.code, "has no image" in absent.stderr) == (2, True)


@pytest.mark.parametrize(("capability", "code"), [("8.0", 0), ("9.0", 4)])
def test_a_foreign_image_is_read_by_its_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: str, code: int
) -> None:
    monkeypatch.setenv("PATH", "")  # no docker
    library = {"ours/a.so": elf(fatbin([(2, 80, 0x11, False, b"x")]), more=600)}
    site = "usr/lib/python3/dist-packages"
    tree = {**record(site, "ours", "1.0", library), "usr/local/cuda/lib64/libcudart.so.12.4.127": b"x"}
    layer = packed(tar(tree), "zstd")
    inherited = {PACKAGES: "numpy==2.1.0", LAYERS: "0"}  # of the image that it was built from
    config = {"Env": ["NVIDIA_REQUIRE_CUDA=cuda>=12.4"], "Labels": inherited}
    image = {"os": "linux", "architecture": "amd64", "config": config, "rootfs": {"diff_ids": [digest_of(layer)]}}
    text = json.dumps(image).encode()
    state = RegistryState(blobs={digest_of(each): each for each in (text, layer)})
    manifest = {"config": {"digest": digest_of(text)}, "layers": [{"digest": digest_of(layer), "size": len(layer)}]}
    state.put("application/vnd.oci.image.manifest.v1+json", json.dumps(manifest).encode(), "1")
    with registry_server(state) as host:
        done = mlship("fits", f"{host}/x:1", "--driver", "580.95.05", "--compute-capability", capability, cwd=tmp_path)
        state.blobs[digest_of(layer)] = layer[:-20]
        damaged = mlship("fits", f"{host}/x:1", "--driver", "580.95.05", *A100, cwd=tmp_path)
    assert (done.code, damaged.code) == (code, 1), done.stdout
    assert "NVIDIA_REQUIRE_CUDA" in done.stdout
    assert "from the registry" in done.stdout
    assert "the registry sent other bytes" in damaged.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gone.txt", "--driver", "580.95.05", *A100), "cannot read `gone.txt`"),
        (("lock.txt", "--driver", "580.95.05"), "must be used together"),
        (("lock.txt", "--platform", "windows/amd64"), "unsupported platform"),
    ],
)
def test_wrong_input(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    (tmp_path / "lock.txt").write_text(TORCH)
    done = mlship("fits", *arguments, cwd=tmp_path)
    assert (done.code, words in done.stderr, done.stdout) == (2, True, "")
