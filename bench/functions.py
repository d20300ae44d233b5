"""Parameters of BFCL's functions, whose types are Python's, as JSON Schema."""


# What constrains nothing, and tells the model what is meant.
TOLD = ("description", "default")


def convert(s, told=()):
    kind = {"dict": "object", "float": "number", "tuple": "array", "any": None}.get(s.get("type"), s.get("type"))
    out = {"type": kind} if kind else {}
    out |= {k: s[k] for k in ("enum", *told) if k in s}
    if "properties" in s and kind == "object":
        out["properties"] = {k: convert(v, told) for k, v in s["properties"].items()}
        out["required"] = [k for k in s.get("required", []) if k in s["properties"]]
        out["additionalProperties"] = False
    if kind == "array" and "items" in s:
        out["items"] = convert(s["items"], told)
    return out
