"""Print the `docker buildx build` that mlship would run: `_bench_bare.py REPOSITORY FOLDER TAG`."""

import json
import sys
from pathlib import Path

from mlship.build.prepare import prepare
from mlship.build.run import BuildOptions, request
from mlship.engine.buildx import argv, write_files


def bare_build(repo: Path, folder: Path, tag: str) -> list[str]:
    """Return the argv of the build, after writing its Dockerfile, secrets and wheels to `folder`."""
    build = request(prepare(repo), tag, BuildOptions())
    epoch = [] if build.epoch is None else ["env", f"SOURCE_DATE_EPOCH={build.epoch}"]
    secrets = {name: folder / name for name in build.secrets}
    for name, path in secrets.items():
        path.touch(mode=0o600)
        path.write_bytes(build.secrets[name])
    return [*epoch, *argv(build, write_files(build, folder, secrets))]


if __name__ == "__main__":
    print(json.dumps(bare_build(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])))
