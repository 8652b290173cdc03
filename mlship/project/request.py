"""`smoke.request` in mlship.yaml: the request that proves the server, and what its answer must hold."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_validator

from mlship.json_path import parse_path
from mlship.project.values import RepoPath, Route, Section, matching, parsed_by, printable

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)\}")
_CREDENTIAL = re.compile(r"(?i)(.*[_-])?(token|secret|passw(or)?d|api[_-]?key|authorization|cookie|credentials?)")
_BY_CLIENT = {"content-length", "host", "connection", "transfer-encoding"}


def _text(value: object) -> object:
    """Accept a number, which YAML does not read as text."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else value


def _header(name: str) -> str:
    if name.lower() in _BY_CLIENT:
        raise ValueError(f"{name} is set by the client itself")
    return name


def _latin(text: str) -> str:
    if not printable(text).isascii():
        raise ValueError("an HTTP header can hold ASCII only")
    return text


Text = Annotated[str, BeforeValidator(_text)]
Header = Annotated[
    str, matching(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", "is not the name of an HTTP header"), AfterValidator(_header)
]
ContentType = Annotated[
    str,
    matching(r"[\w.+-]+/([\w.+-]+|\*)", "is not a content type such as text/html, application/json or image/*"),
    AfterValidator(str.lower),
]
JsonPath = Annotated[str, parsed_by(parse_path)]


@dataclass(frozen=True)
class SampleRequest:
    """The request that proves the server, and what its answer must hold; see `smoke.request` in mlship.yaml.

    Attributes:
        body: a file; `files` are others, by field of the form.
        status: expected, like everything after it.
        type: content type; None accepts any.
        values: by JSON path; None accepts any value.
    """

    method: str
    path: str
    body: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    type: str | None = None
    contains: tuple[str, ...] = ()
    values: Mapping[str, JsonValue] = field(default_factory=dict)
    image: bool = False

    @property
    def shown(self) -> str:
        """Such as "POST /predict"."""
        return f"{self.method} {self.path}"

    @property
    def sends(self) -> str:
        """What it sends, for people."""
        files = ", ".join(self.files.values())
        return self.body or (f"a form with {files}" if files else "a form" if self.form else "no body")

    @property
    def expects_json(self) -> bool:
        """Whether the answer must be JSON: expected so, or the usual answer to JSON."""
        anything = self.type or self.contains or self.image or self.status != 200
        return (
            bool(self.values)
            or self.type == "application/json"
            or (not anything and self.body is not None and self.body.endswith(".json"))
        )


class Expect(Section):
    """What the answer must hold."""

    status: Annotated[int, Field(ge=200, le=599)] = Field(200, description="Status of the answer.")
    type: ContentType | None = Field(
        None, description="Content type of the answer, such as `text/html`, `application/json` or `image/*`."
    )
    contains: tuple[Annotated[str, Field(min_length=1, max_length=500)], ...] = Field(
        (), description="Texts that the answer contains."
    )
    values: dict[JsonPath, JsonValue] = Field(
        default_factory=dict,
        description="Values of a JSON answer by path, such as `$.boxes[0].label: cat`; `null` accepts any value. "
        "Numbers may differ by `model.rtol` and `model.atol`.",
    )
    image: bool = Field(default=False, description="Whether the answer must be a complete PNG, JPEG, WebP or GIF.")


class Request(Section):
    """The request that proves the server; without it, the sample is sent by POST to `serve.predict`."""

    method: Method | None = Field(None, description="Default: `POST` with a body, else `GET`.")
    path: Route | None = Field(None, description="Default: `serve.predict`.")
    query: dict[str, Text] = Field(default_factory=dict, description="Parameters in the URL.")
    headers: dict[Header, Annotated[Text, AfterValidator(_latin)]] = Field(
        default_factory=dict,
        description="HTTP headers. `${NAME}` is a value of `smoke.env`, also in `query` and `form`: a token.",
    )
    body: RepoPath | None = Field(
        None, description="File to send as the body; its name decides the content type (JSON, an image, audio, ...)."
    )
    form: dict[str, Text] = Field(default_factory=dict, description="Fields of a form.")
    files: dict[str, RepoPath] = Field(
        default_factory=dict, description="Files to upload, by field; with them, the form is sent as multipart."
    )
    expect: Expect = Field(default_factory=Expect)

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that it sends."""
        return (*filter(None, (self.body,)), *self.files.values())

    def resolved(self, predict: str) -> SampleRequest:
        """With the defaults filled in."""
        method = self.method or ("POST" if self.body or self.form or self.files else "GET")
        path, rest = self.path or predict, dict(self.expect)
        return SampleRequest(method, path, self.body, self.query, self.headers, self.form, self.files, **rest)

    @property
    def variables(self) -> frozenset[str]:
        """Names in `${...}`."""
        return frozenset(name for _, text in self._templates() for name in VARIABLE.findall(text))

    def _templates(self) -> Iterator[tuple[str, str]]:
        for part in (self.headers, self.query, self.form):
            yield from part.items()

    @model_validator(mode="after")
    def _one_body(self) -> "Request":
        if self.body and (self.form or self.files):
            raise ValueError("body cannot be combined with form or files; a form's fields and files are its body")
        if self.method == "GET" and (self.body or self.form or self.files):
            raise ValueError("a GET request has no body; remove `method`, or send the values as `query`")
        return self

    @model_validator(mode="after")
    def _no_credentials(self) -> "Request":
        for name, text in self._templates():
            if _CREDENTIAL.fullmatch(name) and text and not text.isdecimal() and not VARIABLE.search(text):
                raise ValueError(
                    f"{name} looks like a credential, which everyone who pulls the image could read; "
                    "write ${NAME} for its value, and set NAME under `smoke.env`"
                )
        return self
