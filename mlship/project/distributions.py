"""Which distribution brings a module, where the two have different names. Pure."""

from packaging.utils import canonicalize_name

_KNOWN = {
    "PIL": "pillow",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "google.protobuf": "protobuf",
    "jwt": "pyjwt",
    "llama_cpp": "llama-cpp-python",
    "multipart": "python-multipart",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
# Many distributions share these; PyPI has projects of the bare names, which are something else.
_NAMESPACES = {module.partition(".")[0] for module in _KNOWN if "." in module}


def provider(module: str) -> str | None:
    """The normalised name of the distribution that brings a module, dotted or not; None where a name cannot tell."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if known := _KNOWN.get(".".join(parts[:length])):
            return known
    return None if parts[0] in _NAMESPACES else canonicalize_name(parts[0])
