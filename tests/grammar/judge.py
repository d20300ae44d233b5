#!/usr/bin/env python3
"""Judges what random walks through grammars wrote: it must parse, once for each name, and obey its schema.

    judge.py WALK SHARED [TEXTS_A_SCHEMA [SEED]]

The schemas are those of JSON Schema's test suite and of the functions of BFCL, where SHARED has them, and some of our own.
The judge is python-jsonschema, which knows nothing of the grammars. Exit 77: it is not installed.
"""
import decimal
import json
import pathlib
import subprocess
import sys

try:
    import jsonschema
    from jsonschema import Draft202012Validator
except ImportError:
    print("skipped: python3-jsonschema is not installed")
    sys.exit(77)
if not hasattr(jsonschema, "Draft202012Validator"):
    print("skipped: python3-jsonschema is older than 4.0")
    sys.exit(77)

OWN = [
    {"type": "object", "properties": {"id": {"type": "integer", "minimum": 1}, "tags": {
        "type": "array", "items": {"enum": ["a", "ab", "abc", "b"]}, "uniqueItems": True, "minItems": 2}},
     "required": ["id", "tags"], "additionalProperties": False},
    {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 12}, "uniqueItems": True, "minItems": 10, "maxItems": 12},
    {"type": "object", "properties": {"when": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"},
                                      "price": {"type": "number", "minimum": 0, "exclusiveMaximum": 1000, "multipleOf": 0.01}},
     "required": ["when", "price"]},
    {"oneOf": [
        {"type": "object", "properties": {"kind": {"const": "circle"}, "r": {"type": "number", "exclusiveMinimum": 0}}, "required": ["kind", "r"]},
        {"type": "object", "properties": {"kind": {"const": "box"}, "w": {"type": "number"}, "h": {"type": "number"}}, "required": ["kind", "w", "h"]},
        {"type": "null"}]},
    {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {
        "value": {"type": ["integer", "null"]}, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 3}},
        "required": ["value"], "additionalProperties": False}}},
    {"type": "object", "minProperties": 2, "maxProperties": 3, "propertyNames": {"pattern": "^[a-c]{1,2}$"},
     "additionalProperties": {"type": "boolean"}},
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {}, "c": {}}, "dependentRequired": {"a": ["b"], "b": ["c"]},
     "maxProperties": 3, "additionalProperties": False},
    {"type": "array", "prefixItems": [{"type": "string", "maxLength": 3}, {"type": "integer"}], "items": False, "minItems": 1},
    {"type": "array", "items": {"type": "integer", "minimum": -5, "maximum": 50}, "contains": {"multipleOf": 7}, "minContains": 2, "maxContains": 3, "maxItems": 8},
    {"type": "object", "properties": {"mode": {"enum": ["auto", "manual"]}}, "required": ["mode"],
     "if": {"properties": {"mode": {"const": "manual"}}}, "then": {"properties": {"level": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["level"]},
     "else": {"not": {"required": ["level"]}}},
    {"type": "object", "patternProperties": {"^s_": {"type": "string"}, "_n$": {"type": "number"}}, "additionalProperties": False},
    {"type": "array", "uniqueItems": True, "items": {"type": "object", "properties": {"k": {"type": "integer"}}, "required": ["k"]}},
    # Items that must differ, where what is written of one can be all that another has.
    {"type": "array", "uniqueItems": True, "minItems": 10, "maxItems": 12},
    {"type": "array", "uniqueItems": True, "minItems": 12, "items": {"type": "integer", "minimum": 100, "maximum": 999}},
    {"type": "array", "uniqueItems": True, "minItems": 10, "items": {"type": "number", "minimum": 0, "maximum": 0.05}},
    {"type": "array", "uniqueItems": True, "minItems": 4, "items": {"enum": ["a", "b", 1, 2]}},
    {"type": "array", "uniqueItems": True, "minItems": 5, "items": {"type": "object", "properties": {
        "name": {"type": "string"}, "state": {"enum": ["on", "off", "not known"]}, "hot": {"type": "boolean"}},
     "required": ["name", "state"], "additionalProperties": False}},
    {"type": "array", "uniqueItems": True, "items": {"type": "array", "uniqueItems": True, "items": {"enum": ["r", "g", 1, 2]}, "maxItems": 3}},
    {"type": "array", "uniqueItems": True, "minItems": 6, "maxItems": 8, "items": {"type": "object", "properties": {
        "room": {"enum": ["kitchen", "hall", "bath"]}, "light": {"type": "boolean"}}, "required": ["room", "light"], "additionalProperties": False}},
    {"type": "array", "uniqueItems": True, "maxItems": 5, "items": {"type": "object", "minProperties": 1, "maxProperties": 2,
     "patternProperties": {"^[ab]$": {"type": "boolean"}}, "additionalProperties": False}},
    {"type": "string", "minLength": 3, "maxLength": 5},
    {"type": "integer", "not": {"multipleOf": 3}, "minimum": 0, "maximum": 100},
    {"type": "number", "exclusiveMinimum": -0.5, "exclusiveMaximum": -0.25},
    {"type": "string", "format": "date"}, {"type": "string", "format": "ipv4"}, {"type": "string", "format": "uuid"},
    {"const": {"a": [1, 2.5, {"b": None}], "c": "\u00e9\n\"\\"}},
    {"enum": [1, "1", [1], {"1": 1}, None, True]},
]


def bfcl(folder):
    """Functions of BFCL, whose types are Python's, as JSON Schema."""
    def convert(s):
        kind = {"dict": "object", "float": "number", "tuple": "array", "any": None}.get(s.get("type"), s.get("type"))
        out = {"type": kind} if kind else {}
        if "enum" in s:
            out["enum"] = s["enum"]
        if "properties" in s and kind == "object":
            out["properties"] = {k: convert(v) for k, v in s["properties"].items()}
            out["required"] = [k for k in s.get("required", []) if k in s["properties"]]
            out["additionalProperties"] = False
        if kind == "array" and "items" in s:
            out["items"] = convert(s["items"])
        return out
    for file in sorted(folder.glob("BFCL_v4_*.json")):
        for line in file.open():
            for f in json.loads(line)["function"]:
                yield convert(f["parameters"])


def unique_names(pairs):
    names = [k for k, _ in pairs]
    assert len(names) == len(set(names)), f"a name is there twice: {names}"
    return dict(pairs)


def main():
    walk, shared = sys.argv[1], pathlib.Path(sys.argv[2])
    texts, seed = (sys.argv[3:] + ["20", "1"][len(sys.argv) - 3:])[:2]
    schemas = list(OWN)
    suite = shared / "data/schema/draft2020-12"
    if suite.is_dir():
        for file in sorted(suite.glob("*.json")):
            if file.stem == "format":
                continue  # there formats only describe
            # The judge looks for "$id" on the network, and Debian 12's does not see that additionalProperties evaluates.
            for group in json.load(file.open()):
                text = json.dumps(group["schema"])
                if "$id" not in text and not ("additionalProperties" in text and "unevaluatedProperties" in text):
                    schemas.append(group["schema"])
    functions = []
    if (shared / "data/functions/bfcl").is_dir():
        for s in bfcl(shared / "data/functions/bfcl"):
            if s not in functions:
                functions.append(s)
    else:
        print(f"without the schemas of {shared}: they are not there")
    schemas += functions[:200]
    lines = "".join(json.dumps(s) + "\n" for s in schemas)
    output = ""
    for order in ["ordered", "unordered"]:
        done = subprocess.run([walk, seed, texts, order], input=lines.encode(), stdout=subprocess.PIPE)
        if done.returncode != 0:
            print(f"{walk} failed: {done.returncode}")
            return 1
        output += done.stdout.decode()
    validators = [None] * len(schemas)
    judged = wrong = refused = 0
    for line in output.split("\n")[:-1]:
        number, text = line.split("\t", 1)
        number = int(number)
        if text.startswith("!"):
            refused += 1
            if number < len(OWN) or number >= len(schemas) - len(functions[:200]):
                print(f"refused: {json.dumps(schemas[number])}: {text[1:]}")
                wrong += 1
            continue
        if validators[number] is None:
            validators[number] = Draft202012Validator(json.loads(json.dumps(schemas[number]), parse_float=decimal.Decimal))
        judged += 1
        try:
            validators[number].validate(json.loads(text, object_pairs_hook=unique_names, parse_float=decimal.Decimal))
        except Exception as e:  # noqa: BLE001: whatever it is, the text is wrong
            wrong += 1
            if wrong <= 10:
                print(f"{json.dumps(schemas[number])}\n  {text}\n  {str(e).splitlines()[0]}")
    print(f"{judged} texts of {len(schemas)} schemas ({refused} refused): {wrong} wrong")
    return 1 if wrong or not judged else 0


sys.exit(main())
