"""Names of images as Docker reads them: `digits:1.0` is `docker.io/library/digits:1.0`."""

from dataclasses import dataclass

DOCKER_HUB = "docker.io"
NAME_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"  # of a repository, between slashes


@dataclass(frozen=True)
class Reference:
    """One image in a registry, as in https://github.com/distribution/reference.

    Attributes:
        host: of the registry, with its port, such as `127.0.0.1:5000`; `docker.io` for Docker Hub.
        repository: such as `library/python`.
        version: a tag, or a digest (`sha256:...`).
    """

    host: str
    repository: str
    version: str

    @staticmethod
    def parse(text: str) -> "Reference":
        """Read a valid image name."""
        name, at, digest = text.partition("@")
        first, slash, rest = name.partition("/")
        if not slash or not (first == "localhost" or any(sign in first for sign in ".:")):
            first, rest = DOCKER_HUB, name
        repository, colon, tag = rest.partition(":")
        if first == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        return Reference(first, repository, digest if at else tag if colon else "latest")

    @property
    def api(self) -> str:
        """Host of the registry's API; Docker Hub has another one than its name."""
        return "registry-1.docker.io" if self.host == DOCKER_HUB else self.host

    def at(self, version: str) -> "Reference":
        """The same repository, with another tag or digest."""
        return Reference(self.host, self.repository, version)

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}{'@' if ':' in self.version else ':'}{self.version}"
