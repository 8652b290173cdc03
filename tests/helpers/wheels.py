"""Tiny valid wheels and source archives."""

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from mlship.files import sha256_file


def write_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    requires: tuple[str, ...] = (),
    more: Mapping[str, bytes] | None = None,
) -> Path:
    """A wheel that installs `name.py` and `more` files by path; the same arguments give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files: dict[str, str | bytes] = {
        **(more or {}),
        f"{name}.py": f"VERSION = {version!r}\n" + "#" * 5000,
        f"{info}/METADATA": metadata + "".join(f"Requires-Dist: {requirement}\n" for requirement in requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(file, (1980, 1, 1, 0, 0, 0)), text)
    return path


def write_sdist(folder: Path, name: str, files: Mapping[str, str], version: str = "1.0") -> Path:
    """A source archive; files by path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}.tar.gz"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with tarfile.open(path, "w:gz") as archive:
        for file, text in {"PKG-INFO": metadata, **files}.items():
            entry = tarfile.TarInfo(f"{name}-{version}/{file}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def write_index(root: Path, wheels: list[Path], links: str = "../../files/") -> Path:
    """A PEP 503 index next to the folder that its pages link to."""
    for wheel in wheels:
        page = root / wheel.name.split("-")[0] / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        with page.open("a", encoding="utf-8") as file:
            file.write(f'<a href="{links}{wheel.name}#sha256={digest}">{wheel.name}</a>\n')
    return root


def pin_line(wheel: Path) -> str:
    """The line of a lock for this wheel or source archive."""
    name, version, *_ = wheel.name.removesuffix(".tar.gz").split("-")
    return f"{name}=={version} --hash={sha256_file(wheel)}\n"
