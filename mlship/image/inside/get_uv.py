"""Gets uv by hash: a wheel from a local folder, else from pip's main index; else pip gets it.

    get_uv.py REQUIREMENTS FOLDER

REQUIREMENTS pins uv and the hashes of its wheels; the program becomes FOLDER/bin/uv. The base image has no bytecode of
pip, so starting pip takes longer than the rest. Whatever is not the usual case, such as a password, is left to pip.
"""

import hashlib
import io
import os
import re
import subprocess
import sys
import zipfile
from urllib.parse import urljoin, urlsplit
from urllib.request import Request, urlopen

WHEELHOUSE = "/wheelhouse"
INDEX = "https://pypi.org/simple"
SECONDS = 10
PIP = ("install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore", "--no-cache-dir")


def main(arguments: "list[str]") -> int:
    requirements, folder = arguments
    with open(requirements, encoding="utf-8") as file:  # noqa: PTH123  pathlib takes long to import here
        pinned = file.read()
    try:
        unpack(wheel(pinned), folder)
    except Exception:  # noqa: BLE001  whatever it was, pip tries again, and reports it
        options = ("--no-compile", "--no-deps", "--require-hashes", "--target", folder, "--requirement", requirements)
        return subprocess.run((sys.executable, "-m", "pip", *PIP, *options), check=False).returncode
    return 0


def wheel(pinned: str) -> bytes:
    """The wheel for this machine. Raises an exception if there is none with a pinned hash."""
    version = re.search(r"^uv==(\S+)", pinned, re.MULTILINE)[1]  # type: ignore[index]
    name = rf"uv-{re.escape(version)}-[^\"/#]*manylinux[^\"/#]*_{os.uname().machine}\.whl"
    content = local(name) or download(name)
    if hashlib.sha256(content).hexdigest() not in pinned:
        raise ValueError(name)
    return content


def local(name: str) -> bytes:
    """The wheel in the folder of local wheels; empty if there is none."""
    for found in os.listdir(WHEELHOUSE) if os.path.isdir(WHEELHOUSE) else ():  # noqa: PTH112, PTH208
        if re.fullmatch(name, found):
            with open(f"{WHEELHOUSE}/{found}", "rb") as file:  # noqa: PTH123
                return file.read()
    return b""


def download(name: str) -> bytes:
    """The wheel from pip's main index, whose page is JSON (PEP 691) or HTML (PEP 503)."""
    if os.environ.get("PIP_NO_INDEX"):
        raise LookupError(name)
    index = os.environ.get("PIP_INDEX_URL", INDEX).rstrip("/")
    no_password(index)
    accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
    with urlopen(Request(f"{index}/uv/", headers={"Accept": accept}), timeout=SECONDS) as page:  # noqa: S310
        link = re.search(rf'"([^"#]*/{name})["#]', page.read().decode())[1]  # type: ignore[index]
        address = urljoin(page.url, link)
    no_password(address)
    with urlopen(address, timeout=SECONDS) as answer:  # noqa: S310
        return bytes(answer.read())


def no_password(address: str) -> None:
    """Leave an address with a user or a token to pip: urllib would look both up as a part of the host's name."""
    if "@" in urlsplit(address).netloc:
        raise LookupError


def unpack(content: bytes, folder: str) -> None:
    """Put the program in the folder. Raises an exception if the wheel has none."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (member,) = (one for one in archive.namelist() if one.endswith(".data/scripts/uv"))
        program = archive.read(member)
    os.makedirs(f"{folder}/bin")  # noqa: PTH103
    with open(os.open(f"{folder}/bin/uv", os.O_WRONLY | os.O_CREAT, 0o755), "wb") as file:  # noqa: PTH123
        file.write(program)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
