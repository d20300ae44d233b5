"""Makes number_formats.gguf and number_formats.npy: random blocks of every readable type, and their values by the gguf package (pip install gguf).

The package's dequantization is tested upstream against ggml bit for bit; the file is its writer's, not ours."""
import gguf
import numpy as np

rng = np.random.default_rng(20261122)
T = gguf.GGMLQuantizationType
scales = {T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}
scales |= {T.Q2_K: [80, 82], T.Q3_K: [108], T.IQ4_NL: [0], T.IQ4_XS: [0], T.MXFP4: []}
writer = gguf.GGUFWriter("number_formats.gguf", "none")
values = []
for t in [T.F32, T.F16, T.BF16, *scales]:
    block, size = gguf.GGML_QUANT_SIZES[t]
    columns, rows = max(block, 32) * 2, 3
    raw = rng.integers(0, 256, (rows, columns // block, size), dtype=np.uint8)
    for at in scales.get(t, []):  # f16 scales over their whole finite range, subnormal ones too
        bits = rng.integers(0, 0x6000, raw.shape[:2]).astype(np.uint16) | (rng.integers(0, 2, raw.shape[:2]).astype(np.uint16) << 15)
        raw[:, :, at : at + 2] = bits[:, :, None].view(np.uint8).reshape(*raw.shape[:2], 2)
    if t == T.MXFP4:  # exponents whose values are finite, the subnormal ones too
        raw[:, :, 0] = rng.integers(0, 252, raw.shape[:2], dtype=np.uint8)
        raw[0, :, 0] = [0, 1]
    if t in (T.F32, T.F16, T.BF16):
        x = rng.standard_normal((rows, columns)).astype(np.float32) * np.float32(10) ** rng.integers(-6, 4, (rows, columns)).astype(np.float32)
        raw = gguf.quants.quantize(x, t)
    raw = raw.reshape(rows, -1) if raw.dtype == np.uint8 else raw
    values.append(gguf.quants.dequantize(raw, t).astype(np.float32).ravel())
    if t in (T.F32, T.F16):
        writer.add_tensor(t.name, raw)
    else:
        writer.add_tensor(t.name, raw.view(np.uint8), raw_dtype=t)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
np.save("number_formats.npy", np.concatenate(values))
