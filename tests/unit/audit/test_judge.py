"""Every rule has a Dockerfile and an image that pass it, that fail it, and that leave it open."""

import re
from pathlib import Path

import pytest

from mlship.audit.judge_dockerfile import audit_dockerfile
from mlship.audit.judge_image import audit_archive
from mlship.audit.rules import AuditReport, audit_table, is_credential, known_base
from tests.helpers.layouts import chunks
from tests.helpers.saved_images import SETUID, saved_image

DIGEST = "sha256:" + "a" * 64
TOKEN = "ghp_" + "Qz8w" * 9
GOOD = f"""ARG PYTHON=3.12
FROM python:${{PYTHON}}-slim-bookworm@{DIGEST} AS builder
RUN apt-get update && apt-get install -y gcc
RUN --mount=type=cache,target=/root/.cache pip install --require-hashes --no-deps -r requirements.txt
FROM python:3.12-slim-bookworm@{DIGEST}
COPY --from=builder /opt/venv /opt/venv
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib64 NVIDIA_REQUIRE_CUDA="cuda>=12.4"
USER 1001:1001
HEALTHCHECK CMD ["python", "-c", "pass"]
CMD ["python", "-m", "serving"]
"""
CONFIG = {
    "User": "1001:1001",
    "Env": ["PATH=/usr/bin", "NVIDIA_REQUIRE_CUDA=cuda>=12.4"],
    "Cmd": ["python", "-m", "serving"],
    "Healthcheck": {"Test": ["CMD", "python"]},
    "Labels": {
        "org.opencontainers.image.base.name": "docker.io/library/python:3.12-slim",
        "org.opencontainers.image.base.digest": DIGEST,
        "dev.mlship.lock": DIGEST,
    },
}
GLIBC = "usr/lib/x86_64-linux-gnu"
LAYER: dict[str, int | bytes] = {
    "usr/bin/python": 0o755,
    f"{GLIBC}/libc.so.6": b"x",
    "opt/venv/lib/libcudart.so.12": b"x",
    "etc/ld.so.conf.d/x.conf": b"/opt/venv/lib\n",
}


def verdicts(report: AuditReport) -> dict[str, str]:
    return {one.rule.id: one.verdict for one in report.judgements}


def of_image(config: object, *layers: dict[str, int | bytes], steps: tuple[str, ...] = ()) -> AuditReport:
    return audit_archive(chunks(saved_image(layers, config, steps)), "a:1")


def test_a_good_dockerfile_passes_all_that_its_text_decides() -> None:
    assert verdicts(audit_dockerfile(GOOD, "Dockerfile")) == {
        rule.id: "unknown" if rule.id in {"setuid", "driver-library"} else "pass" for rule in audit_table().rule
    }


def test_a_good_image_passes() -> None:
    assert set(verdicts(of_image(CONFIG, LAYER)).values()) == {"pass"}


@pytest.mark.parametrize(
    ("rule", "old", "new", "verdict"),
    [
        ("user", "USER 1001:1001", "USER app", "fail"),
        ("user", "USER 1001:1001", "USER 0", "fail"),
        ("user", "USER 1001:1001\n", "", "fail"),
        ("user", "USER 1001:1001", "ARG U\nUSER $U", "unknown"),
        ("user", "USER 1001:1001", "ARG U=7\nUSER $U", "pass"),
        ("glibc", "FROM python:3.12-slim-bookworm", "FROM python:3.12-alpine3.20", "fail"),
        ("glibc", "FROM python:3.12-slim-bookworm", "FROM example.org/own:1", "unknown"),
        ("digest", f"FROM python:3.12-slim-bookworm@{DIGEST}", "FROM python:3.12-slim", "fail"),
        ("digest", "COPY --from=builder", "COPY --from=ghcr.io/astral-sh/uv:0.5", "fail"),
        ("digest", "ARG PYTHON=3.12", "ARG PYTHON", "pass"),
        ("digest", f"${{PYTHON}}-slim-bookworm@{DIGEST} AS", "${PYTHON}-slim AS", "fail"),
        ("digest", f"python:${{PYTHON}}-slim-bookworm@{DIGEST} AS", "$IMAGE AS", "unknown"),
        ("tag", f"FROM python:3.12-slim-bookworm@{DIGEST}", "FROM python", "fail"),
        ("tag", f"FROM python:3.12-slim-bookworm@{DIGEST}", "FROM localhost:5000/python:latest", "fail"),
        ("tag", "ARG PYTHON=3.12", "ARG PYTHON", "unknown"),
        ("tag", f"FROM python:3.12-slim-bookworm@{DIGEST}", "FROM example.org/a:latest-gpu", "fail"),
        ("tag", f"FROM python:3.12-slim-bookworm@{DIGEST}", "FROM python:slim", "fail"),
        ("tag", f"FROM python:3.12-slim-bookworm@{DIGEST}", f"FROM example.org/a:nonroot@{DIGEST}", "pass"),
        ("tag", f"FROM python:3.12-slim-bookworm@{DIGEST}", f"FROM python:latest@{DIGEST}", "pass"),
        ("tag", f"FROM python:3.12-slim-bookworm@{DIGEST}", "FROM debian:bookworm-slim", "pass"),
        ("secrets", "USER", "ENV HF_TOKEN=x\nUSER", "fail"),
        ("secrets", "ARG PYTHON=3.12", "ARG PYTHON=3.12\nARG PIP_PASSWORD", "fail"),
        ("secrets", "USER", 'ENV API_KEY=""\nUSER', "pass"),
        ("secrets", "USER", "RUN --mount=type=secret,id=a huggingface-cli login --token $(cat /run/a)\nUSER", "fail"),
        ("secrets", "USER", "RUN hf auth login --token $A && python a.py && hf auth logout\nUSER", "pass"),
        ("secrets", "USER", "RUN --mount=type=tmpfs,target=/root wandb login $A\nUSER", "pass"),
        ("secrets", "RUN --mount", "RUN wandb login $A\nRUN --mount", "pass"),
        ("secrets", "USER", "RUN hf download a\nUSER", "pass"),
        ("secrets", "USER", "RUN docker login -u a -p $A && docker pull b && rm -rf ~/.docker\nUSER", "pass"),
        ("secrets", "USER", "RUN docker login -u a -p $A && rm -rf /var/lib/apt/lists/*\nUSER", "fail"),
        ("secrets", "USER", "RUN aws configure set aws_secret_access_key $A\nUSER", "fail"),
        ("secrets", "USER", "RUN aws configure set region us-east-1 && gcloud auth configure-docker\nUSER", "pass"),
        ("secrets", "USER", "ENV GOOGLE_APPLICATION_CREDENTIALS=/run/secrets/key.json\nUSER", "pass"),
        (
            "secrets",
            "USER",
            f"RUN git clone https://u:{TOKEN}@github.com/a\nUSER",
            "fail",
        ),
        ("exec-form", 'CMD ["python", "-m", "serving"]', "CMD python -m serving", "fail"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', 'CMD ["sh", "-c", "python -m serving"]', "fail"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', 'CMD ["bash", "start.sh"]', "unknown"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', 'ENTRYPOINT ["/app/entrypoint.sh"]', "unknown"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', 'ENTRYPOINT ["/bin/bash"]', "unknown"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', 'CMD ["sh", "-ec", "a; b"]', "fail"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', 'CMD ["bash", "-o", "pipefail", "-lc", "a; b"]', "unknown"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', 'CMD ["bash", "-c", "a | b"]', "fail"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', 'CMD ["bash", "-c", "exec a &>log"]', "unknown"),
        ("exec-form", 'CMD ["python"', 'ENTRYPOINT ["sh", "-c"]\nCMD ["python"', "fail"),
        ("exec-form", 'CMD ["python"', 'ENTRYPOINT ["sh", "-c"]\nCMD ["exec a"]\n#', "pass"),
        ("exec-form", 'CMD ["python"', 'ENTRYPOINT ["sh", "-c"]\nCMD exec a\n#', "fail"),
        ("exec-form", 'CMD ["python"', 'ENTRYPOINT ["/usr/bin/tini", "-e", "143", "--"]\nCMD ["python"', "pass"),
        ("exec-form", 'CMD ["python"', 'ENTRYPOINT ["tini", "--"]\nCMD python -m a\n#', "fail"),
        ("exec-form", 'CMD ["python"', 'ENTRYPOINT ["tini", "--"]\nCMD exec python -m a\n#', "pass"),
        ("exec-form", 'CMD ["python"', 'ENTRYPOINT ["tini", "-g", "--", "sh", "-c", "a; b"]\n#', "fail"),
        ("exec-form", 'CMD ["python"', 'ENTRYPOINT ["dumb-init", "/start.sh"]\n#', "unknown"),
        ("exec-form", 'CMD ["python"', 'CMD ["env", "-u", "A", "B=c", "bash", "/a", "python"', "unknown"),
        ("exec-form", 'CMD ["python"', 'CMD ["gosu", "app", "nice", "-n", "3", "python"', "pass"),
        ("exec-form", 'CMD ["python"', 'CMD ["timeout", "-k", "5", "9", "sh", "-c", "a"]\n#', "fail"),
        ("exec-form", 'CMD ["python"', 'ENTRYPOINT ["tini", "--", "/a.sh"]\nCMD ["python"', "unknown"),
        ("exec-form", 'CMD ["python"', 'CMD ["micromamba", "run", "-n", "base", "python"', "unknown"),
        *(
            ("exec-form", 'CMD ["python"', f'{copied}\nENTRYPOINT ["{program}"]\n#', verdict)
            for copied, program, verdict in (
                ("COPY serve /usr/bin/serve", "/usr/bin/serve", "unknown"),
                ("COPY a serve /usr/bin/", "/usr/bin/serve", "unknown"),
                ('COPY ["a b", "/usr/bin/serve"]', "/usr/bin/serve", "unknown"),
                ("COPY a.py /usr/bin/", "/usr/bin/serve", "pass"),
                ("COPY a /usr/bin/", "/usr/bin/serve", "unknown"),
                ("COPY . /", "/serve", "unknown"),
                ("COPY a.py .", "/usr/bin/serve", "pass"),
                ("WORKDIR /usr/bin\nCOPY a.py serve ./.", "./serve", "unknown"),
                ("COPY a/ /", "/serve", "unknown"),
                ("COPY serve /usr/local/bin/", "serve", "unknown"),
                ("COPY a.sh /usr/local/bin/serve", "serve", "unknown"),
                ("COPY . /app", "/app/bin/serve", "unknown"),
                ("WORKDIR /app\nCOPY . .", "./serve", "unknown"),
                ("WORKDIR /app\nCOPY . ./", "serve", "pass"),
                ("COPY", "/usr/bin/serve", "pass"),
                ("COPY --from=builder /serve /usr/bin/serve", "/usr/bin/serve", "pass"),
            )
        ),
        ("exec-form", 'CMD ["python"', 'CMD ["hatch", "run", "python"', "unknown"),
        ("exec-form", 'CMD ["python"', 'CMD ["sudo", "-u", "a", "python"', "unknown"),
        ("exec-form", 'CMD ["python"', 'CMD ["uv", "run", "--frozen", "python"', "pass"),
        ("exec-form", 'CMD ["python"', 'CMD ["poetry", "run", "bash", "/start", "python"', "unknown"),
        ("exec-form", 'CMD ["python"', 'CMD ["pipenv", "run", "sh", "-c", "a; b"]\n#', "fail"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', "CMD . /env && exec python -m serving", "pass"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', "CMD exec python app.py | tee log", "fail"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', "CMD exec python app.py & wait", "fail"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', "CMD exec > log", "fail"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', "CMD exec sh -c 'python a.py'", "fail"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', "CMD exec bash start", "unknown"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', 'CMD ["sh", "-c", "exec a || true"]', "pass"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', """CMD ["sh", "-c", "echo 'a; exec b'"]""", "fail"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', """CMD ["env", "-S", "sh -c 'python a.py'"]""", "fail"),
        (
            "exec-form",
            'CMD ["python", "-m", "serving"]',
            """CMD ["env", "-iS", "A=b sh -c 'exec python a.py'"]""",
            "pass",
        ),
        ("exec-form", 'CMD ["python", "-m", "serving"]', """CMD ["env", "--split-string=sh -c", "a"]""", "fail"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', "", "not applicable"),
        ("exec-form", f"FROM python:3.12-slim-bookworm@{DIGEST}", "FROM example.org/a:1", "unknown"),
        ("exec-form", f"FROM python:3.12-slim-bookworm@{DIGEST}", "FROM example.org/a:1\nENTRYPOINT []", "pass"),
        ("exec-form", f"FROM python:3.12-slim-bookworm@{DIGEST}", "FROM scratch", "pass"),
        ("locked", "--require-hashes --no-deps ", "", "unknown"),
        ("locked", "--require-hashes --no-deps -r requirements.txt", "torch==2.6.0", "fail"),
        ("locked", "--require-hashes --no-deps -r requirements.txt", "--no-deps .", "pass"),
        ("locked", "--require-hashes --no-deps -r requirements.txt", "--no-deps torch", "fail"),
        ("locked", "--require-hashes --no-deps -r requirements.txt", ".", "fail"),
        ("locked", "--require-hashes --no-deps -r requirements.txt", "-r requirements.txt torch", "fail"),
        ("locked", "pip install --require-hashes --no-deps -r requirements.txt", "pipenv sync", "pass"),
        ("locked", "pip install --require-hashes --no-deps -r requirements.txt", "pipenv install", "unknown"),
        ("locked", "pip install --require-hashes --no-deps -r requirements.txt", "uv sync --frozen", "pass"),
        ("locked", "pip install --require-hashes --no-deps -r requirements.txt", "uv sync", "unknown"),
        ("locked", "pip install --require-hashes --no-deps -r requirements.txt", "uv pip install x", "fail"),
        ("locked", "pip install --require-hashes --no-deps -r requirements.txt", "conda install x", "fail"),
        ("locked", "pip install --require-hashes --no-deps -r requirements.txt", "python3.11 -m pip install x", "fail"),
        ("locked", "pip install --require-hashes --no-deps -r requirements.txt", "true", "not applicable"),
        *(
            ("locked", "pip install --require-hashes --no-deps -r requirements.txt", command, verdict)
            for command, verdict in (
                ("poetry run pip install x", "fail"),
                ("uv run --frozen -p 3.12 python -m pip install x", "fail"),
                ("conda run -n a --no-capture-output pip install x", "fail"),
                ("pip wheel x", "fail"),
                ("conda-lock install --mamba a.yml", "pass"),
                ("pixi install --locked", "pass"),
                ("pixi install", "unknown"),
                ("python$VERSION -m pip install x", "fail"),
                ("cat a | xargs -n 1 pip install", "unknown"),
                ("find . -name 'a*.txt' -exec pip install -r {} \\;", "unknown"),
                ("find . -exec true {} + -exec pip install torch +", "fail"),
                ("$CONDA install x", "unknown"),
                ("/opt/$A/bin/true", "not applicable"),
                ('case "$A" in b) true;; esac', "not applicable"),
                ('bash -c \'A=("$B" c); echo "${A[@]}"\'', "not applicable"),
            )
        ),
        (
            "locked",
            "RUN --mount",
            'SHELL ["conda", "run", "-n", "a", "bash", "-c"]\nRUN pip install x\nRUN --mount',
            "fail",
        ),
        ("locked", "RUN --mount", 'SHELL ["python", "-c"]\nRUN print(1)\nRUN --mount', "unknown"),
        *(
            ("secrets", "USER", f"{text}\nUSER", "fail")
            for text in (
                f'CMD ["serve", "--token", "{TOKEN}"]',
                f"ENTRYPOINT A={TOKEN} serve",
                f"HEALTHCHECK CMD curl -H 'Authorization: {TOKEN}' a",
                f"COPY <<A /a\n{TOKEN}\nA",
                f"ONBUILD ENV A={TOKEN}",
            )
        ),
        *(
            (rule, "USER", f"{step}\nUSER", "unknown")
            for rule in ("locked", "cache", "compilers")
            for step in (
                "RUN ./install",
                "RUN bash /tmp/install.txt --yes",
                "RUN curl https://example.org/a | sh",
                'RUN ["/tmp/install.sh"]',
                "RUN a || b.sh",
                "RUN . ./install",
                "RUN . /env.sh && true",
                "RUN source setup",
                "RUN . $A/activate",
                "RUN /bin/install-deps",
                "RUN ./bin/install",
                "RUN sudo /usr/local/sbin/setup --all",
                "RUN find . -name x -exec ./x.sh {} +",
                "RUN find / -exec true {} + -execdir sh ./x {} \\;",
                "RUN find / -type f -exec {} \\;",
            )
        ),
        *(
            (rule, "USER", f"{step}\nUSER", "pass")
            for rule in ("locked", "cache", "compilers")
            for step in (
                "RUN /opt/venv/bin/python a.py",
                "RUN . /opt/venv/bin/activate && true",
                "RUN source activate a && . /etc/os-release",
                "RUN . /opt/ros/humble/setup.sh && source /opt/intel/oneapi/setvars.sh --force",
                'RUN . "$HOME/.cargo/env" && /sbin/ldconfig && /usr/bin/python3.12 a.py',
                "RUN find / -exec /bin/bzip2 {} + -print",
                "RUN bash <<A\ntrue\nA",
                "RUN sh -c 'true'",
            )
        ),
        *(
            ("locked", "pip install --require-hashes --no-deps -r requirements.txt", command, verdict)
            for command, verdict in (
                ("conda create -y -n a numpy", "fail"),
                ("conda create -y --name a -c conda-forge", "not applicable"),
                ("uv pip install --no-verify-hashes -r requirements.txt", "fail"),
                ("mamba create -qyn a", "not applicable"),
                ("mamba create -qyn a numpy", "fail"),
                ("conda create -yn a --solver classic", "not applicable"),
                ("conda create -na numpy", "fail"),
                ("conda create --clone base -n a", "not applicable"),
                ("pip install -qr requirements.txt", "unknown"),
                ("pip install -q torch", "fail"),
                ("uv add torch", "fail"),
                ("uv add --no-sync torch", "not applicable"),
                ("uv tool list", "not applicable"),
                ("uv tool --quiet uninstall a", "not applicable"),
                ("uv tool update-shell", "not applicable"),
                ("uv tool -q upgrade --all", "fail"),
                ("poetry add --lock a", "not applicable"),
                ("pdm add --no-sync a", "not applicable"),
                ("pixi global list", "not applicable"),
                ("pixi global install a", "fail"),
                ("pixi add --no-install a", "not applicable"),
                ("pixi", "not applicable"),
                ("uv tool install a", "fail"),
                ("pip --timeout 100 install torch", "fail"),
                ("uv --directory app sync", "unknown"),
                ("uv --project app pip install torch", "fail"),
                ("poetry -C app install", "unknown"),
                ("npm --prefix app install", "not applicable"),
                ("python3 -mpip install torch", "fail"),
                ("python -X utf8 -W ignore -Iu -m pip install torch", "fail"),
                ("python -X utf8 -W ignore -Iu -m venv a", "not applicable"),
                ("python -c 'import a' -m pip install torch", "not applicable"),
                ("pypy3 -m pip install torch", "fail"),
                ("python /tmp/get-pip.py", "fail"),
                ("curl https://example.org/install.py | python3 - --yes", "unknown"),
                ("python --version", "not applicable"),
                ("uv run --frozen --with torch a.py", "fail"),
                ("uv run --no-project --with=torch a.py", "fail"),
                ("pip install --no-deps /wheels/* -r a.txt", "unknown"),
                ("pip install --no-deps --editable=git+https://example.org/a", "fail"),
                ("pip install --no-deps -e ./a", "pass"),
                ("poetry update", "fail"),
                ("conda upgrade --all", "fail"),
                ("runuser -u app -- pip install torch", "fail"),
                ("function a { pip install torch; }; a", "fail"),
                ("ionice -c 3 doas -u app pip install torch", "fail"),
                ("xargs --arg-file a pip install", "unknown"),
                ("poetry add torch", "fail"),
            )
        ),
        ("cache", "USER", "USER 7\nRUN --mount=type=cache,target=/root/.cache/uv uv sync\nUSER", "fail"),
        ("cache", "USER", "USER 7\nRUN --mount=type=cache,target=/home/a/.cache/uv uv sync\nUSER", "pass"),
        ("cache", "USER", "USER 0:0\nRUN --mount=type=cache,target=/root/.cache/uv uv sync\nUSER", "pass"),
        ("cache", "USER", "ARG U\nUSER $U\nRUN --mount=type=cache,target=/root/.cache/uv uv sync\nUSER", "pass"),
        ("compilers", "FROM python:3.12-slim-bookworm", "FROM public.ecr.aws/docker/library/python:3.12", "fail"),
        ("cache", "USER", "RUN apt-get update && apt-get dist-clean\nUSER", "pass"),
        ("cache", "USER", "RUN apt-get update && apt-get clean\nUSER", "fail"),
        ("cache", "USER", "RUN apt-get update && find /var/lib/apt/lists -type f -delete\nUSER", "pass"),
        *(
            ("cache", "USER", f"RUN apt-get update && find {rest} -delete\nUSER", verdict)
            for rest, verdict in (
                ("/var/lib/apt/lists", "pass"),
                ("/var/lib/apt/lists/* /var/log -mindepth 1", "pass"),
                ("/ -path /var/lib/apt/lists -prune -o -name x", "fail"),
                ("/var/lib/apt/lists -name '*.lz4'", "fail"),
                ("/var/lib/apt/lists ! -type f", "fail"),
                ("/var/lib/apt/lists -type f -mindepth 2", "fail"),
            )
        ),
        ("cache", "USER", "RUN export PIP_NO_CACHE_DIR=1 && pip install -r a\nUSER", "pass"),
        *(
            ("cache", "USER", f"RUN {step}\nUSER", verdict)
            for step, verdict in (
                ("yarn install", "fail"),
                ("yarn install && yarn cache clean", "pass"),
                ("yarn --version", "pass"),
                ("dnf makecache", "fail"),
                ("dnf module enable a && dnf clean all", "pass"),
                ("apt-add-repository ppa:a/b", "fail"),
                ("add-apt-repository -y universe", "fail"),
                ("add-apt-repository --no-update ppa:a/b", "pass"),
                ("apt-get -t a update", "fail"),
                ("pipx install a", "fail"),
                ("pipx install --pip-args=--no-cache-dir a", "pass"),
                ("conda upgrade --all", "fail"),
            )
        ),
        *(
            ("compilers", "USER", f"RUN {step}\nUSER", verdict)
            for step, verdict in (
                ("yum install -y gcc-toolset-13-gcc-c++", "fail"),
                ("yum install -y devtoolset-9", "fail"),
                ("yum -y groups install 'Development Tools'", "fail"),
                ("conda create -n a gcc_impl_linux-64", "fail"),
                ("conda env create -f a.yml", "unknown"),
                ("mamba install --file a.txt", "unknown"),
                ("conda create -n a python", "pass"),
                ("apt-get -t a install --no-install-recommends gcc", "fail"),
                ("apk -X https://example.org/a add gcc", "fail"),
            )
        ),
        ("exec-form", 'CMD ["python"', 'CMD ["torchrun"', "unknown"),
        ("exec-form", 'CMD ["python"', 'CMD ["busybox", "sh", "-c", "a"]\n#', "unknown"),
        ("compilers", "USER", "RUN apk add --virtual .b gcc make && apk del .b\nUSER", "pass"),
        ("compilers", "USER", "RUN apk add --virtual .b gcc make && apk del .c\nUSER", "fail"),
        *(
            ("compilers", "USER", f"RUN {step}\nUSER", verdict)
            for step, verdict in (
                ("apk add gcc && apk add --virtual .b make && apk del .b", "fail"),
                ("apk add --virtual=.b gcc make && apk add -t .c curl && apk del .c", "fail"),
                ("apk add --virtual=.b gcc make && apk add -t .c g++ && apk del .b .c", "pass"),
                ("apk add -t .b gcc~12 && apk del gcc", "fail"),
                ("apk add gcc~12 && apk del gcc", "pass"),
                ("apk add -t $A gcc && apk del $B", "unknown"),
                ("apt-get install --no-install-recommends -t a gcc && apt-get purge --auto-remove gcc", "pass"),
            )
        ),
        *(
            (rule, "USER", f"COPY --from=example.org/a@{DIGEST} {path} /a\nUSER", verdict)
            for rule, path, verdict in (
                ("compilers", "/usr/bin/x86_64-linux-gnu-gcc-12", "unknown"),
                ("compilers", "/usr/local/cuda-12.4", "unknown"),
                ("compilers", "/usr/local/cargo", "unknown"),
                ("compilers", "/opt/conda/envs/a", "unknown"),
                ("compilers", "/usr/bin/*", "unknown"),
                ("compilers", "/*", "unknown"),
                ("compilers", "/usr/bin/ffmpeg /usr/local/cuda/lib64 /app", "pass"),
                ("cache", "/root", "unknown"),
                ("cache", "/", "unknown"),
                ("cache", "/root/.local", "pass"),
                ("locked", "/opt/venv", "unknown"),
                ("locked", "/usr/local/lib/python3.12/site-packages", "unknown"),
                ("locked", "/root/.local", "unknown"),
                ("locked", "/uv", "pass"),
            )
        ),
        ("locked", "FROM python:${PYTHON}-slim-bookworm", "FROM example.org/a", "pass"),
        ("locked", "RUN --mount", "FROM example.org/a AS builder\n# RUN --mount", "unknown"),
        ("cache", "COPY", "COPY --from=builder /root /root\nCOPY", "pass"),
        (
            "cache",
            "FROM python:3.12-slim-bookworm@",
            f"RUN ./a\nFROM python:3.12-slim@{DIGEST}\nCOPY --from=builder /root /root\n#",
            "unknown",
        ),
        ("compilers", f"FROM python:3.12-slim-bookworm@{DIGEST}", "FROM scratch", "unknown"),
        ("glibc", f"FROM python:3.12-slim-bookworm@{DIGEST}", "FROM scratch", "unknown"),
        ("exec-form", 'CMD ["python"', 'SHELL ["/bin/bash", "-c"]\nCMD python a.py\n#', "unknown"),
        ("exec-form", 'CMD ["python"', 'SHELL ["/bin/bash", "-c"]\nCMD exec python a.py\n#', "pass"),
        ("exec-form", 'CMD ["python"', 'SHELL ["pwsh", "-Command"]\nCMD python a.py\n#', "unknown"),
        ("exec-form", 'CMD ["python"', 'COPY . /app\nCMD ["/app/.venv/bin/python"', "pass"),
        ("exec-form", 'CMD ["python"', 'COPY . /app\nCMD ["/app/bin/start"', "unknown"),
        *(
            ("exec-form", 'CMD ["python"', f'COPY {copied}\nCMD ["/opt/venv/bin/start"', verdict)
            for copied, verdict in (
                ("venv/bin/start /opt/venv/bin/start", "unknown"),
                ("venv/bin /opt/venv/bin", "unknown"),
                ("venv /opt/venv", "unknown"),
                ("venv /opt/", "unknown"),
                (". /opt", "pass"),
                (". /", "pass"),
                ("start /opt/start", "pass"),
            )
        ),
        ("cache", "USER", "RUN $CONDA install x\nUSER", "unknown"),
        ("cache", "USER", "RUN conda-lock install a.yml && conda clean -afy\nUSER", "pass"),
        ("cache", "USER", "RUN pixi install\nUSER", "fail"),
        ("cache", "USER", "ARG C=/root/.cache\nRUN --mount=type=cache,target=$C/pip pip install -r x\nUSER", "pass"),
        ("cache", "USER", "ARG C\nRUN --mount=type=cache,target=$C pip install -r x\nUSER", "unknown"),
        ("cache", f"FROM python:3.12-slim-bookworm@{DIGEST}", "FROM build$TARGETARCH", "unknown"),
        ("cache", "USER", "RUN pip install -r x\nUSER", "fail"),
        ("cache", "USER", "RUN pip wheel -r x\nUSER", "fail"),
        ("cache", "USER", "RUN pip download --no-cache-dir x\nUSER", "pass"),
        ("cache", "USER", "RUN pip install --no-cache-dir -r x\nUSER", "pass"),
        ("cache", "USER", "ENV PIP_NO_CACHE_DIR=1\nRUN pip install -r x\nUSER", "pass"),
        ("cache", "USER", "RUN apt-get update\nRUN rm -rf /var/lib/apt/lists/*\nUSER", "fail"),
        ("cache", "USER", "RUN apt-get -o A::B=1 update && rm -rf /var/lib/apt/lists/*\nUSER", "pass"),
        ("compilers", "USER", "RUN apt-get install -y gcc-12\nUSER", "fail"),
        ("compilers", "USER", "RUN apt-get install -y gcc && apt-get purge -y gcc\nUSER", "unknown"),
        (
            "compilers",
            "USER",
            "RUN apt-get install --no-install-recommends gcc && apt-get purge -y gcc\nUSER",
            "unknown",
        ),
        (
            "compilers",
            "USER",
            "RUN apt-get install --no-install-recommends gcc && apt-get purge -y --auto-remove gcc\nUSER",
            "pass",
        ),
        ("compilers", "USER", "RUN apt-get install -y python3-pip\nUSER", "unknown"),
        ("compilers", "FROM python:3.12-slim-bookworm", "FROM python:3.12-bookworm", "fail"),
        ("compilers", "FROM python:3.12-slim-bookworm", "FROM nvidia/cuda:12.4.1-devel-ubuntu22.04", "fail"),
        ("compilers", "USER", "ARG MORE\nRUN apt-get install -y $MORE\nUSER", "unknown"),
        ("healthcheck", 'HEALTHCHECK CMD ["python", "-c", "pass"]', "HEALTHCHECK NONE", "fail"),
        ("healthcheck", 'HEALTHCHECK CMD ["python", "-c", "pass"]', "", "fail"),
        ("setuid", "USER", "RUN chmod u+s /bin/x\nUSER", "fail"),
        ("setuid", "USER", "RUN chmod 4755 /bin/x\nUSER", "fail"),
        ("setuid", "USER", "RUN chmod 0755 /bin/x && chmod u+x /s\nUSER", "unknown"),
        ("setuid", "USER", "RUN chmod g+s /data && chmod 2775 /data\nUSER", "unknown"),
        ("driver-library", "/usr/local/nvidia/lib64", "/usr/local/cuda/lib64/stubs:/x", "fail"),
        ("driver-library", "/usr/local/nvidia/lib64", "/x:/usr/local/cuda-12.4/compat/", "fail"),
        ("requires", 'NVIDIA_REQUIRE_CUDA="cuda>=12.4"', "NVIDIA_DISABLE_REQUIRE=true", "fail"),
        ("requires", ' NVIDIA_REQUIRE_CUDA="cuda>=12.4"', "", "unknown"),
        ("requires", 'NVIDIA_REQUIRE_CUDA="cuda>=12.4"', 'NVIDIA_REQUIRE_CUDA=""', "fail"),
        *(
            (rule, f"FROM python:3.12-slim-bookworm@{DIGEST}", base, "unknown")
            for rule, base in (
                ("cache", "FROM example.org/a:1\nRUN pip install -r x"),
                ("cache", "FROM example.org/a:1"),
                ("locked", "FROM example.org/a:1"),
                ("requires", "FROM example.org/a:1"),
                ("glibc", f"FROM python@{DIGEST}"),
            )
        ),
        ("cache", f"FROM python:3.12-slim-bookworm@{DIGEST}", "FROM example.org/a:1\nRUN conda install x", "fail"),
        *(
            ("cache", "USER", f"{steps}\nUSER", verdict)
            for steps, verdict in (
                ("RUN pip install -r x\nENV PIP_NO_CACHE_DIR=1", "fail"),
                ('ENV PIP_NO_CACHE_DIR=""\nRUN pip install -r x', "fail"),
                ("ENV PIP_CACHE_DIR=/c\nRUN --mount=type=cache,target=/c pip install -r x", "pass"),
                ("ENV PIP_CACHE_DIR=/c\nRUN --mount=type=cache,target=/root/.cache/pip pip install -r x", "fail"),
                ("RUN --mount=type=cache,target=/c uv sync --cache-dir /c", "pass"),
                ("RUN export UV_CACHE_DIR=/c && uv sync && rm -rf /c", "pass"),
                ("RUN --mount=type=cache,target=/c microdnf install --setopt=cachedir=/c a", "pass"),
                ("RUN --mount=type=cache,target=/c pip install --cache-dir=/c a", "pass"),
                ("RUN uv pip install --no-cache-dir a", "pass"),
                ("RUN pip install -r x && pip cache dir", "fail"),
                ("RUN pip install -r x && pip cache purge", "pass"),
                ("RUN uv sync && uv cache prune", "fail"),
                ("RUN conda install x && conda clean -i", "fail"),
                ("RUN micromamba install -f x && micromamba clean -ay", "pass"),
                ("RUN poetry install", "fail"),
                ("RUN poetry install && rm -rf ~/.cache/pypoetry", "pass"),
                ("RUN uv run --frozen python a.py", "fail"),
                ("RUN uv run --no-sync python a.py", "pass"),
                ("RUN spacy download a", "fail"),
                ("COPY --from=builder /root /root", "pass"),
                ("COPY --from=builder / /", "fail"),
                ("COPY --from=builder /opt/venv /opt/venv", "pass"),
            )
        ),
        *(
            ("locked", "pip install --require-hashes --no-deps -r requirements.txt", command, verdict)
            for command, verdict in (
                ("pip install $FLAGS -r a.txt", "unknown"),
                ("pip install $PACKAGE==1", "fail"),
                ("pip install -c constraints.txt torch", "unknown"),
                ("python setup.py install", "fail"),
                ("python setup.py bdist_wheel", "not applicable"),
                ("python -m spacy download a", "fail"),
                ("pip-sync a.txt", "unknown"),
                ("mim install mmcv", "fail"),
                ("uvx ruff check", "fail"),
                ("uv run python a.py", "unknown"),
                ("uv run --locked python a.py", "pass"),
                ("uv run --frozen pip install a", "fail"),
                ("pixi run --locked test", "pass"),
                ("make deps", "unknown"),
                ("su app -c 'pip install a'", "fail"),
                ("runuser -u app --command 'pip install a'", "fail"),
                ("su app", "not applicable"),
                ("eval pip install a", "fail"),
            )
        ),
        *(
            ("compilers", "USER", f"{steps}\nUSER", verdict)
            for steps, verdict in (
                ("RUN apt-get install --no-install-recommends cuda-nvcc-12-4", "fail"),
                ("RUN dnf groupinstall 'Development Tools'", "fail"),
                ("RUN yum install gcc-c++", "fail"),
                ("RUN conda install conda-forge::gxx_linux-64=12", "fail"),
                ("RUN conda create -n gcc python", "pass"),
                ("RUN pip install 'cmake>=3.18'", "fail"),
                ("RUN uv pip install cmake && uv pip uninstall cmake", "pass"),
                ("RUN pip install torch==$VERSION", "pass"),
                ("RUN uv venv $FOLDER", "pass"),
                ("COPY --from=builder /usr /usr", "unknown"),
                ("COPY --from=builder /opt/venv /opt/venv", "pass"),
                ("COPY --from=nvidia/cuda:12.4.1-devel-ubuntu22.04 /usr/local/cuda /usr/local/cuda", "unknown"),
                ("COPY --from=ghcr.io/astral-sh/uv:0.9 /uv /bin/", "pass"),
            )
        ),
        *(
            (rule, "USER", f"COPY {copied}\nRUN {step}\nUSER", verdict)
            for rule in ("locked", "cache", "compilers")
            for copied, step, verdict in (
                ("docker/setup /usr/local/bin/", "setup --all", "unknown"),
                ("docker/true /usr/local/bin/true", "true", "unknown"),
                ("docker/true /usr/local/bin/true", "/usr/local/bin/true", "unknown"),
                ("tools /usr/local/bin", "setup", "unknown"),
                ("tools /usr/local/bin", "cd /x && true", "pass"),
                ("model.bin /app/model.bin", "setup", "pass"),
                ("a /a", "--mount=from=example.org/a:1,source=/true,target=/bin/true true", "pass"),
                ("a /a", "--mount=source=true,target=/bin/true true", "unknown"),
            )
        ),
        ("secrets", "USER", "COPY .env /app/\nUSER", "unknown"),
        ("secrets", "USER", "COPY .env.example /app/\nUSER", "pass"),
        *(
            ("secrets", "USER", f"COPY {names} /root/\nUSER", verdict)
            for names, verdict in ((".netrc", "unknown"), ("a id_rsa", "unknown"), ("ca.pem", "unknown"), ("a", "pass"))
        ),
        ("tag", f"FROM python:3.12-slim-bookworm@{DIGEST}", "FROM example.org/a:latest_py3.10", "fail"),
        ("exec-form", 'CMD ["python", "-m", "serving"]', "CMD test -f a && exec a || python b", "fail"),
        ("requires", 'NVIDIA_REQUIRE_CUDA="cuda>=12.4"', "A=b\nARG C\nENV NVIDIA_REQUIRE_CUDA=$C", "unknown"),
        ("requires", "USER", "ARG D\nENV NVIDIA_DISABLE_REQUIRE=$D\nUSER", "unknown"),
        ("secrets", "USER", "ENV DB_PASS=x\nUSER", "fail"),
        ("secrets", "USER", "ENV BASIC_AUTH=x:y\nUSER", "fail"),
        ("secrets", "USER", "ENV USE_AUTH=true BYPASS=1 PWD=/app AUTH_ROLE=a\nUSER", "pass"),
        *(
            ("exec-form", 'CMD ["python"', f"{steps}\n#", verdict)
            for steps, verdict in (
                ('RUN echo a > /start\nCMD ["/start"]', "unknown"),
                ('RUN echo a > /usr/bin/start\nCMD ["start"]', "unknown"),
                ('RUN echo a > /app/start\nCMD ["/start"]', "pass"),
                ('RUN /opt/venv/bin/python -m a\nCMD ["/opt/venv/bin/python"]', "pass"),
                ('COPY tools /usr/local/bin\nCMD ["serve"]', "unknown"),
                ('COPY tools /usr/local/bin\nCMD ["python"]', "pass"),
                ('CMD ["make", "serve"]', "unknown"),
                ('CMD ["npm", "start"]', "unknown"),
                ('CMD ["su", "app", "-c", "python a.py"]', "unknown"),
                ('CMD ["pixi", "run", "serve"]', "unknown"),
            )
        ),
    ],
)
def test_a_change_of_a_dockerfile_changes_its_verdict(rule: str, old: str, new: str, verdict: str) -> None:
    assert old in GOOD
    report = audit_dockerfile(GOOD.replace(old, new), "Dockerfile")
    assert verdicts(report)[rule] == verdict, [one.seen for one in report.judgements if one.rule.id == rule]


@pytest.mark.parametrize(
    ("base", "verdict"),
    [("python:$V", "unknown"), ("python:$V-slim", "pass"), ("debian:$V", "pass"), ("$V", "unknown")],
)
def test_a_tag_that_the_build_decides_may_be_any_variant(base: str, verdict: str) -> None:
    found = verdicts(audit_dockerfile(f"ARG V\nFROM {base}\n", "Dockerfile"))
    assert (found["glibc"], found["compilers"]) == (verdict, verdict)


@pytest.mark.parametrize(
    ("rule", "change", "files", "verdict"),
    [
        ("user", {"User": ""}, {}, "fail"),
        ("user", {"User": "app"}, {}, "fail"),
        ("user", {"User": "1" * 5000}, {}, "pass"),
        ("user", {"User": "00"}, {}, "fail"),
        ("user", {"User": "\u00b2"}, {}, "fail"),
        ("glibc", {}, {f"{GLIBC}/.wh.libc.so.6": b"", "lib/ld-musl-x86_64.so.1": b"x"}, "fail"),
        ("glibc", {}, {f"{GLIBC}/.wh.libc.so.6": b""}, "not applicable"),
        ("glibc", {}, {"lib/ld-musl-x86_64.so.1": b"x"}, "unknown"),
        (
            "glibc",
            {},
            {"lib/ld-musl-x86_64.so.1": b"x", "usr/lib/python3.13/lib-dynload/a.cpython-313-x86_64-linux-gnu.so": b""},
            "pass",
        ),
        ("glibc", {}, {"opt/lib/python3.13/lib-dynload/a.cpython-313-x86_64-linux-musl.so": b""}, "fail"),
        ("glibc", {}, {"etc/ld-musl-x86_64.path": b"x"}, "pass"),
        ("digest", {"Labels": {}}, {}, "unknown"),
        ("digest", {"Labels": {"org.opencontainers.image.base.digest": "unknown"}}, {}, "unknown"),
        ("tag", {"Labels": {}}, {}, "unknown"),
        ("tag", {"Labels": {"org.opencontainers.image.base.name": "python:latest"}}, {}, "fail"),
        ("secrets", {"Env": ["DB_PASSWORD=x"]}, {}, "fail"),
        ("secrets", {"Env": ["GPG_KEY=A0", "PYTHON_SHA256=1"]}, {}, "pass"),
        ("secrets", {"Env": ["API_TOKEN=/run/secrets/token"]}, {}, "pass"),
        ("secrets", {}, {"app/settings.py": f"TOKEN = '{TOKEN}'".encode()}, "fail"),
        ("secrets", {}, {"opt/venv/lib/python3.12/site-packages/a/test.py": f"TOKEN = '{TOKEN}'".encode()}, "pass"),
        ("secrets", {}, {"app/.env": b"DB_PASS=hunter2"}, "unknown"),
        ("secrets", {}, {"app/.env.prod": f"TOKEN={TOKEN}".encode()}, "fail"),
        ("secrets", {}, {"app/.env.example": b"DB_PASS="}, "pass"),
        ("secrets", {}, {"app/.env": b""}, "pass"),
        ("secrets", {}, {"opt/venv/lib/python3.12/site-packages/a/.env": b"A=b"}, "pass"),
        ("secrets", {}, {"usr/share/a": f"TOKEN = '{TOKEN}'".encode()}, "pass"),
        ("secrets", {}, {"usr/app/.env": b"DB_PASS=hunter2"}, "unknown"),
        ("secrets", {}, {"usr/app/a": TOKEN.encode()}, "fail"),
        ("secrets", {}, {"usr/bin/serve": TOKEN.encode()}, "fail"),
        ("secrets", {}, {"var/lib/app/a": TOKEN.encode()}, "fail"),
        ("secrets", {}, {"var/lib/dpkg/info/a": TOKEN.encode()}, "pass"),
        ("secrets", {}, {"app/vendor/pkgs/creds": TOKEN.encode()}, "fail"),
        ("secrets", {}, {"opt/conda/pkgs/a/creds": TOKEN.encode()}, "pass"),
        ("secrets", {}, {"app/a.json": b"[]\n" * 40_000 + TOKEN.encode()}, "fail"),
        ("secrets", {}, {"app/a.npy": b"\0" * 120_000 + TOKEN.encode()}, "pass"),
        ("secrets", {}, {"app/a.p12": b"\0" * 120_000}, "unknown"),
        ("exec-form", {"Cmd": ["serve"]}, {"usr/bin/serve": b"#!/bin/bash\nexec a"}, "pass"),
        ("exec-form", {"Cmd": ["/bin/sh", "-c", "python -m serving"]}, {}, "fail"),
        ("exec-form", {"Cmd": None}, {}, "not applicable"),
        ("locked", {"Labels": {}}, {}, "not applicable"),
        ("locked", {"Labels": {}}, {"opt/x-1.dist-info/METADATA": b"x"}, "unknown"),
        ("locked", {"Labels": {}}, {"opt/x-1.egg-info/PKG-INFO": b"x"}, "unknown"),
        ("locked", {"Labels": {}}, {"opt/pip-23.0.dist-info/METADATA": b"x"}, "not applicable"),
        ("cache", {}, {"root/.cache/pip/x": b"x"}, "fail"),
        ("cache", {}, {"root/.cache/pip/x": b""}, "pass"),
        ("compilers", {}, {"usr/bin/x86_64-linux-gnu-gcc-12": 0o755}, "fail"),
        ("compilers", {}, {"usr/bin/gcc-ar": 0o755, "usr/share/gcc": b"x"}, "pass"),
        ("healthcheck", {"Healthcheck": None}, {}, "fail"),
        ("healthcheck", {"Healthcheck": {"Test": ["NONE"]}}, {}, "fail"),
        ("setuid", {}, {"usr/bin/su": SETUID}, "fail"),
        ("setuid", {}, {"usr/bin/wall": 0o2755}, "fail"),
        ("driver-library", {}, {"usr/lib/x86_64-linux-gnu/libcuda.so.1": b"x"}, "fail"),
        ("driver-library", {}, {"usr/local/cuda-12.4/compat/libcuda.so.1": b"x"}, "pass"),
        ("driver-library", {}, {"c/compat/libcuda.so.1": b"", "etc/ld.so.conf.d/z.conf": b"/c/compat\n"}, "fail"),
        ("driver-library", {"Env": ["LD_LIBRARY_PATH=/usr/local/cuda/lib64/stubs"]}, {}, "fail"),
        ("requires", {"Env": []}, {}, "fail"),
        (
            "requires",
            {"Env": []},
            {"opt/venv/lib/.wh.libcudart.so.12": b"", "torch/lib/libcudart-d0da41ae.so.11.0": b"x"},
            "fail",
        ),
        ("requires", {"Env": ["NVIDIA_DISABLE_REQUIRE=1"]}, {}, "fail"),
        ("requires", {"Env": []}, {"opt/venv/lib/.wh.libcudart.so.12": b""}, "not applicable"),
    ],
)
def test_a_change_of_an_image_changes_its_verdict(
    rule: str, change: dict[str, object], files: dict[str, int | bytes], verdict: str
) -> None:
    report = of_image({**CONFIG, **change}, LAYER, files)
    assert verdicts(report)[rule] == verdict, [one.seen for one in report.judgements if one.rule.id == rule]


def test_what_is_not_read_of_a_large_text_is_named() -> None:
    report = of_image(CONFIG, {"app/vocab.txt": b"word\n" * 900_000 + TOKEN.encode()})
    (seen,) = next(one.seen for one in report.judgements if one.rule.id == "secrets")
    assert seen.verdict == "pass"
    assert seen.text.endswith("its own files; only the first 4 MiB were read of /app/vocab.txt")


def test_a_later_layer_replaces_and_removes_programs_but_not_caches() -> None:
    first: dict[str, int | bytes] = {"usr/bin/su": SETUID, "usr/bin/mount": SETUID, "root/.cache/pip/x": b"x"}
    second: dict[str, int | bytes] = {"usr/bin/su": 0o755, "usr/bin/.wh.mount": b"", "root/.wh..cache": b""}
    found = verdicts(of_image(CONFIG, first, second))
    assert (found["setuid"], found["cache"]) == ("pass", "fail")
    assert verdicts(of_image(CONFIG, first, {"usr/bin/.wh..wh..opq": b""}))["setuid"] == "pass"


def test_a_link_replaces_a_folder_with_its_files() -> None:
    first: dict[str, int | bytes] = {"opt/bin/su": SETUID, "usr/bin/su": SETUID}
    assert verdicts(of_image(CONFIG, first, {"opt": b"", "usr/bin/su": 0o755}))["setuid"] == "pass"
    assert verdicts(of_image(CONFIG, first, {"op": b"", "usr/bin/su": 0o755}))["setuid"] == "fail"


APPS = ("app", "./app", "app/", "../app/.", "/app/*", "app/sta??", "a[p]p", "*/start")


@pytest.mark.parametrize(
    ("copied", "taken", "command", "verdict"),
    [
        ("WORKDIR /src\nCOPY start .", "--from=one /src/start /bin/start", "start", "unknown"),
        ("COPY start /src/", "--from=one /src /app", "/app/start", "unknown"),
        ("COPY src /src", "--from=0 / /b", "/b/src/bin/start", "unknown"),
        ("COPY src /src", "--from=one /opt /opt", "/opt/start", "pass"),
        *(("COPY src/start /app/start", f"--from=one {app} /srv", "/srv/start", "unknown") for app in ("/app", *APPS)),
        ("COPY src/start /app/start", "--from=one /apps/* /srv", "/srv/start", "pass"),
        ("COPY src/start /app/start", "--from=one /app/s*.py /srv", "/srv/start", "pass"),
        ("COPY . /app", "--from=one /app/sta?? /usr/bin/", "start", "unknown"),
        ("COPY . /app", "--from=one /app/s*.d /usr/bin/", "/usr/bin/start.d", "unknown"),
        ("WORKDIR /app\nCOPY . .", "--from=one /app/.venv /app/.venv", "/app/.venv/bin/python", "pass"),
        ("WORKDIR /app\nCOPY . .", "--from=one /app /app", "/app/.venv/bin/python", "pass"),
        ("COPY venv/bin/start /opt/venv/bin/start", "--from=one /opt /opt", "/opt/venv/bin/start", "unknown"),
        ("COPY src /src", "--from=1 /src /opt", "/opt/start", "pass"),
    ],
)
def test_a_script_may_come_through_another_stage(copied: str, taken: str, command: str, verdict: str) -> None:
    text = f'FROM scratch AS one\n{copied}\nFROM scratch AS two\nFROM scratch\nCOPY {taken}\nCMD ["{command}"]\n'
    assert verdicts(audit_dockerfile(text, "Dockerfile"))["exec-form"] == verdict


@pytest.mark.parametrize(
    "step", [f"ENV A={TOKEN}", f"ARG A={TOKEN}", f"LABEL a={TOKEN}", f"RUN a {TOKEN}", "ENV PW_KEY=a"]
)
def test_a_credential_of_a_later_stage_is_one_of_the_file(step: str) -> None:
    for target in ("a", "b", "c"):
        report = audit_dockerfile(f"FROM scratch AS a\nFROM a AS b\n{step}\nFROM a AS c\n", "Dockerfile", target)
        assert verdicts(report)["secrets"] == "fail"


@pytest.mark.parametrize(
    "step", ["bash --version", "/usr/local/cuda/extras/demo_suite/deviceQuery", "/usr/lib/jvm/java"]
)
def test_what_is_not_shown_is_not_called_a_script(step: str) -> None:
    report = audit_dockerfile(f"FROM python:3.12\nRUN {step}\n", "Dockerfile")
    (seen,) = next(one.seen for one in report.judgements if one.rule.id == "locked")
    assert seen.text == f"`{step}` runs a program that the Dockerfile does not show"


@pytest.mark.parametrize(("program", "verdict"), [("/srv/start", "unknown"), ("/usr/bin/serve", "pass"), ("a", "pass")])
def test_a_program_in_an_unusual_place_may_be_a_script(program: str, verdict: str) -> None:
    for copied, expected in (("", verdict), ("COPY --from=one /out /srv\n", "pass")):
        text = f'FROM scratch AS one\nFROM scratch\n{copied}ENTRYPOINT ["{program}"]\n'
        assert verdicts(audit_dockerfile(text, "Dockerfile"))["exec-form"] == expected


def test_what_is_copied_is_not_called_a_script() -> None:
    report = audit_dockerfile('FROM python:3.12\nCOPY . /app\nCMD ["/app/serve"]\n', "Dockerfile")
    (seen,) = next(one.seen for one in report.judgements if one.rule.id == "exec-form")
    assert seen.text == "whether CMD starts a script that does not end with `exec`"


def test_what_only_the_build_knows_of_a_base_is_an_ellipsis() -> None:
    report = audit_dockerfile("ARG V\nFROM python:$V-slim\n", "Dockerfile")
    seen = {one.rule.id: seen.text for one in report.judgements for seen in one.seen}
    assert (seen["glibc"], seen["compilers"]) == ("python:…-slim has glibc", "python:…-slim has no compilers")
    assert seen["user"] == "no USER: python:…-slim runs as root"


def test_a_python_for_musl_is_named() -> None:
    path = "opt/lib/python3.13/lib-dynload/a.cpython-313-x86_64-linux-musl.so"
    report = of_image(CONFIG, {**LAYER, path: b""})
    assert {one.rule.id: one.seen[0].text for one in report.judgements}["glibc"] == f"has musl: /{path}"


def test_a_long_value_is_compared_in_linear_time() -> None:
    assert is_credential("A_KEY", f"/{'a' * 100_000}!")


def test_a_credential_that_a_later_layer_removes_is_still_in_the_image() -> None:
    netrc = b"machine a.org login ci password Qx7vLk2pRt9w\n"
    (seen,) = next(
        one.seen
        for one in of_image(CONFIG, {"root/.netrc": netrc}, {"root/.wh..netrc": b""}).judgements
        if one.rule.id == "secrets"
    )
    assert (seen.verdict, seen.text) == ("fail", "/root/.netrc has a password of a host (netrc), in a layer")


EXEC, SCRIPT = "#!/usr/bin/env -S bash -e\nset -u\nexec python -m a\n# end\n", "#!/bin/sh\nexec a || b\npython -m a\n"


@pytest.mark.parametrize(
    ("config", "text", "verdict"),
    [
        ({"Cmd": ["serve"]}, EXEC, "pass"),
        ({"Cmd": ["serve"]}, SCRIPT, "unknown"),
        ({"Cmd": ["/bin/serve"]}, SCRIPT, "unknown"),
        ({"Cmd": ["bash", "-e", "/usr/bin/serve"]}, EXEC, "pass"),
        ({"Cmd": ["bash", "/gone"]}, EXEC, "unknown"),
        ({"Cmd": ["/opt/serve"]}, SCRIPT, "pass"),
        ({"Cmd": ["./bin/serve"]}, SCRIPT, "unknown"),
        ({"Entrypoint": ["serve"], "Cmd": ["sh", "-c", "a"]}, EXEC, "fail"),
        ({"Cmd": ["serve"]}, "#!/usr/bin/python\nimport a\n", "pass"),
        ({"Cmd": ["serve"], "Env": []}, SCRIPT, "unknown"),
        ({"Cmd": ["tini", "--", "serve"]}, SCRIPT, "unknown"),
        ({"Entrypoint": ["tini", "--"], "Cmd": ["serve"]}, EXEC, "pass"),
        ({"Cmd": ["serve"]}, "#!\n", "pass"),
        ({"Cmd": ["serve"]}, "#!/bin/sh\nexec python -m a 2>&1 | tee log\n", "unknown"),
    ],
)
def test_a_script_is_read_where_a_command_finds_it(config: dict[str, object], text: str, verdict: str) -> None:
    layer: dict[str, int | bytes] = {"usr/bin/serve": text.encode()}
    assert verdicts(of_image({**CONFIG, **config}, LAYER, layer))["exec-form"] == verdict


@pytest.mark.parametrize(
    ("steps", "label", "verdict"),
    [
        (("RUN /bin/sh -c pip install --require-hashes -r x # buildkit",), {}, "pass"),
        (("COPY /opt/venv /opt/venv # buildkit",), {}, "unknown"),
        (("COPY /opt/venv /opt/venv # buildkit",), {"dev.mlship.lock": DIGEST}, "pass"),
        (("RUN /bin/sh -c ./install.sh # buildkit",), {"dev.mlship.lock": DIGEST}, "unknown"),
        (("RUN /bin/sh -c pip install a # buildkit",), {"dev.mlship.lock": DIGEST}, "fail"),
        (("RUN /bin/sh -c pip install --require-hashes -r x # buildkit", "COPY a b"), {}, "unknown"),
        ((), {}, "unknown"),
    ],
)
def test_each_package_needs_a_step_that_installs_it(
    steps: tuple[str, ...], label: dict[str, str], verdict: str
) -> None:
    report = of_image({**CONFIG, "Labels": label}, {"opt/a-1.dist-info/METADATA": b"x"}, steps=steps)
    assert verdicts(report)["locked"] == verdict


@pytest.mark.parametrize(
    ("step", "rule", "verdict"),
    [
        ("RUN /bin/sh -c pip install torch # buildkit", "locked", "fail"),
        ("/bin/sh -c pip install --require-hashes -r x", "locked", "pass"),
        ("|1 A=b /bin/sh -c pip install torch", "locked", "fail"),
        ('/bin/sh -c #(nop)  CMD ["pip", "install", "x"]', "locked", "not applicable"),
        ('CMD ["pip" "install" "x"]', "locked", "not applicable"),
        ("RUN pip install torch # buildkit", "locked", "fail"),
        (
            "SHELL [/bin/bash -o pipefail -c]|RUN /bin/bash -o pipefail -c pip install a | tee b # buildkit",
            "locked",
            "fail",
        ),
        ("SHELL [mamba run /bin/bash -c]|RUN |1 A=b mamba run /bin/bash -c pip install a # buildkit", "locked", "fail"),
        ("|2 NOTE=a b API_TOKEN=c /bin/sh -c x", "secrets", "fail"),
        ("RUN |2 NOTE=a b API_TOKEN= /bin/sh -c x", "secrets", "pass"),
        ("RUN |1 NOTE=a /bin/sh -c API_TOKEN=$(cat /run/secrets/a) x", "secrets", "pass"),
        ("ENV HF_TOKEN=a|ENV HF_TOKEN=", "secrets", "fail"),
        ("/bin/sh -c #(nop)  ENV A=b c HF_TOKEN=a", "secrets", "fail"),
        ("ARG API_TOKEN", "secrets", "pass"),
        ("RUN /bin/sh -c <<EOF cat > /b\npip install y\nEOF # buildkit", "locked", "not applicable"),
        ("RUN /bin/sh -c <<EOF cat > /b\na\nEOF\npip install y # buildkit", "locked", "fail"),
        ("RUN /bin/sh -c bash <<-'EOF'\npip install y\n\tEOF # buildkit", "locked", "fail"),
        ("RUN /bin/sh -c python <<'EOF'\npip install y\nEOF # buildkit", "locked", "not applicable"),
        ("RUN |1 HF_TOKEN=abc /bin/sh -c x # buildkit", "secrets", "fail"),
        ("ARG HF_TOKEN=abc", "secrets", "fail"),
        (f"RUN /bin/sh -c git clone https://u:{TOKEN}@x.org/a", "secrets", "fail"),
    ],
)
def test_the_history_of_an_image_is_read(step: str, rule: str, verdict: str) -> None:
    steps = tuple(re.split(r"(?<=\S)\|(?=[A-Z])", step))
    assert verdicts(of_image({**CONFIG, "Labels": {}}, LAYER, steps=steps))[rule] == verdict


def test_a_rule_says_where_and_what() -> None:
    report = audit_dockerfile("FROM alpine\nRUN pip install \\\n  x\n", "Dockerfile")
    seen = {one.rule.id: [(each.line, each.text) for each in one.seen] for one in report.judgements}
    assert seen["locked"] == [(2, "`pip install x` has no lock")]
    assert seen["glibc"] == [(1, "alpine has musl")]
    assert seen["digest"] == [(1, "alpine has no digest")]


@pytest.mark.parametrize(("base", "verdict"), [("scratch", "fail"), ("example.org/own:1", "unknown")])
def test_without_a_health_check_the_base_decides(base: str, verdict: str) -> None:
    assert verdicts(audit_dockerfile(f"FROM {base}\n", "Dockerfile"))["healthcheck"] == verdict


def test_what_an_image_shows_has_no_line() -> None:
    report = of_image({**CONFIG, "Env": ["A_TOKEN=x"]}, LAYER, steps=(f"RUN /bin/sh -c curl -H {TOKEN}",))
    assert {seen.line for one in report.judgements for seen in one.seen} == {0}


def test_the_documentation_has_a_row_for_each_rule() -> None:
    text = (Path(__file__).parents[3] / "docs/audit.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.partition("## Limits")[0].splitlines() if line.startswith("| ")]
    assert [name.strip() for row in rows[2:] for name in row.split(",")] == [rule.id for rule in audit_table().rule]


def test_rows_are_complete() -> None:
    table = audit_table()
    assert len({row.id for row in table.rule}) == len(table.rule)
    assert all((row.title, row.why, row.fix, row.source) for row in table.rule)
    assert all(row.source for row in table.base)
    assert known_base("docker.io/library/python:3.12-slim@sha256:0") == known_base("python:3.9-slim-bullseye")
    assert known_base("example.org/python:3.12-slim") is None
    assert [is_credential(name, None) for name in ("AWS_SECRET_ACCESS_KEY", "KEYBOARD", "GPG_KEY", "TOKENIZERS")] == [
        True,
        False,
        False,
        False,
    ]


def test_many_copies_take_no_longer_than_they_are_many() -> None:
    """Of more than a thousand copied paths, any program may be one."""
    report = audit_dockerfile("FROM python:3.12-slim\n" + "COPY a /opt/\nRUN true\n" * 1500, "Dockerfile")
    assert verdicts(report)["locked"] == "unknown"
    assert verdicts(audit_dockerfile("FROM python:3.12-slim\n" + "COPY a /opt/\nRUN true\n" * 9, "a"))["locked"] == (
        "not applicable"
    )


def test_many_options_of_python_are_read_in_linear_time() -> None:
    report = audit_dockerfile(f"FROM python:3.12-slim\nRUN python {'-u ' * 50_000}-m pip install a\n", "a")
    assert verdicts(report)["locked"] == "fail"
