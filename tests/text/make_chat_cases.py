#!/usr/bin/env python3
"""Writes chat_cases.json: what Jinja (as Hugging Face sets it up) makes of the published templates. Needs jinja2.

python3 make_chat_cases.py > chat_cases.json
"""
import json
import pathlib
import tomllib

import jinja2.sandbox

SYSTEM = {"role": "system", "content": "Be brief."}
USER, ANSWER, AGAIN = [
    {"role": role, "content": content}
    for role, content in [("user", "Hi <|im_end|> there"), ("assistant", "Hello!\n"), ("user", " \u00a0 and\n now? \u3000")]
]
CONVERSATIONS = [[USER], [SYSTEM, USER], [USER, ANSWER, AGAIN], [SYSTEM, AGAIN, ANSWER, USER], [USER, ANSWER], [SYSTEM]]
CONVERSATIONS += [[USER, AGAIN], [ANSWER], [USER, SYSTEM, AGAIN]]  # orders that some templates refuse


def refuse(message):
    raise jinja2.TemplateError(message)


def render(source, messages, generation_prompt):
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    try:
        return environment.from_string(source).render(
            messages=messages, add_generation_prompt=generation_prompt, bos_token="<s>", eos_token="</s>"
        )
    except jinja2.TemplateError:
        return None


cases = []
for file in sorted((pathlib.Path(__file__).parents[2] / "models/templates").glob("*.toml")):
    template = tomllib.loads(file.read_text())
    for source in template["jinja"]:
        renders = [
            {"messages": messages, "generation": generation, "text": render(source, messages, generation)}
            for messages in CONVERSATIONS
            for generation in ([True, False] if "add_generation_prompt" in source else [True])
        ]
        cases.append({"name": template["name"], "jinja": source, "renders": renders})
print(json.dumps(cases, indent=1, ensure_ascii=False))
