"""Chat templates that reach out of a conversation are refused, real ones are not."""

import json
from pathlib import Path

import pytest

from mlship.errors import UsageError
from mlship.project.chat_templates import reaches_out, template_texts
from mlship.project.config import Model
from mlship.project.weights import check_weights
from tests.helpers.model_files import gguf

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages['__class__'] }}",
    "{{ messages|attr('__class__') }}",
    "{{ messages|attr(name) }}",
    r"{{ messages['\x5f\x5fclass\x5f\x5f'] }}",
    "{{ messages['__cl' ~ 'ass__'] }}",
    "{% set name = '__ssalc__'[::-1] %}{{ messages[name] }}",
    "{% set name = '_' * 2 ~ 'class' %}{{ messages[name] }}",
    "{{ messages[['_', '_', 'class', '_', '_']|join] }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ messages|map(attribute='__class__')|list }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum('x') }}",
    "{{ self }}",
    "{{ joiner }}",
    "{{ x.gi_frame.f_globals }}",
    "{{ x.mro() }}",
    "{{ x._TemplateReference__context }}",
    "{% include '/etc/passwd' %}",
    "{% from 'x' import y %}",
    "{% for c in [].__class__.__base__.__subclasses__() %}{% endfor %}",
    "{% generation %}{{ x.__init__ }}{% endgeneration %}",
    "{% unknown %}{{ x.__init__ }}",
    "{{ " + "(" * 5000 + "x.__init__",
    "a" * (1 << 20) + "b",
]
CHATML = """{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>'
 + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
GOOD = [
    CHATML,
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0].content | trim %}{% endif %}",
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles alternate') }}{% endif %}",
    "{%- set ns = namespace(found=false) %}{%- set ns.found = true %}{{ messages[loop.index0 - 1].calls[0].name }}",
    "{{ tool.function.name | replace('_', ' ') }}{{ tools | map(attribute='function') | list | tojson(indent=4) }}",
    "{% generation %}{{ message.content }}{% endgeneration %}{% for x in y %}{% break %}{% endfor %}",
    "{% macro render(x) %}{{ x | upper }}{% endmacro %}{{ render('a_b') }}{{ strftime_now('%d %b %Y') }}",
    "{%- set block = call.get('_json_block') -%}{{ message._thinking }}{% set _ = calls.append(1) %}",
    "no template at all",
]


@pytest.mark.parametrize("template", ESCAPES, ids=range(len(ESCAPES)))
def test_what_reaches_out_is_named(template: str) -> None:
    assert reaches_out(template)


@pytest.mark.parametrize("template", GOOD, ids=range(len(GOOD)))
def test_templates_of_chats_are_accepted(template: str) -> None:
    assert reaches_out(template) == frozenset()


@pytest.mark.parametrize("value", [CHATML, [{"name": "default", "template": CHATML}], {"default": CHATML}])
def test_every_way_to_write_a_template_is_read(value: object) -> None:
    assert list(template_texts(json.dumps({"chat_template": value}).encode())) == [CHATML]


@pytest.mark.parametrize("text", [b"[]", b"{}", b"{", b'{"chat_template": 3}', b"[" * 100_000])
def test_other_json_has_no_template(text: bytes) -> None:
    assert list(template_texts(text)) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.gguf", gguf({"tokenizer.chat_template": ESCAPES[0]})),
        ("model.gguf", gguf({"tokenizer.chat_template.tool_use": ESCAPES[0]})),
        ("tokenizer_config.json", json.dumps({"chat_template": ESCAPES[0]}).encode()),
        ("chat_template.jinja", ESCAPES[0].encode()),
    ],
)
def test_a_model_with_such_a_template_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=r"chat_template\.__class__"):
        check_weights(tmp_path, Model.model_construct(weights=(name,), allow_pickle=()))
