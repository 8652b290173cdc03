"""`mlship audit`: verdicts as text, JSON and SARIF, and its exit codes."""

import gzip
import json
import lzma
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import mlship.build.installed
from mlship.cli.app import app
from mlship.errors import EngineError
from mlship.registry.client import OCI_MANIFEST, digest_of
from tests.helpers.fakes import FakeEngine
from tests.helpers.layouts import packed
from tests.helpers.registry_server import RegistryState, registry_server
from tests.helpers.saved_images import SETUID, files_tar, saved_image
from tests.helpers.smoke_events import IMAGE as INFO

BAD = "FROM python\nENV HF_TOKEN=x\nCMD serve\n"
GOOD = {"User": "7", "Cmd": ["a"], "Healthcheck": {"Test": ["CMD", "a"]}}
_BASE = "org.opencontainers.image.base"
NAMED = {"Labels": {f"{_BASE}.name": "python:3.12", f"{_BASE}.digest": f"sha256:{'a' * 64}"}}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["audit", *arguments])


def test_each_failure_has_its_line_its_reason_and_its_fix(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(BAD)
    result = run(str(file))
    assert result.exit_code == 1, result.output
    title = "no credentials in variables, labels and steps, or in files of an image"
    assert f"  ✗ secrets         {title}\n      line 2: ENV HF_TOKEN" in result.stdout
    assert "      why: Everyone who can pull the image" in result.stdout
    assert "      fix: use `RUN --mount=type=secret`" in result.stdout
    assert "  ✓ glibc           uses glibc, not musl\n  ✗ digest" in result.stdout
    assert result.stdout.endswith("\n\n2 passed, 7 failed, 3 unknown, 1 not applicable\n")


def test_json_has_every_verdict(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text(BAD)
    report = json.loads(run(str(file), "--json").stdout)
    found = {one["rule"]["id"]: one["verdict"] for one in report["judgements"]}
    assert (report["kind"], found["secrets"], found["setuid"], found["locked"]) == (
        "Dockerfile",
        "fail",
        "unknown",
        "not applicable",
    )


def test_sarif_names_rules_that_it_describes_and_lines_of_the_file(tmp_path: Path) -> None:
    """What https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html requires of what is written."""
    file = tmp_path / "Docker file\udcff"
    file.write_text(BAD)
    document = json.loads(run(str(file), "--sarif").stdout)
    assert document["version"] == "2.1.0"
    (one,) = document["runs"]
    rules = one["tool"]["driver"]["rules"]
    assert all(rule["shortDescription"]["text"] and rule["help"]["text"] for rule in rules)
    assert {result["level"] for result in one["results"]} == {"error", "note"}
    for result in one["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert place["artifactLocation"]["uri"].endswith("/Docker%20file%FF")
        assert place["region"]["startLine"] in (1, 2, 3)
    secret = next(result for result in one["results"] if result["ruleId"] == "secrets")
    assert secret["locations"][0]["physicalLocation"]["region"] == {"startLine": 2}


@pytest.mark.parametrize(
    ("config", "layer", "arguments", "code"),
    [
        ({**GOOD, **NAMED}, {}, ("--strict",), 0),
        (GOOD, {}, (), 0),
        (GOOD, {}, ("--strict",), 1),
        (GOOD, {"usr/bin/su": SETUID}, (), 1),
    ],
)
def test_a_failure_fails_and_what_is_unknown_fails_if_strict(
    config: object, layer: dict[str, int], arguments: tuple[str, ...], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine(images={"app:1": INFO}, saved={"app:1": saved_image([layer], config)})
    monkeypatch.setattr(mlship.build.installed, "connect", lambda: engine)
    for form in ((), ("--json",), ("--sarif",)):
        result = run("app:1", *arguments, *form)
        assert result.exit_code == code, result.output


def no_engine() -> None:
    raise EngineError("no engine", hint="none")


def test_an_image_is_read_from_its_registry_without_an_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mlship.build.installed, "connect", no_engine)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    state = RegistryState()
    document = {"os": "linux", "architecture": "amd64", "config": {**GOOD, **NAMED}, "rootfs": {"diff_ids": []}}
    config = json.dumps(document).encode()
    layers = [gzip.compress(files_tar({"usr/bin/su": SETUID})), gzip.compress(files_tar({"usr/bin/.wh.su": b""}))]
    for images, code in ((layers[:1], 1), (layers, 0), ([b"?"], 5)):
        state.blobs |= {digest_of(blob): blob for blob in (config, *images)}
        rows = [{"digest": digest_of(blob), "size": len(blob)} for blob in images]
        manifest = {"schemaVersion": 2, "config": {"digest": digest_of(config)}, "layers": rows}
        state.put(OCI_MANIFEST, json.dumps({**manifest, "mediaType": OCI_MANIFEST}).encode(), "1")
        with registry_server(state) as host:
            result = run(f"{host}/team/app:1", "--strict")
        assert result.exit_code == code, result.output


def test_a_model_in_a_registry_is_no_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mlship.build.installed, "connect", no_engine)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    config, state = b'{"modelfs": {"type": "layers"}}', RegistryState()
    state.blobs[digest_of(config)] = config
    state.put(OCI_MANIFEST, json.dumps({"config": {"digest": digest_of(config)}, "layers": []}).encode(), "1")
    with registry_server(state) as host:
        result = run(f"{host}/team/model:1")
    assert (result.exit_code, "this is not a container image" in result.stderr) == (2, True), result.output


def test_a_place_of_an_image_is_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(images={"app:1": INFO}, saved={"app:1": saved_image([{}], {})})
    monkeypatch.setattr(mlship.build.installed, "connect", lambda: engine)
    results = json.loads(run("app:1", "--sarif").stdout)["runs"][0]["results"]
    assert results[0]["locations"] == [{"logicalLocations": [{"fullyQualifiedName": "app:1", "kind": "resource"}]}]


def test_a_stage_is_judged_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM debian:12 AS Serve\nUSER 7\nFROM serve AS test\nUSER root\n")
    found = {}
    for stage in ("", "serve", "TEST"):
        report = json.loads(run(str(file), "--json", *(["--target", stage] if stage else [])).stdout)
        found[stage] = next(one["verdict"] for one in report["judgements"] if one["rule"]["id"] == "user")
    assert found == {"": "fail", "serve": "pass", "TEST": "fail"}
    missing = run(str(file), "--target", "train")
    assert (missing.exit_code, "it has no stage `train`, only serve, test" in missing.stderr) == (2, True)
    assert "hint: pass one of these to `--target`" in missing.stderr


def test_an_image_has_no_stages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of which it hears before it reads the image."""
    monkeypatch.setattr(mlship.build.installed, "connect", no_engine)
    archive = tmp_path / "image.tar"
    archive.write_bytes(saved_image([{}], {})[:1000])
    for image in ("app:1", str(archive)):
        result = run(image, "--target", "serve")
        assert (result.exit_code, "`--target` is for a Dockerfile" in result.stderr) == (2, True), result.output
    assert "no file `./gone`" in run("./gone", "--target", "serve").stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("./gone", "no file `./gone`"),
        ("docker/Dockerfile.gpu", "no file `docker/Dockerfile.gpu`"),
        ("docker/Containerfile", "no file `docker/Containerfile`"),
        ("image.tar", "no file `image.tar`"),
        ("image.tar.gz", "no file `image.tar.gz`"),
        ("tests", "`tests` is a folder"),
        (".", "`.` is a folder"),
        ("/dev/zero", "`/dev/zero` is not a regular file"),
    ],
)
def test_a_wrong_target_is_named(target: str, message: str) -> None:
    result = run(target)
    assert (result.exit_code, message in result.stderr) == (2, True)


def test_a_broken_dockerfile_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "my Dockerfile"
    file.write_text("FROM a\npip install x\n")
    result = run(str(file))
    assert result.exit_code == 2
    assert f"`{file}`, line 2: unknown instruction `PIP`" in result.stderr
    assert f"docker build --check -f '{file}' ." in result.stderr


def test_a_folder_has_its_dockerfile_named_if_it_has_one(tmp_path: Path) -> None:
    assert "hint: name a Dockerfile, or an image that `docker save` wrote" in run(str(tmp_path)).stderr
    (tmp_path / "Dockerfile").write_text(BAD)
    assert f"hint: run `mlship audit {tmp_path}/Dockerfile`" in " ".join(run(str(tmp_path)).stderr.split())


def test_a_program_is_no_dockerfile(tmp_path: Path) -> None:
    for data in (b"\x7fELF\0\0", lzma.compress(b"")):
        (tmp_path / "Dockerfile").write_bytes(data)
        result = run(str(tmp_path / "Dockerfile"))
        assert (
            result.exit_code,
            "is neither a Dockerfile nor an image" in result.stderr,
            "by gzip" in result.stderr,
        ) == (2, True, True)


def test_a_broken_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine(images={"app:1": INFO}, saved={"app:1": saved_image([{}], {})[:1000]})
    monkeypatch.setattr(mlship.build.installed, "connect", lambda: engine)
    result = run("app:1")
    assert result.exit_code == 5
    assert "cannot read image `app:1`" in result.stderr


@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_an_archive_is_read_without_an_engine(kind: str, tmp_path: Path) -> None:
    """`docker save` of older engines, and skopeo's and buildx's OCI archives, by the index of an index."""
    config = json.dumps({"config": {**GOOD, **NAMED}, "rootfs": {"diff_ids": ["", ""]}, "history": []}).encode()
    layers = [gzip.compress(files_tar({"usr/bin/su": SETUID})), files_tar({"usr/bin/.wh.su": b""})]
    if kind == "docker":
        listed = {"Config": "c.json", "Layers": ["0/layer.tar", "1/layer.tar"]}
        files = {"c.json": config, "0/layer.tar": layers[0], "1/layer.tar": layers[1]}
        files["manifest.json"] = json.dumps([listed]).encode()
    else:
        named = [{"digest": digest_of(one)} for one in layers]
        manifest = json.dumps({"config": {"digest": digest_of(config)}, "layers": named}).encode()
        attestation = {"digest": digest_of(b"{}"), "platform": {"os": "unknown"}}
        index = json.dumps({"manifests": [attestation, {"digest": digest_of(manifest)}]}).encode()
        blobs = (config, manifest, index, *layers)
        files = {f"./blobs/{digest_of(blob).replace(':', '/')}": blob for blob in blobs}
        files["./index.json"] = json.dumps({"manifests": [{"digest": digest_of(index)}]}).encode()
    path = tmp_path / "image.tar"
    path.write_bytes(files_tar(files))
    result = run(str(path), "--strict")
    assert (result.exit_code, "0 failed, 0 unknown" in result.stdout) == (0, True), result.output
    path.write_bytes(path.read_bytes()[:1500])
    result = run(str(path))
    assert (result.exit_code, f"cannot read image `{path}`" in result.stderr) == (5, True), result.output


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_an_archive_may_be_compressed(how: str, tmp_path: Path) -> None:
    """`docker save IMAGE | gzip`."""
    saved, path = packed(saved_image([{"usr/bin/su": SETUID}], GOOD), how), tmp_path / "image.tar.gz"
    path.write_bytes(saved)
    report = json.loads(run(str(path), "--json").stdout)
    found = {one["rule"]["id"]: one["verdict"] for one in report["judgements"]}
    assert (report["kind"], found["setuid"]) == ("image", "fail")
    for broken in (saved[: len(saved) // 2], packed(b"FROM python\n" * 100, how)):
        path.write_bytes(broken)
        result = run(str(path))
        assert (result.exit_code, f"cannot read image `{path}`" in result.stderr) == (5, True), result.output


@pytest.mark.parametrize("index", [b"[]", b"{}", b'{"manifests": []}', b'{"manifests": [{"digest": 1}]}', b"{"])
def test_an_archive_that_lists_no_image_is_refused(index: bytes, tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(files_tar({"index.json": index}))
    result = run(str(path))
    assert (result.exit_code, f"cannot read image `{path}`: " in result.stderr) == (5, True), result.output


@pytest.mark.parametrize("name", ["manifest.json", "index.json"])
def test_an_archive_of_two_images_is_refused(name: str, tmp_path: Path) -> None:
    path, manifest = tmp_path / "image.tar", b'{"config": {"digest": "sha256:3"}, "layers": []}'
    documents = {
        "manifest.json": [{"Config": "c.json", "Layers": []}] * 2,
        "index.json": {"manifests": [{"digest": "sha256:1"}, {"digest": "sha256:2"}]},
    }
    blobs = {"blobs/sha256/1": manifest, "blobs/sha256/2": manifest}
    path.write_bytes(files_tar({name: json.dumps(documents[name]).encode(), **blobs}))
    result = run(str(path))
    assert (result.exit_code, "it holds 2 images" in result.stderr) == (5, True), result.output


def test_sarif_and_json_exclude_each_other() -> None:
    assert run("x", "--sarif", "--json").exit_code == 2


def test_another_kind_of_file_is_named_with_the_next_command(tmp_path: Path) -> None:
    for name, text, what in (
        ("compose.yaml", "services: {}", "a Compose file"),
        ("train.def", "Bootstrap: docker\nFrom: a", "a definition file of Apptainer"),
        ("Dockerfile.j2", "FROM {{ base }} AS a b", "a template"),
    ):
        file = tmp_path / name
        file.write_text(text)
        result = run(str(file))
        assert result.exit_code == 2
        assert f"is {what}" in result.stderr.replace("\n", " ")
        assert "mlship audit" in result.stderr
    assert "DOCKERFILE" not in run(str(tmp_path)).stderr
    (tmp_path / "Containerfile").write_text("FROM a\n")
    assert "Containerfile" in run(str(tmp_path)).stderr
