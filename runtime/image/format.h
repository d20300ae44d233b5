// The model image on disk, every byte. One file in two forms:
//   model.slm   skippable frame (StoredHeader, FrameEntry[]) · zstd frames of the raw form, in order · skippable frame
//   (zstd seek table) model.raw   what the frames decode to: RawHeader at 0, sections at multiples of 64 KiB; mapped,
//   it is what the kernels run on
// `zstd -dc model.slm` gives model.raw. Everything is little endian. Format version 2 has
// the kind i6; an image without one is of version 1.
#pragma once
#include <cstdint>

namespace slmd::image {

constexpr std::uint32_t format_version = 2, reader_version = 2;
constexpr std::uint64_t section_align = 65536;
constexpr std::uint32_t max_tensors = 4096, max_frames = 1u << 20;
constexpr std::uint64_t frame_bytes = 1u << 20;  // raw bytes of a frame, at most
constexpr char raw_magic[8] = {'S', 'L', 'M', 'R', 'A', 'W', '1', 0};
constexpr char stored_magic[8] = {'S', 'L', 'M', 'Z', 'S', 'T', '1', 0};
constexpr std::uint32_t skippable_magic = 0x184D2A50, seek_table_magic = 0x184D2A5E, seekable_magic = 0x8F92EAB1;

enum class SectionId : std::uint32_t {
    index = 1,
    params = 2,
    tokenizer = 3,
    chat = 4,
    provenance = 5,
    tensors = 6,
    golden = 7,
    prefixes = 8
};

struct Section {
    std::uint32_t id;
    std::uint32_t crc32c;        // of the section; 0 for tensors (each has its own) and index (index_sha256)
    std::uint64_t offset, size;  // in the raw form
};

enum class SignatureType : std::uint32_t { none = 0, ecdsa_p256_sha256 = 1 };

struct Signature {  // over the RawHeader with this field zeroed; all zero: unsigned
    SignatureType type;
    std::uint8_t key_id[8];  // the first bytes of SHA-256 over the public point (65 bytes: 4, x, y)
    std::uint8_t rs[64];     // r, then s, 32 bytes each, big endian: as PSA has them
    std::uint8_t zero[512 - 4 - 8 - 64];
};
static_assert(sizeof(Signature) == 512);

// An adapter (LoRA) is an image of its own, for one base: its header says which. Zero in a model.
struct AdapterBase {
    std::uint8_t index_sha256[32];  // RawHeader::index_sha256 of the base, which covers all its tensors
    char name[64];                  // the base's, for people
};

// What a signature covers: this header; by index_sha256 the index; by that every tensor; by section_sha256 the other
// sections. What lies between them is zero.
struct RawHeader {  // 4096 bytes at offset 0 of the raw form; the index section follows in the same 64 KiB unit or
                    // later
    char magic[8];
    std::uint32_t version, reader;  // written as, and the oldest reader that understands it
    std::uint64_t raw_size;         // of the whole raw form
    std::uint32_t section_count, tensor_count;
    Section sections[8];
    std::uint8_t index_sha256[32];  // over the index section
    Signature signature;
    // Of sections[i], as it lies there. Zero for index, tensors and where there is no section; everywhere in an image
    // that was written before there were any.
    std::uint8_t section_sha256[8][32];
    AdapterBase base;
    std::uint8_t reserved[4096 - 8 - 8 - 8 - 8 - 8 * 24 - 32 - 512 - 8 * 32 - 96];
};
static_assert(sizeof(RawHeader) == 4096);

struct StoredHeader {  // first in the leading skippable frame; FrameEntry[frame_count] follows
    char magic[8];
    std::uint32_t version, reader;
    std::uint64_t raw_size, stored_size;  // stored_size: the whole file
    std::uint32_t frame_count, reserved;
    std::uint8_t index_sha256[32];   // the same as in RawHeader
    std::uint8_t frames_sha256[32];  // over FrameEntry[], so that it covers the CRCs
};

struct FrameEntry {
    std::uint64_t offset;  // in the file
    std::uint32_t stored, raw;
    std::uint32_t crc32c;  // of the stored bytes
    std::uint32_t reserved;
};

enum class Kind : std::uint32_t { f32 = 0, i4 = 1, i4a = 2, i8 = 3, i6 = 4 };

// Weights: R4K8-g32. Rows are outputs, columns inputs; G = cols / 32 groups of 32 columns. cols is padded with zeros to
// a multiple of 32, rows to a multiple of 8. A block is 8 rows = 2 panels of 4.
//   codes, 4 bit (i4, i4a): 128 bytes a (block, group) at (block * G + group) * 128: panel 0, then panel 1, 64 bytes
//   each:
//       four vectors of 16 bytes: {row 0, row 1} x k 0..7, {row 2, row 3} x k 0..7, {row 0, row 1} x k 8..15, {row 2,
//       row 3} x k 8..15; low nibble k, high nibble k + 16
//   codes, i6: n = code, or its complement where code < 0; bits 0..3 of n as those of 4 bits are, and in the third stream
//   h = bit 4 of n, plus 2 where code < 0: 64 bytes a (block, group), 8 a row, byte k % 8 with h at bit k / 8 * 2. Both
//   are small where codes are, which frames gain by.
//   codes, i8: 256 bytes a (block, group): panel 0, then panel 1, 128 bytes each: the same vectors for k 0..15, then
//   for k 16..31, a byte a code
//   scales: i4   8 x u8 a (block, group): sign in bit 7, value = 2^(e - 7) * (1 + m / 16), e = bits 4..6, m = bits
//                0..3; steps, the third stream: f32 a row
//           i4a  8 x f16 scale, then 8 x f16 minimum, a (block, group)
//           i6, i8   8 x f16 a (block, group)
//   value:  i4   book[code] * scale * step[row], |book| <= 31
//           i4a  code * scale + minimum, code 0..15
//           i6   code * scale, -32..31
//           i8   code * scale, -127..127
//   f32 (of encoders, of ffn_gate_inp, or a vector of one row): panels of 16 rows, padded with zeros; in a panel column
//   after column, 16 values each. A vector is its values.
constexpr std::uint32_t residency_on_demand = 2;  // TensorEntry::residency

struct TensorEntry {  // in the index section, in execution order
    char name[56];    // GGUF names without ".weight": token_embd, output_norm, output, rope.inv_freq and, a layer,
                      // blk.0.{attn_q,attn_k,attn_v,attn_output,ffn_gate,ffn_up,ffn_down}; where the model has them
                      // blk.0.{attn_norm,post_attention_norm,ffn_norm,post_ffw_norm} around attention and
                      // feed-forward, blk.0.attn_{q,k,v}.bias, blk.0.attn_{q,k}_norm (of a head: head_dim values; of
                      // the whole row: rows of attn_q, attn_k). Of a mixture of experts, in place of ffn_*,
                      // ffn_gate_inp (f32: experts x dim) and ffn_{gate,up,down}_exps, the experts' rows one expert
                      // behind the other. Of an encoder token_embd, position_embd, token_types,
    // token_embd_norm and, a layer, blk.0.{attn_q,attn_k,attn_v,attn_output,ffn_up,ffn_down}, each with
    // its .bias, blk.0.{attn_output_norm,layer_output_norm}; norms have a .bias. A reader refuses a
    // tensor that it has no use for.
    Kind kind;
    std::uint32_t rows, cols;         // as the model has them, without padding; a vector is 1 x cols
    std::uint32_t residency;          // 0 resident, 1 evictable, 2 on demand: an untied token_embd, in small frames,
                                      // and experts, whose frames hold bytes of one expert each where that is possible
    std::uint64_t codes, codes_size;  // in the raw form; f32 data for Kind::f32
    std::uint64_t scales, scales_size;
    std::uint64_t steps, steps_size;  // i4: steps; i6: high bits
    std::int8_t book[16];             // i4 only
    std::uint32_t crc32c[3];          // of codes, scales, steps; what guards a raw form, whose frames are gone
    std::uint8_t sha256[28];          // its first bytes, over codes, scales and steps without their padding; zero: not
                                      // recorded, as in RawHeader
};
static_assert(sizeof(TensorEntry) == 176);

// The tensors of an adapter: "lora.scale" (f32, 1 x n: the s of each matrix that it changes), then for each of them, in
// execution order, "blk.0.attn_q.lora_a" (A: rank x inputs) and "blk.0.attn_q.lora_b" (B: outputs x rank), both i8. The
// matrix becomes W + s B A, its rows in the order of the base's. The params are the base's, with the adapter's name.
constexpr const char* adapted_matrices[] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                            "ffn_gate", "ffn_up", "ffn_down"};
constexpr int adapted_count = 7;
constexpr std::uint32_t max_rank = 256;

// Bits of ModelParams::flags
constexpr std::uint32_t flag_tied_output = 1;   // no tensor "output": token_embd is the output matrix
constexpr std::uint32_t flag_gelu = 2;          // GELU (tanh form) gates the feed-forward, not SiLU
constexpr std::uint32_t flag_encoder = 4;       // BERT: reads a text and embeds it; does not write
constexpr std::uint32_t flag_expert_share = 8;  // the weights of the experts that a token goes to add up to 1; else
                                                // they are their probabilities among all experts
constexpr std::uint32_t known_flags = 15;       // a reader refuses others: they would change the answers
constexpr std::uint32_t max_layers = 256, max_experts = 256;

struct ModelParams {  // the params section
    char name[64];    // for people: "SmolLM2-135M-Instruct"
    char family[32];  // "llama"
    std::uint32_t layers, dim, hidden, heads, kv_heads, head_dim, vocab, context;
    std::uint32_t rope_dims;  // rotated dimensions of a head, in halves: element i pairs with i + rope_dims / 2
    std::uint32_t flags;
    float norm_eps;
    float attn_scale;                                // 0: 1 / sqrt(head_dim)
    float embed_scale, residual_scale, logit_scale;  // 1 when unused
    float attn_softcap, final_softcap;               // 0 when unused
    float rope_theta;        // for people; tensor rope.inv_freq (f32, rope_dims / 2) is what counts
    std::uint32_t window;    // positions that a sliding layer looks back on, its own included; 0: none slides
    float rope_scale;        // of cosine and sine (YaRN's attention factor); 0: 1
    float rope_theta_local;  // for people; not 0: sliding layers rotate by tensor rope.inv_freq_local
    std::uint8_t sliding[max_layers / 8];  // bit i % 8 of byte i / 8: layer i slides
    std::uint8_t no_rope[max_layers / 8];  // the same: layer i does not rotate
    // Of each layer's feed-forward (hidden: of one of them), and how many a token goes to; 0: it is one whole.
    std::uint32_t experts, experts_used;
    std::uint8_t reserved[4];
};
static_assert(sizeof(ModelParams) == 256);

// The golden section: what the model says to some prompts, the same on every machine. GoldenPrompt[count], one behind
// the other, each followed by its tokens. Absent: nothing to check.
struct GoldenPrompt {
    std::uint32_t tokens;     // of the prompt, int32 each, which follow: 1 .. max_golden_tokens
    std::uint32_t answer;     // tokens of the answer, each the likeliest one: 1 .. max_golden_answer; of an encoder 1
    std::uint8_t sha256[32];  // over those, int32 each; an answer does not end at an end-of-text token. Of an encoder
                              // over the embedding, f32 each
};
constexpr std::uint32_t max_golden_prompts = 16, max_golden_tokens = 1024, max_golden_answer = 256;

// The prefixes section: KV states of beginnings of prompts, as engine/snapshot.h keeps them in files, so that a first
// start has them. Prefix, then the file's bytes, then zeros up to a multiple of 64; one behind the other, to the end of
// the section. It is in memory with the image.
struct Prefix {
    std::uint64_t bytes;  // of the file
    std::uint8_t zero[56];
};
static_assert(sizeof(Prefix) == 64);

inline bool layer_bit(const std::uint8_t (&bits)[max_layers / 8], std::uint32_t layer) {
    return (bits[layer / 8] >> layer % 8 & 1) != 0;
}

}  // namespace slmd::image
