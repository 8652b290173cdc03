"""What a response other than 200 means."""


class InvalidRequest(ValueError):
    """The caller's mistake: answered with 422 and the path of the field."""

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(message if path == "$" else f"{path}: {message}")
        self.message, self.path = message, path


class NotFinite(ValueError):
    """The model returned NaN or infinity: answered with 500 and counted."""


class ModelFailed(Exception):
    """The model raised another exception, the cause: answered with 500, counted and logged."""


class Refused(Exception):
    """A request that a limit of the server refuses."""

    def __init__(self, status: int, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers
