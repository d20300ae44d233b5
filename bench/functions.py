"""Parameters of BFCL's functions, whose types are Python's, as JSON Schema."""


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
