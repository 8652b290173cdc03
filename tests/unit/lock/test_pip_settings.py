import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlship import process
from mlship.errors import UsageError
from mlship.lock.indexes import PipSettings, read_pip_settings, with_declared
from mlship.lock.inputs import InputFile
from mlship.lock.pip_config import pip_options
from mlship.lock.secrets import build_secrets


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".config/pip").mkdir(parents=True)
    (tmp_path / ".pip").mkdir()
    (tmp_path / ".pip/pip.conf").write_text("[global]\nindex-url = https://legacy/simple\ntimeout = 7\n")
    (tmp_path / ".config/pip/pip.conf").write_text(
        "[global]\nindex-url = https://user/simple\nextra-index-url =\n    https://a/simple\n    https://b/simple\n"
        "[install]\ntrusted_host = h1 h2\nno-index = false\n[download]\nindex-url = https://not-this/simple\n"
    )
    return tmp_path


def environment(home: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(home), "XDG_CONFIG_DIRS": str(home / "xdg"), **more}


def test_later_levels_win_and_the_environment_over_all(home: Path) -> None:
    settings = read_pip_settings(environment(home, PIP_TRUSTED_HOST="h3", PIP_CERT=""))
    assert settings.index_url == "https://user/simple"
    assert settings.extra_index_urls == ("https://a/simple", "https://b/simple")
    assert (settings.timeout, settings.trusted_hosts, settings.no_index) == ("7", ("h3",), False)


def test_a_named_file_that_exists_replaces_those_of_the_user(home: Path) -> None:
    (home / "explicit.conf").write_text("[global]\ntimeout = 9\n[install]\nindex-url = https://explicit/simple\n")
    settings = read_pip_settings(environment(home, PIP_CONFIG_FILE=str(home / "explicit.conf")))
    assert settings.index_url == "https://explicit/simple"
    assert (settings.timeout, settings.extra_index_urls, settings.trusted_hosts) == ("9", (), ())
    missing = read_pip_settings(environment(home, PIP_CONFIG_FILE=str(home / "missing.conf")))
    assert missing.index_url == "https://user/simple"


@pytest.mark.slow
@pytest.mark.parametrize("explicit", ["", "explicit.conf", "missing.conf"])
def test_says_what_pip_config_list_says(home: Path, explicit: str) -> None:
    (home / "explicit.conf").write_text("[global]\nindex-url = https://explicit/simple\n")
    file = {"PIP_CONFIG_FILE": str(home / explicit)} if explicit else {}
    env = environment(home, PIP_DEFAULT_TIMEOUT="3", **file)
    clean = {key: "" for key in os.environ if key.startswith("PIP_")}
    done = process.run([sys.executable, "-m", "pip", "config", "list"], process.Options(env={**clean, **env}))
    listed: dict[str, set[str]] = {}  # newer pips list what each file says, older ones what wins
    for key, value in re.findall(r"^(?:global|install|:env:)\.([\w-]+)='(.+)'$", done.stdout, re.MULTILINE):
        listed.setdefault(key, set()).add(value)
    ours = pip_options(env)
    assert set(ours) == set(listed) - {"config-file"}
    assert all(value.replace("\n", "\\n") in listed[key] for key, value in ours.items())
    assert ours["index-url"] == f"https://{'explicit' if explicit == 'explicit.conf' else 'user'}/simple"


def test_the_site_level_counts_more_than_the_user_and_less_than_an_explicit_file(home: Path) -> None:
    """pip.conf in the folder of the Python installation, as a virtual environment or a distribution brings it."""
    prefix = home / "venv"
    prefix.mkdir()
    (prefix / "pip.conf").write_text("[global]\nindex-url = https://site/simple\ntimeout = 11\n")
    (home / "explicit.conf").write_text("[global]\ntimeout = 12\n")
    site = pip_options(environment(home), prefix)
    assert (site["index-url"], site["timeout"]) == ("https://site/simple", "11")
    assert site["trusted-host"] == "h1 h2"
    assert inspect.signature(pip_options).parameters["prefix"].default == Path(sys.prefix)
    explicit = pip_options(environment(home, PIP_CONFIG_FILE=str(home / "explicit.conf")), prefix)
    assert (explicit["index-url"], explicit["timeout"]) == ("https://site/simple", "12")


def test_the_machine_level_counts_less_than_the_user(home: Path) -> None:
    for name, index in (("one", "https://first/simple"), ("two", "https://second/simple")):
        (home / "xdg" / name / "pip").mkdir(parents=True)
        (home / "xdg" / name / "pip/pip.conf").write_text(f"[global]\nindex-url = {index}\nproxy = p:{name}\n")
    env = environment(home, XDG_CONFIG_DIRS=f"{home}/xdg/one:{home}/xdg/two")
    found = pip_options(env, home)
    assert (found["index-url"], found["proxy"]) == ("https://user/simple", "p:two")


def test_no_files_at_all_with_dev_null(home: Path) -> None:
    assert pip_options(environment(home, PIP_CONFIG_FILE=os.devnull), home) == {}


def test_a_malformed_file_is_named_and_its_password_is_not(home: Path) -> None:
    (home / ".config/pip/pip.conf").write_text("index-url = https://u:hunter2@host\n")
    with pytest.raises(UsageError, match=r"pip\.conf` is not") as caught:
        read_pip_settings(environment(home))
    assert "hunter2" not in caught.value.message


def test_certificates_netrc_and_proxies(home: Path) -> None:
    for name in ("pip.pem", "requests.pem", ".netrc", "client.pem"):
        (home / name).write_text("x")
    env = environment(
        home, PIP_CERT=str(home / "pip.pem"), PIP_CLIENT_CERT=str(home / "client.pem"), HTTPS_PROXY="http://proxy:1"
    )
    settings = read_pip_settings(env)
    assert (settings.cert, settings.client_cert) == (home / "pip.pem", home / "client.pem")
    assert settings.netrc == home / ".netrc"
    assert settings.proxies == (("https_proxy", "http://proxy:1"),)
    # pip's requests prefers its own variable to pip's setting.
    assert read_pip_settings({**env, "REQUESTS_CA_BUNDLE": str(home / "requests.pem")}).cert == home / "requests.pem"


def test_requirements_files_add_indexes(tmp_path: Path) -> None:
    text = (
        "--index-url https://main/simple\n--extra-index-url=https://torch/whl/cpu?x=1 # why\n-f wheels\n"
        "--trusted-host h\n--no-binary :all:\n-i\nnumpy\n"
    )
    found = with_declared(PipSettings(extra_index_urls=("https://a",)), tmp_path, (InputFile("sub/r.in", text),))
    assert found.index_url == "https://main/simple"
    assert found.extra_index_urls == ("https://a", "https://torch/whl/cpu?x=1")
    assert found.find_links == (str(tmp_path / "sub/wheels"),)
    assert found.trusted_hosts == ("h",)


def shell(secret: bytes, tmp_path: Path) -> dict[str, str]:
    """What a POSIX shell makes of the secret."""
    (tmp_path / "env").write_bytes(secret)
    shown = subprocess.check_output(
        ["/bin/sh", "-c", '. ./env; env -0 | grep -zE "^(PIP|UV|SSL|NETRC|https?_|HTTPS?_)"'], cwd=tmp_path, env={}
    )
    return dict(line.split("=", 1) for line in shown.decode().split("\0") if line)


def test_secrets_survive_a_shell(tmp_path: Path) -> None:
    nasty = "https://u:it's$(touch pwned)`x`\\\"@host/simple"
    settings = PipSettings(index_url=nasty, extra_index_urls=("https://b/simple", "file:///opt/simple"))
    found = shell(build_secrets(settings)["mlship-env"], tmp_path)
    assert found["PIP_INDEX_URL"] == found["UV_DEFAULT_INDEX"] == nasty
    assert found["PIP_EXTRA_INDEX_URL"] == found["UV_INDEX"] == "https://b/simple"
    assert found["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert not (tmp_path / "pwned").exists()


def test_local_indexes_are_left_to_the_wheelhouse(tmp_path: Path) -> None:
    found = shell(build_secrets(PipSettings(index_url="file:///opt/simple"))["mlship-env"], tmp_path)
    assert found == {"PIP_NO_INDEX": "1", "UV_NO_INDEX": "1"}
    links = PipSettings(find_links=("/opt/wheels", "https://host/a", "https://host/b"))
    found = shell(build_secrets(links)["mlship-env"], tmp_path)
    assert found == {
        "PIP_FIND_LINKS": "https://host/a https://host/b",
        "UV_FIND_LINKS": "https://host/a,https://host/b",
    }


def test_proxies_hosts_and_patience_reach_pip_and_uv(tmp_path: Path) -> None:
    proxy = ("https_proxy", "http://u:p@proxy:3128")
    settings = PipSettings(trusted_hosts=("a", "b:8443"), timeout="7.5", proxies=(proxy,))
    assert shell(build_secrets(settings)["mlship-env"], tmp_path) == {
        "PIP_TRUSTED_HOST": "a b:8443",
        "UV_INSECURE_HOST": "a b:8443",
        "PIP_DEFAULT_TIMEOUT": "7.5",
        "UV_HTTP_TIMEOUT": "7",
        "https_proxy": proxy[1],
        "HTTPS_PROXY": proxy[1],
    }


def test_a_file_of_pips_settings_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="which is in pip's configuration"):
        build_secrets(PipSettings(netrc=tmp_path / "gone"))


def test_files_become_secrets(tmp_path: Path) -> None:
    for name in ("ca", "client", "netrc"):
        (tmp_path / name).write_text(name)
    settings = PipSettings(cert=tmp_path / "ca", client_cert=tmp_path / "client", netrc=tmp_path / "netrc")
    secrets = build_secrets(settings)
    assert {key: value for key, value in secrets.items() if key != "mlship-env"} == {
        "mlship-ca": b"ca",
        "mlship-client-cert": b"client",
        "mlship-netrc": b"netrc",
    }
    found = shell(secrets["mlship-env"], tmp_path)
    assert found["SSL_CERT_FILE"] == found["PIP_CERT"] == "/run/secrets/mlship-ca"
    assert found["NETRC"] == "/run/secrets/mlship-netrc"


def test_nothing_to_say_is_no_secret() -> None:
    assert build_secrets(PipSettings()) == {}


def test_a_large_bundle_is_cut_to_its_certificates(tmp_path: Path) -> None:
    block = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"
    (tmp_path / "ca").write_text(("# a comment\n" * 1000 + block) * 60)
    assert build_secrets(PipSettings(cert=tmp_path / "ca"))["mlship-ca"] == block.encode() * 60
    (tmp_path / "ca").write_text("x" * 600_000)
    with pytest.raises(UsageError, match="500 KiB"):
        build_secrets(PipSettings(cert=tmp_path / "ca"))


def test_passwords_are_not_in_the_repr() -> None:
    settings = PipSettings(index_url="https://u:hunter2@h", proxies=(("https_proxy", "http://u:hunter2@p"),))
    assert "hunter2" not in repr(settings)
