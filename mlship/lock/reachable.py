"""Why an index does not say whether it has a project. pip reports nothing of it, and then that the project is missing.

A requirement is wrong only if every index answered.
"""

from collections.abc import Iterable

from packaging.utils import canonicalize_name

from mlship.errors import MlshipError, TransientError, UsageError
from mlship.lock.index import PageReader, SilentIndexError, page_reader
from mlship.lock.indexes import PipSettings, local_path
from mlship.redact import redact

_AGAIN = "then run `mlship lock` again"
_NETWORK = f"check the network and `pip config list`, {_AGAIN}"
_LOGIN = "correct the user name and password in `~/.netrc` or in the address of the index (`pip config list`)"
_ADDRESS = f"correct the address of the index (`pip config list`), {_AGAIN}"
_CA = "set the bundle that contains this CA: `pip config set global.cert /path/to/ca.pem`, or PIP_CERT"
_BUSY = {408, 425, 429}
_REFUSED = {401: "the credentials are missing or wrong", 403: "access is forbidden, or it has no such package"}


def index_fault(settings: PipSettings, names: Iterable[str]) -> MlshipError | None:
    """The error of the first index without an answer about a package; None if all of them answer."""
    indexes = [index.rstrip("/") for index in settings.indexes() if local_path(index) is None]
    with page_reader(settings) as reader:
        for index in indexes:
            for name in names:
                if error := _problem(reader, index, name):
                    return error
    return None


def _problem(reader: PageReader, index: str, name: str) -> MlshipError | None:
    try:
        with reader.get(f"{index}/{canonicalize_name(name)}/") as answer:
            status, kind = answer.status_code, answer.headers.get("Content-Type", "")
            reader.body(answer)
    except SilentIndexError as error:
        return _without_answer(error, redact(index))
    shown = f"the package index {redact(index)} answered HTTP {status} for `{name}`"
    if status == 407:
        return UsageError(
            f"the proxy rejected the credentials (HTTP 407) for {redact(index)}",
            hint=f"correct the user name and password of the proxy (`pip config list`, HTTPS_PROXY), {_AGAIN}",
        )
    if status in _REFUSED:
        return UsageError(f"{shown}: {_REFUSED[status]}", hint=_LOGIN)
    if status in _BUSY or status >= 500:
        return TransientError(f"{shown}: it is overloaded or failing", hint=f"wait a few minutes, {_AGAIN}")
    if status == 200 and not any(word in kind for word in ("html", "json")):
        found = f"the package index {redact(index)} answers with `{kind or 'no content type'}`, not a list of files"
        return TransientError(found, hint=f"check the address (`pip config list`) and the network's login, {_AGAIN}")
    known = status in {200, 404, 410}
    return None if known else UsageError(f"{shown}: it is not the address of an index", hint=_ADDRESS)


def _without_answer(error: SilentIndexError, index: str) -> MlshipError:
    if error.untrusted:
        why = f"the certificate of the package index {index} is not trusted (a company proxy may use its own CA)"
        return UsageError(why, hint=_CA)
    if not error.reason:
        return UsageError(f"`{index}` is not an address of a package index", hint=_ADDRESS)
    return TransientError(f"cannot reach the package index {index}: {error.reason}", hint=_NETWORK)
