"""Prints the argv with which mlship would ask the engine: `_bench_bare.py REPOSITORY FOLDER TAG`."""

import json
import sys
from pathlib import Path

from mlship.build.prepare import prepare
from mlship.build.run import BuildOptions, request
from mlship.engine.buildx import argv, write_files


def main() -> None:
    repo, folder, tag = sys.argv[1:]
    asked = request(prepare(Path(repo)), tag, BuildOptions())
    epoch = [] if asked.epoch is None else ["env", f"SOURCE_DATE_EPOCH={asked.epoch}"]
    print(json.dumps([*epoch, *argv(asked, write_files(asked, Path(folder)))]))


if __name__ == "__main__":
    main()
