"""The HEALTHCHECK's program: Python's standard library asks the ready route. Pure."""


def health_code(url: str) -> str:
    """For a `python -ISc`, which fails where the answer is no success.

    It reads the answer to its end: a connection that is dropped before is an error in the server's log, or a traceback.
    """
    return f"import urllib.request as r; r.urlopen('{url}', timeout=3).read()"
