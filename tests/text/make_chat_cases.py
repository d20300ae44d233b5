#!/usr/bin/env python3
"""Writes what Jinja, set up as Hugging Face's transformers does, makes of chat templates. Needs jinja2.

python3 make_chat_cases.py > chat_cases.json           the templates of models/templates and of templates/ here
python3 make_chat_cases.py FILES... > somewhere.json   others
"""
import json
import pathlib
import sys
import time

import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

HERE = pathlib.Path(__file__).parent
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def message(role, content):
    return {"role": role, "content": content}


SYSTEM, LONG_SYSTEM = message("system", "Be brief."), message("system", "\n You are {{ name }}.\n\n# Rules\n- one \n")
USER, AGAIN = message("user", "Hi <|im_end|> there"), message("user", " \u00a0 and\n now? \u3000")
ANSWER, REASONED = message("assistant", "Hello!\n"), message("assistant", "<think>\nHm.\n</think>\n\n\tYes.")
CONVERSATIONS = [
    [USER],
    [AGAIN],
    [SYSTEM, USER],
    [LONG_SYSTEM, AGAIN],
    [USER, ANSWER, AGAIN],
    [SYSTEM, AGAIN, REASONED, USER],
    [LONG_SYSTEM, USER, ANSWER, AGAIN, REASONED, USER, ANSWER, USER],
    [AGAIN, REASONED, AGAIN, ANSWER, USER],
]


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        return jinja2.nodes.Scope(parser.parse_statements(["name:endgeneration"], drop_needle=True), lineno=line)


def refuse(text):
    raise jinja2.TemplateError(text)


def environment(**globals):
    e = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    e.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    e.globals["raise_exception"] = refuse
    e.globals.update(globals)
    return e


def render(source, messages):
    # At packing, a template with a date of its own uses that; the others get the date, which the tests set to day 0.
    date = {} if "strftime_now is defined" in source else {"strftime_now": lambda f: time.strftime(f, time.gmtime(0))}
    try:
        template = environment(**date).from_string(source)
        return template.render(messages=messages, tools=None, documents=None, add_generation_prompt=True, **TOKENS)
    except (jinja2.TemplateError, TypeError, ValueError):
        return None


def main():
    files = [pathlib.Path(a) for a in sys.argv[1:]]
    if not files:
        files = sorted(HERE.parents[1].glob("models/templates/*.jinja")) + sorted(HERE.glob("templates/*.jinja"))
    templates = [
        {"name": f.stem, "jinja": f.read_text(), "texts": [render(f.read_text(), c) for c in CONVERSATIONS]}
        for f in files
    ]
    print(json.dumps({"conversations": CONVERSATIONS, "templates": templates}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
