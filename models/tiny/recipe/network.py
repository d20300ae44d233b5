"""A llama network in numpy: forward and handwritten backward, float32. Shapes in comments: B sequences, T tokens, D width, V vocabulary."""
import numpy as np

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False, "attention_dropout": 0.0, "mlp_bias": False,
    "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 384, "max_position_embeddings": 256, "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0, "rope_scaling": None, "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    "initializer_range": 0.02, "torch_dtype": "bfloat16", "use_cache": True,
}
D, F, L = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["num_hidden_layers"]
H, KV, HD, V = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"], CONFIG["head_dim"], CONFIG["vocab_size"]
G, EPS = H // KV, np.float32(CONFIG["rms_norm_eps"])


def names():
    """Tensors of the Hugging Face file and their shapes."""
    yield "model.embed_tokens.weight", (V, D)
    for i in range(L):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", (D,)
        yield p + "self_attn.q_proj.weight", (H * HD, D)
        yield p + "self_attn.k_proj.weight", (KV * HD, D)
        yield p + "self_attn.v_proj.weight", (KV * HD, D)
        yield p + "self_attn.o_proj.weight", (D, H * HD)
        yield p + "post_attention_layernorm.weight", (D,)
        yield p + "mlp.gate_proj.weight", (F, D)
        yield p + "mlp.up_proj.weight", (F, D)
        yield p + "mlp.down_proj.weight", (D, F)
    yield "model.norm.weight", (D,)


def initial(seed):
    r = np.random.default_rng(seed)
    w = {}
    for n, s in names():
        scale = 0.02 if "embed" in n else (1 / np.sqrt(s[-1])) / (np.sqrt(2 * L) if "o_proj" in n or "down_proj" in n else 1)
        w[n] = np.ones(s, np.float32) if len(s) == 1 else (r.standard_normal(s) * scale).astype(np.float32)
    return w


def rope(T):
    f = CONFIG["rope_theta"] ** (-np.arange(0, HD, 2, dtype=np.float64) / HD)
    a = np.arange(T)[:, None] * f[None]
    return np.cos(a).astype(np.float32), np.sin(a).astype(np.float32)  # [T, HD / 2]


def rotate(x, c, s):
    h = HD // 2
    a, b = x[..., :h], x[..., h:]
    return np.concatenate([a * c - b * s, b * c + a * s], -1)


def norm(x, g):
    r = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + EPS)
    return x * r * g, r


def norm_back(dy, x, r, g):
    dg = (dy * x * r).reshape(-1, D).sum(0)
    d = dy * g
    return r * d - x * (r**3) * (d * x).mean(-1, keepdims=True), dg


def heads(x, n):  # [B, T, n * HD] -> [B, n, T, HD]
    return x.reshape(*x.shape[:2], n, HD).transpose(0, 2, 1, 3)


def join(x):  # back
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


def forward(w, tokens, keep=False):
    """tokens [B, T] -> logits [B, T, V] (and what backward needs)."""
    B, T = tokens.shape
    c, s = rope(T)
    future = np.triu(np.full((T, T), -1e30, np.float32), 1)
    x = w["model.embed_tokens.weight"][tokens]
    saved = []
    for i in range(L):
        p = f"model.layers.{i}."
        n1, r1 = norm(x, w[p + "input_layernorm.weight"])
        q = rotate(heads(n1 @ w[p + "self_attn.q_proj.weight"].T, H), c, s).reshape(B, KV, G, T, HD)
        k = rotate(heads(n1 @ w[p + "self_attn.k_proj.weight"].T, KV), c, s)
        v = heads(n1 @ w[p + "self_attn.v_proj.weight"].T, KV)
        a = q @ k[:, :, None].swapaxes(-1, -2) * np.float32(HD**-0.5) + future
        a -= a.max(-1, keepdims=True)
        np.exp(a, out=a)
        a /= a.sum(-1, keepdims=True)  # [B, KV, G, T, T]
        o = join((a @ v[:, :, None]).reshape(B, H, T, HD))
        y = x + o @ w[p + "self_attn.o_proj.weight"].T
        n2, r2 = norm(y, w[p + "post_attention_layernorm.weight"])
        gate, up = n2 @ w[p + "mlp.gate_proj.weight"].T, n2 @ w[p + "mlp.up_proj.weight"].T
        sig = 1 / (1 + np.exp(-gate))
        act = gate * sig * up
        z = y + act @ w[p + "mlp.down_proj.weight"].T
        if keep:
            saved.append((x, n1, r1, q, k, v, a, o, y, n2, r2, gate, up, sig, act))
        x = z
    n, r = norm(x, w["model.norm.weight"])
    logits = n @ w["model.embed_tokens.weight"].T
    return (logits, (saved, x, n, r, c, s)) if keep else logits


def backward(w, tokens, d, kept):
    """d: gradient of the loss by the logits [B, T, V]. Returns the gradient of every tensor."""
    saved, x, n, r, c, s = kept
    B, T = tokens.shape
    flat = lambda m: m.reshape(-1, m.shape[-1])
    grad = {}

    def linear(name, dy, inp):
        grad[name] = flat(dy).T @ flat(inp)
        return dy @ w[name]

    dn = linear("model.embed_tokens.weight", d, n)
    dx, grad["model.norm.weight"] = norm_back(dn, x, r, w["model.norm.weight"])
    for i in reversed(range(L)):
        p = f"model.layers.{i}."
        x, n1, r1, q, k, v, a, o, y, n2, r2, gate, up, sig, act = saved[i]
        dact = linear(p + "mlp.down_proj.weight", dx, act)
        dgate = dact * up * sig * (1 + gate * (1 - sig))
        dup = dact * gate * sig
        dn2 = linear(p + "mlp.gate_proj.weight", dgate, n2) + linear(p + "mlp.up_proj.weight", dup, n2)
        dy, grad[p + "post_attention_layernorm.weight"] = norm_back(dn2, y, r2, w[p + "post_attention_layernorm.weight"])
        dy += dx
        do = heads(linear(p + "self_attn.o_proj.weight", dy, o), H).reshape(B, KV, G, T, HD)
        da = do @ v[:, :, None].swapaxes(-1, -2)
        dv = (a.swapaxes(-1, -2) @ do).sum(2)
        da -= (da * a).sum(-1, keepdims=True)
        da *= a
        da *= np.float32(HD**-0.5)
        dq = (da @ k[:, :, None]).reshape(B, H, T, HD)
        dk = (da.swapaxes(-1, -2) @ q).sum(2)
        dn1 = linear(p + "self_attn.q_proj.weight", join(rotate(dq, c, -s)), n1) + linear(p + "self_attn.k_proj.weight", join(rotate(dk, c, -s)), n1) \
            + linear(p + "self_attn.v_proj.weight", join(dv), n1)
        dx, grad[p + "input_layernorm.weight"] = norm_back(dn1, x, r1, w[p + "input_layernorm.weight"])
        dx += dy
    np.add.at(grad["model.embed_tokens.weight"], tokens.reshape(-1), flat(dx))
    return grad
