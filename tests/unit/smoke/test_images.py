"""Images by structure: whole ones are recognised, and no part of one is."""

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlship.smoke.inside import images
from mlship.smoke.inside.images import read_image

# 5 x 3 pixels, written by Pillow; the JPEG by hand, with a restart marker and a stuffed byte in its scan.
PICTURES = {
    "PNG": "iVBORw0KGgoAAAANSUhEUgAAAAUAAAADCAIAAADUVFKvAAAAI0lEQVR4nGNkYPivIfgNjlhOhJ6DsD4IfvsA4X8Q/HYCJgQA6aQW07/3"
    "TccAAAAASUVORK5CYII=",
    "GIF": "R0lGODdhBQADAIMAAODMh7i7kZCqmzDucwjdfWiZpUCIrxh3ufBmw8hVzaBE13gz4VAi6ygR9QAA/wAAACwAAAAABQADAAAIFAAdNGCw"
    "QEECBAcMFBAQAACBAQEBADs=",
    "WebP": "UklGRjoAAABXRUJQVlA4TC0AAAAvBIAAAHcgEEhS2B94hUG5/f/8J5eBgkaSmu+FrgVPaMETWhAW0f9YW87N9wcA",
    "JPEG": base64.b64encode(
        b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc2\x00\x08\x08\x00\x03\x00\x05\x00\xff\xda\x00\x02xy\xff\x00z\xff\xd0w"
        b"\xff\xda\x00\x02vv\xff\xd9"
    ).decode(),
}
WHOLE = {name: base64.b64decode(text) for name, text in PICTURES.items()}


@pytest.mark.parametrize("name", PICTURES)
def test_a_whole_image_is_recognised_and_none_of_its_parts(name: str) -> None:
    data = WHOLE[name]
    assert read_image(data) == (name, 5, 3, "")
    for size in range(len(data)):
        assert read_image(data[:size]).problem, size


@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_it_reads_anything_and_never_raises(name: str, draw: st.DataObject) -> None:
    data = bytearray(WHOLE[name])
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    found = read_image(bytes(data))
    assert found.problem or (found.width and found.height)


@given(st.binary(max_size=200))
def test_random_bytes_are_no_image(data: bytes) -> None:
    assert read_image(data).problem


def test_pixels_that_unpack_to_gigabytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    monkeypatch.setattr(images, "LARGEST", 1 << 20)
    bomb = zlib.compress(bytes(1 << 23))[:-4]  # its end is missing, which is not reached
    header = chunk(b"IHDR", (1 << 16).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00")
    found = read_image(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", bomb) + chunk(b"IEND", b""))
    assert (found.width, found.problem) == (1 << 16, "")
