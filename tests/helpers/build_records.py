"""Records of builds and their digests."""

from mlship.engine.base import ImageLayer, Manifest


def digest(number: int) -> str:
    return f"sha256:{number:064d}"


BUILT = Manifest(digest(1), digest(2), (ImageLayer(digest(3), 30, "a base"), ImageLayer(digest(4), 40, "add the code")))
