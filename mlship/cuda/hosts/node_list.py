"""The items of a long JSON list, read one at a time: thousands of nodes are hundreds of megabytes."""

import json
import re
from collections.abc import Iterator
from typing import TextIO

from mlship import plain
from mlship.errors import UsageError

HINT = "run `kubectl get nodes -o json | mlship hosts import -` (with NVIDIA's DRA driver: `nodes,resourceslices`)"
MOST = 50_000_000  # characters of a document that is no list, and of one item; a node has some 20,000
_CHUNK = 1 << 20
_VALUE = r'"(?:[^"\\]|\\.)*"|\{[^{}]*\}'
_HEAD = re.compile(rf'\s*\{{(?:\s*"(?!items")\w+"\s*:\s*(?:{_VALUE})\s*,)*\s*"items"\s*:\s*\[')
_SPACE = re.compile(r"[\s,]*")


def list_items(stream: TextIO) -> Iterator[object]:
    """The items of a Kubernetes list; another document whole, as its text.

    Raises:
        UsageError: it is too large and no list, or is incomplete.
    """
    text = stream.read(_CHUNK)
    head = _HEAD.match(text)
    if head is None:
        text += stream.read(MOST)
        if len(text) > MOST:
            raise UsageError(f"the input is larger than {MOST // 1_000_000} MB and no list of nodes", hint=HINT)
        yield text
        return
    yield from _items(stream, text[head.end() :])


def _items(stream: TextIO, text: str) -> Iterator[object]:
    decoder, size = json.JSONDecoder(), _CHUNK
    position = 0
    while True:
        space = _SPACE.match(text, position)
        position = space.end() if space else position
        if text.startswith("]", position):
            if plain.json_of('{"items": [' + text[position:] + stream.read(MOST)) is None:
                raise UsageError("the list of nodes is incomplete, or something follows it", hint=HINT)
            return
        try:
            item, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            more = stream.read(size) if len(text) - position < MOST else ""
            if not more:
                raise UsageError("the list of nodes is incomplete or not JSON", hint=HINT) from error
            text, position, size = text[position:] + more, 0, 2 * size
        else:
            size = _CHUNK
            yield item
