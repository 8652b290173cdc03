"""What a response other than 200 means."""


class Refused(Exception):
    """A request that a limit of the server refuses."""

    def __init__(self, status: int, message: str, path: str = "") -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.status, self.message, self.path = status, message, path


class InvalidRequest(Refused):
    """The caller's mistake: answered with 422 and the path of the field."""

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(422, message, path)


class NotFinite(Exception):
    """The model returned NaN or infinity: answered with 500 and counted."""


class ModelFailed(Exception):
    """The model raised another exception, the argument: answered with 500, counted and logged."""
