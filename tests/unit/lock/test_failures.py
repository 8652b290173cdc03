"""pip-compile's own words, captured from pip-tools 7.6.2 with pip 23.2 and 26.3."""

import pytest

from mlship.errors import MlshipError, TransientError, UsageError
from mlship.lock.failures import explain
from mlship.lock.inputs import InputFile
from tests.helpers.lock_configs import config

CONFLICT = """\
  Collecting starlette==0.30.0 (from -r requirements.in (line 2))
  ERROR: Cannot install -r requirements.in (line 1) and starlette==0.30.0 because these package versions have conflicting dependencies.
  
  The conflict is caused by:
      The user requested starlette==0.30.0
      fastapi 0.115.0 depends on starlette<0.39.0 and >=0.37.2
  
  To fix this you could try to:
  1. loosen the range of package versions you've specified
Traceback (most recent call last):
pip._internal.exceptions.DistributionNotFound: ResolutionImpossible: for help visit https://pip.pypa.io/
"""  # noqa: E501, W293
NOWHERE = "  ERROR: Could not find a version that satisfies the requirement nosuch (from versions: none)\n"
OTHER_PYTHON = """\
  ERROR: Ignored the following versions that require a different python version: 2.5.4 Requires-Python >=3.12
  ERROR: Could not find a version that satisfies the requirement numpy==2.5.5 (from versions: 2.4.5, 2.4.6)
"""
UNREACHABLE = """\
  WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken by 'NewConnectionError('<pip._vendor.urllib3.connection.HTTPSConnection object at 0x7fcbcf94e4d0>: Failed to establish a new connection: [Errno 111] Connection refused')': /simple/nosuch/
"""  # noqa: E501
CERTIFICATE = """\
  WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken by 'SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate in certificate chain (_ssl.c:1006)'))': /simple/zipp/
"""  # noqa: E501
REFUSED = "  WARNING: 401 Error, Credentials not correct for https://user:hunter2@host/simple/nosuch/\n"
INVALID = "pip._internal.exceptions.InstallationError: Invalid requirement: '!!bad' (from line 1 of requirements.in)\n"
PKG_CONFIG = """\
  Getting requirements to build wheel: finished with status 'error'
  error: subprocess-exited-with-error
      raise Exception("Can not find valid pkg-config name.")
      Exception: Can not find valid pkg-config name.
      Specify MYSQLCLIENT_CFLAGS and MYSQLCLIENT_LDFLAGS env vars manually
  note: This error originates from a subprocess, and is likely not a problem with pip.
  raise error
"""
SOURCE = """\
    error: subprocess-exited-with-error
    x Getting requirements to build wheel did not run successfully.
        error: command 'gcc' failed: No such file or directory
"""
FULL = "OSError: [Errno 28] No space left on device\n"


@pytest.mark.parametrize(
    ("output", "kind", "said", "hint"),
    [
        (CONFLICT, UsageError, "fastapi 0.115.0 depends on starlette<0.39.0 and >=0.37.2", "relax"),
        (
            CONFLICT.replace(
                "fastapi 0.115.0 depends on starlette<0.39.0 and >=0.37.2",
                "The user requested (constraint) starlette==0.29.0",
            ),
            UsageError,
            "or a version has no file for Python 3.11 and linux/amd64",
            "remove `starlette==0.29.0` from the constraints",
        ),
        (NOWHERE, UsageError, "no package index has `nosuch` for Python 3.11 on linux/amd64", "requirements.in"),
        (
            OTHER_PYTHON,
            UsageError,
            "available: 2.4.5, 2.4.6; other versions were ignored because they need another Python",
            "python",
        ),
        (UNREACHABLE + NOWHERE, TransientError, "[Errno 111] Connection refused", "network"),
        (CERTIFICATE + NOWHERE, UsageError, "is not trusted", "global.cert"),
        (REFUSED + NOWHERE, UsageError, "401 Error", "netrc"),
        (INVALID, UsageError, "'!!bad' (from line 1 of requirements.in)", "requirements.in"),
        (SOURCE, UsageError, "command 'gcc' failed", "wheels"),
        (PKG_CONFIG, UsageError, "from source failed:\n- Exception: Can not find valid pkg-config name.", "wheels"),
        (FULL, TransientError, "disk is full", "free disk space"),
        ("WORST: no\n  Downloading x.whl (3 kB)\n   ---- 3/3 kB\n", UsageError, "failed: WORST: no", "requirements.in"),
        ("what\nis this https://u:hunter2@h\n", UsageError, "is this https://***@h", "requirements.in"),
        ("", UsageError, "printed nothing", "requirements.in"),
    ],
)
def test_explains(output: str, kind: type[MlshipError], said: str, hint: str) -> None:
    error = explain(output, config())
    assert type(error) is kind
    assert said in error.message
    assert hint in error.hint
    assert "hunter2" not in error.message
    assert len(error.message) < 600


def test_leaves_the_engines_own_explanation_where_pip_said_nothing_known() -> None:
    engine = UsageError("the engine's words", hint="x")
    assert explain("pulling", config(), otherwise=engine) is engine


def test_an_invalid_line_is_named_in_the_file_that_has_it() -> None:
    files = (InputFile("requirements.in", "-r more.txt\n"), InputFile("more.txt", "a\n!!bad --hash=sha256:0\n"))
    assert "`more.txt, line 2`" in (explain(INVALID, config(), files=files).hint or "")


def test_a_wrong_hash_in_the_requirements_does_not_go_away_by_itself() -> None:
    """The index's own hash may be wrong for a while; what a person wrote has to be corrected."""
    output = f"""\
  Collecting alpha==1.0 (from -r requirements.in (line 2))
HashMismatch: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package
    alpha==1.0 from https://files.example.com/alpha-1.0-py3-none-any.whl (from -r more.in (line 2)):
        Expected sha512 {"1" * 128}
        Expected     or {"2" * 128}
             Got        {"3" * 128}
"""
    files = (InputFile("more.in", f"beta\nalpha==1.0 --hash=sha512:{'1' * 128} --hash=sha512:{'2' * 128}\n"),)
    named = explain(output, config(), files=files)
    assert isinstance(named, UsageError)
    assert named.message.startswith("more.in, line 2: the file of `alpha` has another hash: expected ")
    assert f"expected {'1' * 128} or {'2' * 128}, received {'3' * 128}\n" in named.message
    assert "is wrong, or the file was changed" in named.message
    assert str(named.hint).startswith("compare both hashes with what the project publishes")
    assert "remove" not in str(named.hint)  # the hash may be right: it is what protects from a changed file
    assert isinstance(explain(output, config()), TransientError)
