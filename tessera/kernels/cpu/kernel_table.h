// What an instruction set must provide: single-threaded functions on rows and tiles. The algorithms around
// them (threads, blocking over tokens, memory) are written once in this folder.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tessera/base/dtype.h"
#include "tessera/kernels/cpu/packed_layout.h"
#include "tessera/kernels/kv_pool.h"
#include "tessera/kernels/types.h"

namespace tessera {

/// How a row becomes codes; see format/reference.h.
struct RowQuantizer {
  enum class Kind : uint8_t { kSymmetric, kAsymmetric, kRealZero, kStatic } kind = Kind::kSymmetric;
  int bits = 8;
  float static_scale = 0;
  const float* repeat = nullptr;  ///< [k] or null: codes become repeat * (code - zero point), zero point 0
};

/// Quantized tokens, as the integer kernels read them. Arrays over tokens; the codes of one token are
/// `stride` bytes apart from those of the next and zero from column k to the layer's k_padded.
struct CodeRows {
  int8_t* codes = nullptr;        ///< [m][stride]
  int64_t stride = 0;             ///< a multiple of 64
  float* scale = nullptr;         ///< [m]
  int32_t* zero_point = nullptr;  ///< [m]
  int32_t* sum = nullptr;         ///< [m]: sum of the codes
  /// [m][stride / 32][2]: sums of the codes with k % 4 < 2 and k % 4 >= 2, over 32 columns. AVX2 only.
  int16_t* pair_sum = nullptr;
  float* offset = nullptr;  ///< [m], of real zero points

  /// The rows from `token` on.
  CodeRows from(int64_t token) const {
    return {codes + token * stride, stride,      scale + token,
            zero_point + token,     sum + token, pair_sum + token * (stride / kKBlock) * 2,
            offset + token};
  }
};

/// Float rows `stride` elements apart.
struct FloatRows {
  const float* data = nullptr;
  int64_t stride = 0;

  /// The rows from `token` on.
  FloatRows from(int64_t token) const { return {data + token * stride, stride}; }
};

/// A matrix of 16- or 32-bit floats, rows `stride` elements apart, as it lies in a checkpoint or a cache.
struct StoredMatrix {
  DType dtype = DType::kF32;  ///< kF32, kF16 or kBF16
  const void* data = nullptr;
  int64_t stride = 0;

  /// The rows from `row` on.
  StoredMatrix from(int64_t row) const {
    const int64_t bytes = row * stride * (dtype == DType::kF32 ? 4 : 2);
    return {dtype, static_cast<const std::byte*>(data) + bytes, stride};
  }
};

/// The norm of a row; see NormWeights.
struct RowNorm {
  bool layer_norm = false;
  float eps = 0;
  const float* gain = nullptr;
  const float* bias = nullptr;  ///< may be null
};

/// The part of a quantized layer's epilogue that belongs to one panel of kPanel outputs.
struct Epilogue {
  const float* scale = nullptr;          ///< [kPanel]
  const int32_t* row_sum = nullptr;      ///< [kPanel], or null: symmetric activations
  bool real_zero = false;                ///< the zero points are CodeRows::offset
  const float* bias = nullptr;           ///< [kPanel], or null
  int64_t outliers = 0;                  ///< columns that bypass quantization
  const Half* outlier_weight = nullptr;  ///< [outliers][kPanel]
  FloatRows outlier_input;               ///< [m][outliers]
  int64_t columns = kPanel;              ///< outputs that exist
  bool accumulate = false;               ///< y += instead of y =
};

/// Keys and values of one head of one sequence; the layout is that of host_kv_pool.h.
struct CachePages {
  KvFormat format = KvFormat::kF32;
  const uint8_t* memory = nullptr;  ///< the head's block in page 0 of the pool
  int64_t page_bytes = 0;           ///< from a block to the one in the next page of the pool
  const int32_t* pages = nullptr;   ///< pages[i] holds the positions from kPageTokens * i on
  int64_t key_scales = 0, values = 0, value_scales = 0;  ///< offsets within a block

  const uint8_t* block(int64_t position) const { return memory + pages[position / kPageTokens] * page_bytes; }
};

/// Query rows that share one head's keys and values.
struct AttentionRows {
  FloatRows q;           ///< head_dim floats a row
  float* out = nullptr;  ///< row r at out + r * out_stride
  int64_t out_stride = 0;
  int64_t count = 0;             ///< at most kAttentionRows
  int64_t first_position = 0;    ///< position of row 0
  int64_t position_step = 1;     ///< 1: consecutive tokens of one head; 0: heads of one token
  int64_t window = 0;            ///< 0: sees everything before
  const float* alibi = nullptr;  ///< see AttentionRule; the slope of row r at alibi[r * alibi_step]
  int64_t alibi_step = 0;
  CachePages cache;
  int64_t head_dim = 0;
};

constexpr int64_t kTokenBlock = 240;    ///< tokens whose accumulators a thread holds for one panel
constexpr int64_t kAttentionRows = 48;  ///< query rows that one call of attend() takes
constexpr int64_t kMaxHeadDim = 256;

struct CpuKernels {
  CpuIsa isa;
  /// y += x.
  void (*add)(const float* x, int64_t count, float* y);
  /// y may be x.
  void (*norm)(const float* x, int64_t width, const RowNorm& norm, float* y);
  /// activation(gate) * up, or activation(up) when gate is null.
  void (*glu)(const float* gate, const float* up, int64_t width, GluActivation activation, float* y);
  /// y[i] = gain[i] * x[index[i]] for i < k.
  void (*gather)(const float* x, const int32_t* index, const float* gain, int64_t k, float* y);
  /// Codes of x [k] into row 0 of `out`, zeros up to k_padded.
  void (*quantize)(const float* x, int64_t k, int64_t k_padded, const RowQuantizer& how, const CodeRows& out);
  /// acc [m][kPanel] = codes * panel^T, m <= kTokenBlock; acc is aligned to 64 bytes.
  void (*integer_panel)(const PackedPanel& panel, const CodeRows& x, int64_t m, int32_t* acc);
  /// sums [m][kPanel] = x [m, k] * panel^T, m <= kTokenBlock, in floats.
  void (*weight_only_panel)(const PackedPanel& panel, const FloatRows& x, int64_t m, int64_t k, float* sums);
  /// y [m] rows ldy apart from acc [m][kPanel], which is destroyed, in the order of format/reference.h except
  /// for sums over outliers.
  void (*integer_epilogue)(const Epilogue& epilogue, const CodeRows& x, int64_t m, int32_t* acc, float* y,
                           int64_t ldy);
  /// The same from the sums of a weight-only layer.
  void (*float_epilogue)(const Epilogue& epilogue, int64_t m, float* sums, float* y, int64_t ldy);
  /// out [m][kPanel], rows ldo apart, = x [m, k] * (rows 0 .. columns - 1 of w)^T; what lies beyond `columns`
  /// is undefined.
  void (*float_panel)(const FloatRows& x, int64_t m, const StoredMatrix& w, int64_t columns, int64_t k,
                      float* out, int64_t ldo);
  /// sums [m][kPanel] = x [m, k] * panel [k][kPanel], m <= kTokenBlock: added along k for every row, whatever
  /// m.
  void (*packed_float_panel)(const StoredMatrix& panel, const FloatRows& x, int64_t m, int64_t k,
                             float* sums);
  void (*attend)(const AttentionRows& rows);
  void (*to_float)(const StoredMatrix& from, int64_t count, float* to);
  void (*to_half)(const float* from, int64_t count, Half* to);
  /// Multiply-adds in registers, as fast as the instructions of the kernels allow; return the multiplications
  /// and additions made. integer_peak is 0 where no instruction stands out.
  int64_t (*integer_peak)(int64_t rounds);
  int64_t (*float_peak)(int64_t rounds);
  /// Reads `count` floats, a multiple of 64, and returns their sum.
  float (*read_floats)(const float* p, int64_t count);
};

const CpuKernels& generic_kernels();
const CpuKernels& avx2_kernels();
const CpuKernels& avx512vnni_kernels();
/// The table of `isa`, which the processor must have before anything in it is called.
const CpuKernels& kernels_for(CpuIsa isa);

}  // namespace tessera
