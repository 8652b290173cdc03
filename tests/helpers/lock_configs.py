"""Configurations of projects to lock."""

from mlship.project.config import Config
from mlship.project.load import parse_config

YAML = """\
name: demo
model: {load: "a:b", sample: s.json}
serve: {command: [python]}
source: [a.py]
"""


def config(extra: str = "") -> Config:
    return parse_config(YAML + extra)
