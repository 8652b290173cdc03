"""Credentials for tests, in the forms that tools and services give them; made here, so that no scanner finds them."""

import base64
import json
import random
import string
from collections.abc import Callable

_WORD = string.ascii_letters + string.digits
_HEX = "0123456789abcdef"
_UPPER = string.ascii_uppercase + "234567"
Maker = Callable[[random.Random], str]


def _some(chance: random.Random, letters: str, length: int) -> str:
    return "".join(chance.choices(letters, k=length))


def _token(before: str, letters: str, length: int, after: str = "") -> Maker:
    return lambda chance: before + _some(chance, letters, length) + after


def _pem(kind: str) -> Maker:
    def make(chance: random.Random) -> str:
        lines = "\n".join(_some(chance, _WORD + "+/", 64) for _ in range(8))
        return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----"

    return make


def _service_account(chance: random.Random) -> str:
    return json.dumps({"type": "service_account", "private_key": _pem("PRIVATE KEY")(chance) + "\n"}, indent=2)


def _encrypted(chance: random.Random) -> str:
    header = "-----BEGIN RSA PRIVATE KEY-----\n"
    body = _pem("RSA PRIVATE KEY")(chance).removeprefix(header)
    return f"{header}Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{_some(chance, 'ABCDEF0189', 32)}\n\n{body}"


def _jwt(chance: random.Random) -> str:
    parts = ({"alg": "RS256", "typ": "JWT"}, {"sub": "service", "aud": _some(chance, _WORD, 20)})
    head = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{head}.{_some(chance, _WORD + '-_', 86)}"


def _docker(chance: random.Random) -> str:
    auth = base64.b64encode(f"ci:{_some(chance, _WORD, 20)}".encode()).decode()
    return json.dumps({"auths": {"registry.acme.org": {"auth": auth}}}, indent=1)


def _kubeconfig(secret: str) -> str:
    return f"apiVersion: v1\nkind: Config\nclusters: []\nusers:\n- name: me\n  user:\n    {secret}\n"


# Values start with letters or digits that no placeholder has; see `placeholder` in data/credentials.toml.
PLANTED: dict[str, Maker] = {
    "rsa": _pem("RSA PRIVATE KEY"),
    "pkcs8": _pem("PRIVATE KEY"),
    "openssh": _pem("OPENSSH PRIVATE KEY"),
    "ec": _pem("EC PRIVATE KEY"),
    "pgp": _pem("PGP PRIVATE KEY BLOCK"),
    "encrypted": _encrypted,
    "service account": _service_account,
    "putty": _token("PuTTY-User-Key-File-3: ssh-rsa\nPublic-Lines: 1\n", _WORD, 64, "\nPrivate-Lines: 8"),
    "age": _token("AGE-SECRET-KEY-1", "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58),
    "aws id": _token("AKIA", _UPPER, 16),
    "aws session": _token('key = "ASIA', _UPPER, 16, '"'),
    "aws secret": _token("aws_secret_access_key = ", _WORD + "/+", 40),
    "aws json": _token('{"SecretAccessKey": "', _WORD, 40, '"}'),
    "github": _token("ghp_", _WORD, 36),
    "github server": _token("ghs_", _WORD, 36),
    "github fine-grained": lambda chance: f"github_pat_{_some(chance, _WORD, 22)}_{_some(chance, _WORD, 59)}",
    "gitlab": _token("glpat-", _WORD, 20),
    "hugging face": _token("hf_", string.ascii_letters, 34),
    "slack": lambda chance: f"xoxb-{chance.randrange(10**11, 10**12)}-{_some(chance, _WORD, 24)}",
    "slack webhook": _token("https://hooks.slack.com/services/T0A1B2C3D/B0A1B2C3D/", _WORD, 24),
    "openai": lambda chance: f"sk-{_some(chance, _WORD, 20)}T3BlbkFJ{_some(chance, _WORD, 20)}",
    "openai project": lambda chance: f"sk-proj-{_some(chance, _WORD, 74)}T3BlbkFJ{_some(chance, _WORD, 74)}",
    "anthropic": _token("sk-ant-api03-", _WORD, 93, "AA"),
    "openrouter": _token("sk-or-v1-", _HEX, 64),
    "groq": _token("gsk_", _WORD, 52),
    "replicate": _token("r8_", _WORD, 37),
    "google": _token("AIza", _WORD, 35),
    "google client": _token("GOCSPX-", _WORD, 28),
    "google refresh": _token('"refresh_token": "1//0', _WORD, 90, '"'),
    "pypi": _token("pypi-AgEIcHlwaS5vcmc", _WORD, 120),
    "npm": _token("npm_", _WORD, 36),
    "npmrc": _token("//registry.acme.org/:_authToken=", _HEX, 36),
    "telegram": lambda chance: f"{chance.randrange(10**9, 10**10)}:AA{_some(chance, _WORD, 33)}",
    "sendgrid": lambda chance: f"SG.{_some(chance, _WORD, 22)}.{_some(chance, _WORD, 43)}",
    "azure": _token("DefaultEndpointsProtocol=https;AccountName=a;AccountKey=", _WORD, 86, "=="),
    "wandb": _token("wandb.login(key='", _HEX, 40, "')"),
    "kaggle": _token('{"username": "me", "key": "', _HEX, 32, '"}'),
    "netrc": _token("machine pypi.acme.org\n  login ci\n  password ", _WORD, 16),
    "git credentials": _token("https://ci:", _WORD, 20, "@git.acme.org"),
    "mongo": _token("mongodb+srv://app:", _WORD, 16, "@cluster0.q1w2e.mongodb.net/db"),
    "docker": _docker,
    "kubeconfig key": lambda chance: _kubeconfig(f"client-key-data: {_some(chance, _WORD, 400)}"),
    "kubeconfig token": lambda chance: _kubeconfig(f"token: {_some(chance, _WORD, 40)}"),
    "tfstate": _token('{"version": 4, "terraform_version": "1.9.0", "lineage": "', _HEX, 32, '"}'),
    "jwt": _jwt,
}  # fmt: skip


# Files that hold credentials, by the names that tools give them.
PRIVATE_NAMES = (
    ".env", ".env.production", ".ssh/id_ed25519", ".aws/credentials", ".kube/config", ".docker/config.json", ".npmrc",
    ".git-credentials", ".envrc", ".huggingface/token", "terraform.tfstate", "service-account-prod.json", "server.key",
    "keys/tls.pem", "id_rsa", ".pgpass", "kaggle.json", ".streamlit/secrets.toml", "client_secret_1.json", "a.p12",
    ".netrc", ".pypirc", ".vault-token", ".gnupg/secring.gpg", ".azure/accessTokens.json", "prod.tfvars", "a.keystore",
)  # fmt: skip


def planted(name: str, seed: int) -> str:
    """A credential of a kind; another seed gives another value."""
    return PLANTED[name](random.Random(f"{name} {seed}"))
