#!/usr/bin/env python3
"""Writes jinja_cases.json: what Jinja makes of small templates that go through the language. Needs jinja2.

python3 make_jinja_cases.py > jinja_cases.json
"""
import json
import time

import jinja2

from make_chat_cases import TOKENS, environment

MESSAGES = [{"role": "system", "content": "S\u00e9"}, {"role": "user", "content": " U \n"}, {"role": "assistant", "content": "A"}]

CASES = r"""
plain text, { braces } and {single}
{{ 'a' }}{{ "b" }}{{ 'it''s' }}
a{# gone #}b{#- gone -#} c
line
  {% if true %}
  in
  {% endif %}
out
  {{ 1 }}
  {%- if true -%}  
 x 
 {%- endif %}  y
a {%+ if true %} b {%+ endif %} c
{% if true +%}
kept{% endif +%}

{# one #}
{# two #}
  {# three #}  tail
{{- 'x' -}}   {{- 'y' }}
{{ 'tab\tnl\nbs\\q\'dq\"hex\x41u\u00e9U\U0001F600\q' }}
{{ 'one
two' }}
{{ "}}" ~ '%}' ~ '#}' }}
{{ {'a': {'b': 1}}['a'].b }}{{ {"x": 2}.x }}
{{ [1, 2, 3][0] }}{{ [1, 2, 3][-1] }}{{ (1, 2)[1] }}{{ [[1, 2], [3]][0][1] }}
{{ 1 + 2 * 3 - 4 // 3 % 5 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ -(3) + 1 }} {{ 2 - -2 }} {{ true + 1 }}
{{ 1 < 2 }} {{ 2 <= 1 }} {{ 1 < 2 < 3 }} {{ 3 > 2 >= 2 }}
{{ 'a' < 'b' }} {{ 'a' == 'a' }} {{ [1, 'a'] == [1, 'a'] }} {{ {'a': 1} == {'a': 1} }} {{ 1 == '1' }} {{ true == 1 }} {{ none == false }}
{{ not true or true and not false }} {{ 1 and 0 or 'x' }} {{ '' or none }} {{ not 1 == 2 }} {{ 0 and nothing.at.all }}
{{ 'a' in 'abc' }} {{ 'x' not in 'abc' }} {{ 2 in [1, 2] }} {{ 'k' in {'k': 1} }} {{ 'v' in {'k': 'v'} }} {{ 'x' in undefined_name }} {{ not 'x' in 'y' }}
{{ 'yes' if 1 else 'no' }} {{ 'yes' if 0 else 'no' }} [{{ 'yes' if 0 }}] {{ 'a' if 0 else 'b' if 0 else 'c' }} {{ ('a' if true else 'b') + 'c' }}
{{ 'a' ~ 1 ~ none ~ true ~ undefined_name ~ 'z' }} {{ '1' ~ 2 + '3' }} {{ 'a' + 'b' ~ 'c' + 'd' }}
{{ none }} {{ true }} {{ false }} {{ 12345678901 }} [{{ undefined_name }}] [{{ messages[0].nothing }}]
{{ 'abcdef'[1:3] }} {{ 'abcdef'[:-1] }} {{ 'abcdef'[::-1] }} {{ 'abcdef'[4:1:-2] }} {{ 'abc'[5:] }}{{ 'abc'[-10:2] }} {{ 'abc'[1] }} {{ 'abc'[-1] }} [{{ 'abc'[7] }}] {{ 'h\u00e9llo'[1:3] }} {{ 'abc'[::2] }} {{ 'abc'[none:2] }}
{{ [1, 2, 3, 4][1:3] | join(',') }} {{ [1, 2, 3][::-1] | join }} {{ [1, 2, 3][-2:] | join }} {{ [1, 2, 3][10:] | length }} {{ [1,2,3,4,5][3::-1] | join }} {{ [1,2,3][:-5:-1] | join }} {{ [1,2,3][5::-1] | join }}
{% if false %}a{% elif 1 %}b{% elif 2 %}c{% else %}d{% endif %}{% if '' %}a{% else %}e{% endif %}
{% for x in [1, 2, 3] %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}
{% for x in [] %}a{% else %}empty{% endfor %}{% for x in undefined_name %}a{% else %}none{% endfor %}
{% for x in [1, 2, 3, 4] if x % 2 == 0 %}{{ x }}/{{ loop.length }}{% if not loop.last %},{% endif %}{% endfor %}{% for x in [1] if x > 1 %}{% else %}nothing{% endfor %}
{% for a, b in [(1, 2), [3, 4]] %}{{ a }}-{{ b }};{% endfor %}{% for k, v in {'x': 1, 'y': 2}.items() %}{{ k }}={{ v }};{% endfor %}{% for k in {'x': 1, 'y': 2} %}{{ k }}{% endfor %}
{% for x in 'h\u00e9y' %}[{{ x }}]{% endfor %}{% for x in range(3) %}{{ x }}{% endfor %}{% for x in range(5, 1, -2) %}{{ x }}{% endfor %}{{ range(0) | length }}
{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% endfor %}{% for x in [1, 2, 3] %}{% if x == 2 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in [1, 2] %}{% for y in [1, 2] %}{{ loop.index }}{% if y == 1 %}{% continue %}{% endif %}{% break %}{% endfor %}{{ loop.index }};{% endfor %}
{% for x in [1, 2, 3] %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}
{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}
{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c[1] }}
{% set ns = namespace(n=0, s='a') %}{% for i in [1, 2, 3] %}{% set ns.n = ns.n + i %}{% set ns.s = ns.s ~ i %}{% endfor %}{{ ns.n }}{{ ns.s }}[{{ ns.missing }}]{% set ns.fresh = 1 %}{{ ns.fresh }}
{% set block %}a{{ 1 }}
b{% endset %}{{ block | upper }}{{ block is string }}
{% macro m(a, b='x', c=none) %}<{{ a }}{{ b }}{{ c }}>{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(c=3, a=1) }}{{ m() }}{{ m('q') | length }}
{% set g = 'global' %}{% macro m() %}{{ g }}{% set g = 'own' %}{{ messages | length }}{% endmacro %}{% for i in [1] %}{% set hidden = 1 %}{{ m() }}{% endfor %}{{ g }}
{% macro down(n) %}{{ n }}{% if n > 0 %}{{ down(n - 1) }}{% endif %}{% endmacro %}{{ down(5) }}
{% macro pick(list) %}{% for x in list %}{% if x > 1 %}{{ x }}{% endif %}{% endfor %}{% endmacro %}{{ pick([1, 2, 3]) }}
{% generation %}in {{ 1 }}{% endgeneration %}
{{ '  a b ' | trim }}|{{ 'xxaxx' | trim('x') }}|{{ ' a ' | upper | trim }}|{{ 'AbC' | lower }}|{{ 'hELLO wORLD' | capitalize }}|{{ 5 | string + 'x' }}|{{ undefined_name | trim }}|
{{ 'a,b' | replace(',', ';') }}{{ 'aaa' | replace('a', 'b', 2) }}{{ 'aXbX' | replace('X', '') }}
{{ [3, 1, 2] | first }}{{ [3, 1, 2] | last }}{{ 'abc' | first }}[{{ [] | first }}]{{ [1, 2] | reverse | join }}{{ 'abc' | list | join('-') }}{{ {'a': 1, 'b': 2} | list | join('+') }}
{{ 'h\u00e9' | length }}{{ [1, 2] | length }}{{ {'a': 1} | count }}{{ undefined_name | length }}{{ [1, none, 'x', true] | join(' ') }}{{ [] | join('x') }}
{{ undefined_name | default('d') }}{{ '' | default('d') }}{{ '' | default('d', true) }}{{ none | default('d') }}{{ undefined_name | default }}{{ undefined_name | d('e') }}{{ '' | default('d', boolean=true) }}
{{ '42' | int + 1 }}{{ 'x' | int }}{{ 'x' | int(default=7) }}{{ ' -3 ' | int }}{{ true | int }}{{ none | int(9) }}
{{ {'a': 1, 'b': [true, none, 'x"\n\u00e9\u0001']} | tojson }}{{ 'a' | tojson }}{{ [] | tojson }}{{ {} | tojson }}{{ [[], {}] | tojson }}{{ none | tojson }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ messages | rejectattr('role', 'equalto', 'user') | map(attribute='content') | join(',') }}{{ messages | selectattr('nothing') | list | length }}{{ messages | selectattr('role', 'defined') | list | length }}
{{ [1, 'a', none, 2] | select('string') | join }}{{ [1, 'a', 2] | reject('string') | join }}{{ [0, 1, '', 'x'] | select | join }}{{ ['a', 'b'] | map('upper') | join }}{{ [' a ', 'b '] | map('trim') | join('|') }}{{ [1, 2, 3] | select('in', [1, 3]) | join }}{{ none | select('string') | list | length }}
{% for k, v in {'a': 1} | items %}{{ k }}{{ v }}{% endfor %}{{ {'a': 1, 'b': 2}.keys() | join }}{{ {'a': 1, 'b': 2}.values() | join }}{{ {'a': 1}.get('a') }}{{ {'a': 1}.get('b') }}{{ {'a': 1}.get('b', 'z') }}{{ messages[0].get('role') }}
{{ x is defined }}{{ messages is defined }}{{ x is undefined }}{{ x is not defined }}{{ none is none }}{{ x is none }}{{ tools is none }}{{ tools is defined }}{{ messages[0].tool_calls is defined }}{{ messages[0]['role'] is defined }}
{{ 'a' is string }}{{ 1 is string }}{{ {} is mapping }}{{ [] is mapping }}{{ [] is iterable }}{{ 'a' is iterable }}{{ 1 is iterable }}{{ [] is sequence }}{{ 1 is number }}{{ 1 is integer }}{{ true is integer }}{{ true is boolean }}{{ true is true }}{{ 1 is true }}{{ false is false }}{{ 'a' is sequence }}{{ none is iterable }}
{{ 1 is odd }}{{ 2 is even }}{{ 6 is divisibleby 3 }}{{ 6 is divisibleby(4) }}{{ 'a' is equalto 'a' }}{{ 1 is eq(1) }}{{ 1 is ne 1 }}{{ 1 is in [1] }}{{ 'a' is in('abc') }}{{ not 1 is odd }}{{ 1 is odd and 2 is even or false }}{{ 'x' if 1 is odd else 'y' }}
{{ ' a '.strip() }}|{{ ' a '.lstrip() }}|{{ ' a '.rstrip() }}|{{ 'xyax'.strip('xy') }}|{{ '\n\na\n'.lstrip('\n') }}|{{ '\u00a0a\u3000'.strip() }}|{{ 'aXbX'.rstrip('X') }}|
{{ 'abc'.startswith('ab') }}{{ 'abc'.endswith('bc') }}{{ 'abc'.startswith(('x', 'a')) }}{{ 'a-b-c'.split('-')[-1] }}{{ 'a-b-c'.split('-', 1)[1] }}{{ '  a  b '.split() | join('|') }}{{ 'a b  c d'.split(none, 2) | join('|') }}{{ 'abc'.split('x')[0] }}{{ ''.split() | length }}{{ ''.split('x') | length }}{{ 'ab'.split('ab') | length }}
{{ 'aBc'.upper() }}{{ 'aBc'.lower() }}{{ "they're bill's".title() }}{{ 'hELLO'.capitalize() }}{{ 'a.b'.replace('.', ',') }}{{ 'aaa'.replace('a', 'b', 1) }}{{ ', '.join(['a', 'b']) }}{{ 'abc'.find('c') }}{{ 'abc'.find('x') }}{{ '\u00e9b'.find('b') }}
{{ messages[0].content }}{{ messages[0]['content'] }}{{ messages[-1].role }}{{ (messages | last).content }}{{ messages[0]["con" ~ "tent"] }}{{ messages[9] is defined }}{{ messages[1:][0].content | trim }}
{{ bos_token + 'a' + eos_token }}{{ add_generation_prompt }}{{ bos_token is defined }}{{ documents }}
{{ dict(a=1).a }}{{ namespace(b=2).b }}{{ strftime_now('%Y-%m-%d') }}
{{ -1 | string }}{{ 'a' | upper ~ 'b' | upper }}{{ ('a' ~ 'b') | upper }}{{ [1, 2,] | length }}{{ () | length }}{{ (1,) | length }}{{ {'a': 1,} | length }}
{{ messages[0].role == 'system' and messages[1].role != 'system' }}{{ (messages[0]['role'] == 'user') != (0 % 2 == 0) }}
{% set messages = messages[1:] %}{{ messages | length }}{% for m in messages %}{{ m.role }}{% endfor %}
{% for m in messages %}{% set c = m.content %}{% if loop.first %}{% set c = 'first' %}{% endif %}{{ c | trim }};{% endfor %}{{ c is defined }}
{{ raise_exception('refused') }}
{% if false %}{{ raise_exception('refused') }}{{ 'a' | unknown_filter }}{{ unknown_function() }}{{ 1 is unknown_test }}{% endif %}fine
{{ undefined_name.attribute }}
{{ 'a' + 1 }}
{{ 'a' + undefined_name }}
{{ none | length }}
{{ 1 / 0 }}
{{ 1 // 0 }}
{{ unknown_function() }}
{{ 'a' | unknown_filter }}
{{ 'a' is unknown_test }}
{% for x in 5 %}{% endfor %}
{% if %}{% endif %}
{% if true %}
{% for x in [] %}{% endif %}
{% endif %}
{{ 'a' }
{{ (1 }}
{{ 1 1 }}
{{ 'never
{% set %}
{% nonsense %}
{# never
{{ a[ }}
{{ 5 in 'abc' }}
{{ 1 < 'a' }}
{{ messages[1:'x'] }}
"""


def split(text):
    """A case is a line, but for these."""
    joined = [
        "line\n  {% if true %}\n  in\n  {% endif %}\nout\n  {{ 1 }}\n  {%- if true -%}  \n x \n {%- endif %}  y",
        "{% if true +%}\nkept{% endif +%}\n\n{# one #}\n{# two #}\n  {# three #}  tail",
        "{{ 'one\ntwo' }}",
        "{% set block %}a{{ 1 }}\nb{% endset %}{{ block | upper }}{{ block is string }}",
    ]
    for j in joined:
        assert j in text, j
        text = text.replace(j, j.replace("\n", "\0"))
    return [line.replace("\0", "\n") for line in text.strip("\n").split("\n")]


def render(source):
    e = environment(strftime_now=lambda f: time.strftime(f, time.gmtime(0)))
    try:
        return e.from_string(source).render(
            messages=MESSAGES, tools=None, documents=None, add_generation_prompt=True, **TOKENS
        )
    except (jinja2.TemplateError, TypeError, ValueError, ZeroDivisionError):
        return None


EXTRA = [
    "a\r\nb\rc\n",
    "ends\n\n",
    "\n",
    "",
    "{% if true %}\r\nx\r\n{% endif %}\r\ny",
    "\u00e9 {{ '\u65e5' }} \u2028{%- if true %}x{% endif %}",
    "  \t{% if true %}x{% endif %}",
    "a\n \u00a0{% if true %}x{% endif %}",
]
cases = [{"template": t, "text": render(t)} for t in split(CASES) + EXTRA]
print(json.dumps({"messages": MESSAGES, "cases": cases}, indent=1, ensure_ascii=False))
