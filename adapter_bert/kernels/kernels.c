// The parts of BERT between its matrix products, as TensorFlow kernels for CPU.
//
// Every kernel reads float32 or bfloat16, computes in float32, and writes the type that it read. A
// kernel runs on one thread: the model is built once for each core (towers in training/model_fn.py), and its
// copies run side by side. Nothing here is stored for a gradient that can be computed again from
// what the model keeps anyway: a dropout mask comes from a hash of seed and place.
//
// Letters: B batch, T tokens, N heads, H head width, D = N * H hidden; R rows, W width of a row.
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif
#ifdef __AMX_BF16__
#include <sys/syscall.h>
#include <unistd.h>
#endif

// The header ops.h is C but for these names.
typedef struct TF_OpDefinitionBuilder TF_OpDefinitionBuilder;
typedef struct TF_ShapeInferenceContext TF_ShapeInferenceContext;
typedef struct TF_ShapeHandle TF_ShapeHandle;
typedef struct TF_DimensionHandle TF_DimensionHandle;
#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_tensor.h"

#define INLINE static inline __attribute__((always_inline))
#define LANES 16
#define ROUND_UP(n) (((n) + LANES - 1) / LANES * LANES)

// ---- vectors of 16 numbers, and how they lie in memory ------------------------------------------

typedef float vfloat __attribute__((vector_size(64)));
typedef int32_t vint __attribute__((vector_size(64)));
typedef uint32_t vuint __attribute__((vector_size(64)));
typedef uint16_t vhalf __attribute__((vector_size(32)));

INLINE vfloat all(float x) { return x - (vfloat){}; }
INLINE vfloat choose(vint condition, vfloat yes, vfloat no) {
  return (vfloat)((condition & (vint)yes) | (~condition & (vint)no));
}
INLINE vfloat clamp(vfloat x, float low, float high) {  // a NaN stays one
#ifdef __AVX512F__
  return (vfloat)_mm512_min_ps((__m512)all(high), _mm512_max_ps((__m512)all(low), (__m512)x));
#else
  x = choose(x < low, all(low), x);
  return choose(x > high, all(high), x);
#endif
}
// 1 / x: to 2^-14 where `rough`, else to about one unit in the last place.
INLINE vfloat reciprocal(vfloat x, int rough) {
#ifdef __AVX512F__
  vfloat guess = (vfloat)_mm512_rcp14_ps((__m512)x);
  return rough ? guess : guess * (2.0f - x * guess);
#else
  (void)rough;
  return 1.0f / x;
#endif
}
INLINE float sum_of(vfloat x) {
  for (int width = LANES / 2; width; width /= 2)
    for (int i = 0; i < width; i++) x[i] += x[i + width];
  return x[0];
}
INLINE float max_of(vfloat x) {
  float most = x[0];
  for (int i = 1; i < LANES; i++) most = x[i] > most ? x[i] : most;
  return most;
}

INLINE vhalf to_bfloat16(vfloat x) {  // to the nearest, ties to even
#ifdef __AVX512BF16__
  return (vhalf)_mm512_cvtneps_pbh((__m512)x);
#else
  vuint bits = (vuint)x;
  vuint rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return __builtin_convertvector((vuint)choose(x == x, (vfloat)rounded, (vfloat)((bits >> 16) | 64)),
                                 vhalf);
#endif
}

// `count` numbers from place i of an array of float32, or of bfloat16 where `half`; the others are 0.
INLINE vfloat load(const void *array, int64_t i, int count, int half) {
  if (half) {
    vhalf x = {};
    memcpy(&x, (const uint16_t *)array + i, count == LANES ? sizeof x : 2 * (size_t)count);
    return (vfloat)(__builtin_convertvector(x, vuint) << 16);
  }
  vfloat x = {};
  memcpy(&x, (const float *)array + i, count == LANES ? sizeof x : 4 * (size_t)count);
  return x;
}
INLINE void store(void *array, int64_t i, vfloat x, int count, int half) {
  if (half) {
    vhalf y = to_bfloat16(x);
    memcpy((uint16_t *)array + i, &y, count == LANES ? sizeof y : 2 * (size_t)count);
  } else {
    memcpy((float *)array + i, &x, count == LANES ? sizeof x : 4 * (size_t)count);
  }
}

// Runs `body` with i = 0, 16, ... and count, the numbers left, 16 but in the last round.
#define FOR_LANES(n, body)                                             \
  do {                                                                 \
    int64_t i = 0;                                                     \
    for (; i + LANES <= (n); i += LANES) { enum { count = LANES }; body } \
    if (i < (n)) { const int count = (int)((n) - i); body }            \
  } while (0)

// ---- functions of numbers -----------------------------------------------------------------------

// e^x to 2 units in the last place, to 5e-5 of it where `rough`; 0 below -87 and e^88 above 88.
INLINE vfloat exponential(vfloat x, int rough) {
  vint underflow = x < -87.0f;
  x = clamp(x, -87.0f, 88.0f);
  const float round_to_integer = 12582912.0f;  // 1.5 * 2^23
  vfloat n = (x * 1.44269504f + round_to_integer) - round_to_integer;
  vfloat r = x - n * 0.693359375f + n * 2.12194440e-4f;   // ln 2 in two parts
  vfloat p = all(1.0f / 24);
  if (!rough) p = (p * r * (1.0f / 30) + 1.0f / 120) * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  vfloat power = (vfloat)((__builtin_convertvector(n, vint) + 127) << 23);
  return choose(underflow, (vfloat){}, p * power);
}

// The standard normal distribution function to 8e-8 (Abramowitz & Stegun 7.1.26), and e^(-x^2/2).
INLINE vfloat normal_cdf(vfloat x, vfloat *bell, int rough) {
  vfloat z = choose(x < 0, -x, x);
  vfloat t = reciprocal(1.0f + 0.3275911f * 0.70710678f * z, rough);
  *bell = exponential(-0.5f * z * z, rough);
  vfloat p = all(1.061405429f);
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  vfloat tail = 0.5f * p * t * *bell;
  return choose(x < 0, tail, 1.0f - tail);
}

// sigmoid(2u) = (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3), and 2 du/dx.
INLINE vfloat tanh_gate(vfloat x, vfloat *slope, int rough) {
  const float c = 0.7978845608f, a = 0.044715f;
  *slope = 2.0f * c * (1.0f + 3.0f * a * x * x);
  return reciprocal(1.0f + exponential(-2.0f * c * (x + a * x * x * x), rough), rough);
}

enum activation { GELU_ERF, GELU_TANH };

// Beyond 12 both forms of GELU are x or 0, and their squares and cubes could overflow. `rough` is for
// results that are rounded to bfloat16, which is 2^-9 wide.
INLINE vfloat gelu(vfloat x, int form, int rough) {
  vfloat unused, inner = clamp(x, -12.0f, 12.0f);
  vfloat gate = form == GELU_ERF ? normal_cdf(inner, &unused, rough)
                                 : tanh_gate(inner, &unused, rough);
  return choose(x < -12.0f, (vfloat){}, x * gate);
}
INLINE vfloat gelu_slope(vfloat x, int form, int rough) {
  vfloat extra, gate, inner = clamp(x, -12.0f, 12.0f);
  if (form == GELU_ERF) {
    gate = normal_cdf(inner, &extra, rough);
    return gate + inner * extra * 0.3989422804f;
  }
  gate = tanh_gate(inner, &extra, rough);
  return gate + inner * gate * (1.0f - gate) * extra;
}

// A seed of 64 well mixed bits (SplitMix64, by Sebastiano Vigna): places and steps that follow each
// other must not make masks that do.
static uint64_t spread(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// Whether each of the 16 numbers from place `index` on is kept: 16 random bits against the rate.
// A hash gives the bits of two such groups (the mixing steps of MurmurHash3, by Austin Appleby).
INLINE vuint mixed(vuint x) {
  x = (x ^ (x >> 16)) * 0x85ebca6bu;
  x = (x ^ (x >> 13)) * 0xc2b2ae35u;
  return x ^ (x >> 16);
}
INLINE vint kept(uint64_t seed, uint64_t index, uint32_t threshold) {
  const vuint lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  uint32_t pair = (uint32_t)(index / (2 * LANES)) * LANES, far = (uint32_t)(index >> 37);
  vuint bits = mixed(mixed(lane + pair + (uint32_t)seed) + (uint32_t)(seed >> 32) + far);
  bits = index & LANES ? bits >> 16 : bits & 0xffff;
  return (vint)(bits >= threshold);
}
INLINE uint32_t threshold_of(float rate) { return (uint32_t)lrintf(rate * 65536.0f); }
INLINE vfloat drop(vfloat x, uint64_t seed, uint64_t index, float rate) {
  return choose(kept(seed, index, threshold_of(rate)), x * (1.0f / (1.0f - rate)), (vfloat){});
}

// ---- element-wise kernels: x and y of R rows, a bias [W] that is added to each row --------------

INLINE void activate(const void *x, const float *bias, void *y, int64_t rows, int64_t w, int form,
                     int half) {
  for (int64_t r = 0; r < rows; r++)
    FOR_LANES(w, {
      vfloat sum = load(x, r * w + i, count, half) + load(bias, i, count, 0);
      store(y, r * w + i, gelu(sum, form, half), count, half);
    });
}
INLINE void activate_grad(const void *dy, const void *x, const float *bias, void *dx, int64_t rows,
                          int64_t w, int form, int half) {
  for (int64_t r = 0; r < rows; r++)
    FOR_LANES(w, {
      vfloat sum = load(x, r * w + i, count, half) + load(bias, i, count, 0);
      vfloat slope = gelu_slope(sum, form, half);
      store(dx, r * w + i, load(dy, r * w + i, count, half) * slope, count, half);
    });
}
// `bias` may be NULL.
INLINE void dropout(const void *x, const float *bias, void *y, int64_t rows, int64_t w,
                    uint64_t seed, float rate, int half) {
  for (int64_t r = 0; r < rows; r++)
    FOR_LANES(w, {
      vfloat sum = load(x, r * w + i, count, half);
      if (bias) sum += load(bias, i, count, 0);
      store(y, r * w + i, drop(sum, seed, r * ROUND_UP(w) + i, rate), count, half);
    });
}

// ---- LayerNorm of a sum -------------------------------------------------------------------------

INLINE void add_norm_row(const void *x, const void *residual, const float *gamma, const float *beta,
                         void *y, float *mean, float *inverse, float *sum, int64_t start, int64_t w,
                         int half) {
  vfloat total = {}, squares = {};
  FOR_LANES(w, {
    vfloat s = load(x, start + i, count, half) + load(residual, start + i, count, half);
    store(sum, i, s, LANES, 0);
    total += s;
  });
  *mean = sum_of(total) / w;
  FOR_LANES(w, {
    vfloat d = load(sum, i, count, 0) - *mean;
    if (count < LANES) for (int j = count; j < LANES; j++) d[j] = 0;
    squares += d * d;
  });
  *inverse = 1.0f / sqrtf(sum_of(squares) / w + 1e-12f);
  FOR_LANES(w, {
    vfloat normal = (load(sum, i, count, 0) - *mean) * *inverse;
    vfloat out = normal * load(gamma, i, count, 0) + load(beta, i, count, 0);
    store(y, start + i, out, count, half);
  });
}

// dgamma and dbeta are added to; dx is the gradient of both x and residual.
INLINE void add_norm_grad_row(const void *dy, const void *x, const void *residual,
                              const float *gamma, float mean, float inverse, void *dx, float *dgamma,
                              float *dbeta, int64_t start, int64_t w, int half) {
  vfloat sum = {}, product = {};
  FOR_LANES(w, {
    vfloat g = load(dy, start + i, count, half);
    vfloat s = load(x, start + i, count, half) + load(residual, start + i, count, half);
    vfloat normal = (s - mean) * inverse;
    vfloat scaled = g * load(gamma, i, count, 0);   // 0 beyond the row's end
    store(dgamma, i, load(dgamma, i, count, 0) + g * normal, count, 0);
    store(dbeta, i, load(dbeta, i, count, 0) + g, count, 0);
    sum += scaled;
    product += scaled * normal;
  });
  float a = sum_of(sum) / w, b = sum_of(product) / w;
  FOR_LANES(w, {
    vfloat s = load(x, start + i, count, half) + load(residual, start + i, count, half);
    vfloat scaled = load(dy, start + i, count, half) * load(gamma, i, count, 0);
    vfloat d = inverse * (scaled - a - (s - mean) * inverse * b);
    store(dx, start + i, d, count, half);
  });
}

// ---- attention ----------------------------------------------------------------------------------

// C[m, n] = (or +=) the sum over k of A[i * row + k * column] * B[k, n]; n is a multiple of 16.
INLINE void product_block(const float *a, int64_t row, int64_t column, const float *b, int64_t ldb,
                          float *c, int64_t ldc, int64_t k, const int rows, const int vectors,
                          int add) {
  vfloat sum[6][4];
#pragma GCC unroll 6
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++)
      sum[i][j] = add ? load(c, i * ldc + j * LANES, LANES, 0) : (vfloat){};
  for (int64_t p = 0; p < k; p++) {
    vfloat right[4];
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) right[j] = load(b, p * ldb + j * LANES, LANES, 0);
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++) {
      vfloat left = all(a[i * row + p * column]);
#pragma GCC unroll 4
      for (int j = 0; j < vectors; j++) sum[i][j] += left * right[j];
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
    for (int j = 0; j < vectors; j++) store(c, i * ldc + j * LANES, sum[i][j], LANES, 0);
}
#define BLOCK(ROWS, VECTORS)                                                                     \
  product_block(a + i * row, row, column, b + j, ldb, c + i * ldc + j, ldc, k, ROWS, VECTORS, add)
#define BLOCKS(VECTORS)                                                                  \
  do {                                                                                   \
    if (rows == 6) BLOCK(6, VECTORS); else if (rows == 4) BLOCK(4, VECTORS);             \
    else if (rows == 2) BLOCK(2, VECTORS); else BLOCK(1, VECTORS);                       \
  } while (0)
static void product(const float *a, int64_t row, int64_t column, const float *b, int64_t ldb,
                    float *c, int64_t ldc, int64_t m, int64_t n, int64_t k, int add) {
  for (int64_t j = 0; j < n;) {
    int64_t vectors = (n - j) / LANES;
    for (int64_t i = 0; i < m;) {
      int64_t rows = m - i >= 6 ? 6 : m - i >= 4 ? 4 : m - i >= 2 ? 2 : 1;
      if (vectors >= 4) BLOCKS(4); else if (vectors >= 2) BLOCKS(2); else BLOCKS(1);
      i += rows;
    }
    j += LANES * (vectors >= 4 ? 4 : vectors >= 2 ? 2 : 1);
  }
}

// One head's rows of [T, D] as float32 [T, width], zeros beyond H; its transpose [H, columns].
INLINE void take_head(const void *x, int64_t start, int64_t stride, int64_t t, int64_t h, float scale,
                      float *out, int64_t width, int half) {
  for (int64_t row = 0; row < t; row++)
    FOR_LANES(h, {
      store(out, row * width + i, load(x, start + row * stride + i, count, half) * scale, LANES, 0);
    });
}
static void transpose(const float *x, int64_t t, int64_t h, int64_t width, float *out,
                      int64_t columns) {
  memset(out, 0, sizeof(float) * (size_t)(h * columns));
  for (int64_t row = 0; row < t; row++)
    for (int64_t i = 0; i < h; i++) out[i * columns + row] = x[row * width + i];
}
static void give_head(const float *x, int64_t width, float scale, void *out, int64_t start,
                      int64_t stride, int64_t t, int64_t h, int half) {
  for (int64_t row = 0; row < t; row++)
    FOR_LANES(h, {
      store(out, start + row * stride + i, load(x, row * width + i, count, 0) * scale, count, half);
    });
}

typedef struct {  // sizes, and what the heads of a call share
  int64_t b, t, n, h, columns, width;
  float rate, scale;
  uint64_t seed;
  int half, tiles;
} attention;

// e^(score - most) of one row of scores, in place; its sum and `most` come back as log of the sum.
INLINE float exponentials(float *scores, const float *mask, int64_t t, int64_t columns,
                          int rough) {
  vfloat most = all(-INFINITY), sum = {};
  for (int64_t i = t; i < columns; i++) scores[i] = -INFINITY;
  for (int64_t i = 0; i < columns; i += LANES) {
    vfloat s = load(scores, i, LANES, 0) + load(mask, i, LANES, 0);
    store(scores, i, s, LANES, 0);
    most = choose(s > most, s, most);
  }
  float top = max_of(most);
  for (int64_t i = 0; i < columns; i += LANES) {
    vfloat e = exponential(load(scores, i, LANES, 0) - top, rough);
    store(scores, i, e, LANES, 0);
    sum += e;
  }
  float total = sum_of(sum), inverse = 1.0f / total;
  for (int64_t i = 0; i < columns; i += LANES)
    store(scores, i, load(scores, i, LANES, 0) * inverse, LANES, 0);
  return top + logf(total);
}

INLINE uint64_t place(const attention *s, int64_t batch, int64_t head, int64_t row) {
  return (((uint64_t)batch * s->n + head) * s->t + row) * s->columns;
}

// Gradients of 16 scores of a row: the weights as they were used, and the scores' gradient.
INLINE void score_slopes(const attention *s, const float *scores, const float *slopes,
                         const float *mask, float scale, float log, float along, uint64_t index,
                         int64_t j, int rough, vfloat *used, vfloat *slope) {
  vfloat score = load(scores, j, LANES, 0) * scale + load(mask, j, LANES, 0);
  vfloat e = exponential(score - log, rough);
  *slope = load(slopes, j, LANES, 0), *used = e;
  if (s->rate > 0) {
    vint keep = kept(s->seed, index + j, threshold_of(s->rate));
    float up = 1.0f / (1.0f - s->rate);
    *used = choose(keep, e * up, (vfloat){});
    *slope = choose(keep, *slope * up, (vfloat){});
  }
  *slope = e * (*slope - along);
}

// The sum of the products of two rows of n numbers, a multiple of 16.
INLINE float dot(const void *one, const void *other, int64_t n, int half) {
  vfloat sum = {};
  for (int64_t j = 0; j < n; j += LANES) sum += load(one, j, LANES, half) * load(other, j, LANES, half);
  return sum_of(sum);
}

#define ROWS_AT_ONCE 48  // so that a block of scores stays in the cache

static void attend_head(const attention *s, int64_t batch, int64_t head, const void *query,
                        const void *key, const void *value, const float *mask, void *context,
                        float *logs, float *scratch) {
  int64_t t = s->t, d = s->n * s->h, start = batch * t * d + head * s->h, width = s->width;
  float *q = scratch, *k = q + t * width, *v = k + t * width, *kt = v + t * width;
  float *scores = kt + s->h * s->columns, *out = scores + ROWS_AT_ONCE * s->columns;
  take_head(query, start, d, t, s->h, s->scale, q, width, s->half);
  take_head(key, start, d, t, s->h, 1, k, width, s->half);
  take_head(value, start, d, t, s->h, 1, v, width, s->half);
  transpose(k, t, s->h, width, kt, s->columns);
  for (int64_t first = 0; first < t; first += ROWS_AT_ONCE) {
    int64_t rows = t - first < ROWS_AT_ONCE ? t - first : ROWS_AT_ONCE;
    product(q + first * width, width, 1, kt, s->columns, scores, s->columns, rows, s->columns, s->h, 0);
    for (int64_t i = 0; i < rows; i++) {
      float *row = scores + i * s->columns;
      logs[(batch * s->n + head) * t + first + i] = exponentials(row, mask, t, s->columns, s->half);
      if (s->rate > 0)
        for (int64_t j = 0; j < s->columns; j += LANES)
          store(row, j, drop(load(row, j, LANES, 0), s->seed, place(s, batch, head, first + i) + j,
                             s->rate), LANES, 0);
    }
    product(scores, s->columns, 1, v, width, out, width, rows, width, t, 0);
    give_head(out, width, 1, context, start + first * d, d, rows, s->h, s->half);
  }
}

static void attend_grad_head(const attention *s, int64_t batch, int64_t head, const void *dcontext,
                             const void *query, const void *key, const void *value,
                             const float *mask, const void *context, const float *logs,
                             void *dquery, void *dkey, void *dvalue, float *scratch) {
  int64_t t = s->t, d = s->n * s->h, start = batch * t * d + head * s->h, width = s->width;
  int64_t columns = s->columns, full = t * width;
  float *q = scratch, *k = q + full, *v = k + full, *dout = v + full, *out = dout + full;
  float *dq = out + full, *dk = dq + full, *dv = dk + full, *kt = dv + full;
  float *vt = kt + s->h * columns, *p = vt + s->h * columns, *ds = p + ROWS_AT_ONCE * columns;
  take_head(query, start, d, t, s->h, s->scale, q, width, s->half);
  take_head(key, start, d, t, s->h, 1, k, width, s->half);
  take_head(value, start, d, t, s->h, 1, v, width, s->half);
  take_head(dcontext, start, d, t, s->h, 1, dout, width, s->half);
  take_head(context, start, d, t, s->h, 1, out, width, s->half);
  transpose(k, t, s->h, width, kt, columns);
  transpose(v, t, s->h, width, vt, columns);
  for (int64_t first = 0; first < t; first += ROWS_AT_ONCE) {
    int64_t rows = t - first < ROWS_AT_ONCE ? t - first : ROWS_AT_ONCE;
    const float *qs = q + first * width, *douts = dout + first * width;
    product(qs, width, 1, kt, columns, p, columns, rows, columns, s->h, 0);
    product(douts, width, 1, vt, columns, ds, columns, rows, columns, s->h, 0);
    for (int64_t i = 0; i < rows; i++) {
      float *pr = p + i * columns, *dr = ds + i * columns;
      float log = logs[(batch * s->n + head) * t + first + i];
      float along = dot(douts + i * width, out + (first + i) * width, width, 0);
      uint64_t index = place(s, batch, head, first + i);
      for (int64_t j = 0; j < columns; j += LANES) {
        vfloat used, slope;   // the queries carry the scale
        score_slopes(s, pr, dr, mask, 1, log, along, index, j, s->half, &used, &slope);
        store(pr, j, used, LANES, 0);
        store(dr, j, slope, LANES, 0);
      }
    }
    product(p, 1, columns, douts, width, dv, width, t, width, rows, first > 0);
    product(ds, 1, columns, qs, width, dk, width, t, width, rows, first > 0);
    product(ds, columns, 1, k, width, dq + first * width, width, rows, width, t, 0);
  }
  give_head(dq, width, s->scale, dquery, start, d, t, s->h, s->half);
  give_head(dk, width, 1, dkey, start, d, t, s->h, s->half);
  give_head(dv, width, 1, dvalue, start, d, t, s->h, s->half);
}

#ifdef __AMX_BF16__
// ---- attention on tiles -------------------------------------------------------------------------
//
// The same with the CPU's tile registers, for bfloat16 and H a multiple of 32. A product of tiles
// takes 16 rows of 32 numbers, and 16 rows of 16 pairs: (B[2k, n], B[2k + 1, n]). So a factor lies
// as rows ("left") or as pairs ("right"); every size is padded with zeros to 32. Sums are float32.

#define TILE 16
#define DEEP 32
#define ROUND_UP_DEEP(n) (((n) + DEEP - 1) / DEEP * DEEP)

static int tiles_allowed(void) {  // Linux gives a process the tile registers when it asks
  return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
}
static void tiles_on(void) {  // eight tiles of 16 rows of 64 bytes
  struct { uint8_t palette, start, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; } config = {
      .palette = 1};
  for (int i = 0; i < 8; i++) config.bytes[i] = 64, config.rows[i] = TILE;
  _tile_loadconfig(&config);
}

// C[32, n] (+)= left[32, k] right[k, n], all sizes multiples of 32; `right` has n pairs a row.
static void tile_product(const uint16_t *left, int64_t ldl, const uint32_t *right, int64_t n,
                         float *c, int64_t ldc, int64_t k, int add) {
  for (int64_t j = 0; j < n; j += 2 * TILE) {
    float *c0 = c + j, *c1 = c0 + TILE * ldc;
    if (add) {
      _tile_loadd(0, c0, 4 * ldc);
      _tile_loadd(1, c0 + TILE, 4 * ldc);
      _tile_loadd(2, c1, 4 * ldc);
      _tile_loadd(3, c1 + TILE, 4 * ldc);
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    for (int64_t p = 0; p < k; p += DEEP) {
      const uint32_t *pairs = right + p / 2 * n + j;
      _tile_loadd(4, left + p, 2 * ldl);
      _tile_loadd(5, left + TILE * ldl + p, 2 * ldl);
      _tile_loadd(6, pairs, 4 * n);
      _tile_loadd(7, pairs + TILE, 4 * n);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c0, 4 * ldc);
    _tile_stored(1, c0 + TILE, 4 * ldc);
    _tile_stored(2, c1, 4 * ldc);
    _tile_stored(3, c1 + TILE, 4 * ldc);
  }
}

// One head's rows of [T, D] as [size, H], and [size, H] as pairs of rows [size / 2, H].
static void take_rows(const uint16_t *x, int64_t stride, int64_t t, int64_t size, int64_t h,
                      uint16_t *rows) {
  for (int64_t i = 0; i < t; i++) memcpy(rows + i * h, x + i * stride, 2 * (size_t)h);
  memset(rows + t * h, 0, 2 * (size_t)((size - t) * h));
}
static void transpose_tile(const uint32_t *from, int64_t ldf, uint32_t *to, int64_t ldt) {
  __m512i a[TILE], b[TILE];
  for (int i = 0; i < TILE; i++) a[i] = _mm512_loadu_si512(from + i * ldf);
  for (int i = 0; i < TILE; i += 2) {          // pairs of rows, dword by dword
    b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
  }
  for (int i = 0; i < TILE; i += 4) {          // fours of rows: 4 x 4 blocks turned over
    a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
    a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
    a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
    a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
  }
  for (int i = 0; i < 4; i++) {                // the 4 x 4 blocks change places
    __m512i even = _mm512_shuffle_i32x4(a[i], a[i + 4], 0x88);
    __m512i odd = _mm512_shuffle_i32x4(a[i], a[i + 4], 0xdd);
    __m512i even2 = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0x88);
    __m512i odd2 = _mm512_shuffle_i32x4(a[i + 8], a[i + 12], 0xdd);
    _mm512_storeu_si512(to + i * ldt, _mm512_shuffle_i32x4(even, even2, 0x88));
    _mm512_storeu_si512(to + (i + 4) * ldt, _mm512_shuffle_i32x4(odd, odd2, 0x88));
    _mm512_storeu_si512(to + (i + 8) * ldt, _mm512_shuffle_i32x4(even, even2, 0xdd));
    _mm512_storeu_si512(to + (i + 12) * ldt, _mm512_shuffle_i32x4(odd, odd2, 0xdd));
  }
}
// [rows, columns] -> [columns, rows], multiples of 16.
static void transpose_tiles(const uint32_t *from, int64_t rows, int64_t columns, uint32_t *to) {
  for (int64_t i = 0; i < rows; i += TILE)
    for (int64_t j = 0; j < columns; j += TILE)
      transpose_tile(from + i * columns + j, columns, to + j * rows + i, rows);
}
static void paired(const uint16_t *rows, int64_t size, int64_t h, uint32_t *pairs) {
  for (int64_t i = 0; i < size; i += 2)
    for (int64_t j = 0; j < h; j++)
      pairs[i / 2 * h + j] = rows[i * h + j] | (uint32_t)rows[(i + 1) * h + j] << 16;
}
INLINE void store_pair(uint32_t *pairs, int64_t i, vfloat even, vfloat odd) {
  vuint both = __builtin_convertvector(to_bfloat16(even), vuint) |
               __builtin_convertvector(to_bfloat16(odd), vuint) << 16;
  memcpy(pairs + i, &both, sizeof both);
}

static void attend_head_tiles(const attention *s, int64_t batch, int64_t head, const uint16_t *query,
                              const uint16_t *key, const uint16_t *value, const float *mask,
                              uint16_t *context, float *logs, char *scratch) {
  int64_t t = s->t, h = s->h, d = s->n * h, start = batch * t * d + head * h;
  int64_t size = s->columns;
  uint16_t *q = (uint16_t *)scratch, *kv = q + size * h, *p = kv + size * h;
  uint32_t *kt = (uint32_t *)(p + DEEP * size), *vp = kt + size * h / 2;
  float *scores = (float *)(vp + size * h / 2), *out = scores + DEEP * size;
  take_rows(query + start, d, t, size, h, q);
  take_rows(key + start, d, t, size, h, kv);
  transpose_tiles((uint32_t *)kv, size, h / 2, kt);
  take_rows(value + start, d, t, size, h, kv);
  paired(kv, size, h, vp);
  for (int64_t first = 0; first < t; first += DEEP) {
    int64_t rows = t - first < DEEP ? t - first : DEEP;
    tile_product(q + first * h, h, kt, size, scores, size, h, 0);
    for (int64_t i = 0; i < rows; i++) {
      float *row = scores + i * size;
      for (int64_t j = 0; j < size; j += LANES)
        store(row, j, load(row, j, LANES, 0) * s->scale, LANES, 0);
      logs[(batch * s->n + head) * t + first + i] = exponentials(row, mask, t, size, 1);
      for (int64_t j = 0; j < size; j += LANES) {
        vfloat weight = load(row, j, LANES, 0);
        if (s->rate > 0)
          weight = drop(weight, s->seed, place(s, batch, head, first + i) + j, s->rate);
        store(p + i * size, j, weight, LANES, 1);
      }
    }
    tile_product(p, size, vp, h, out, h, size, 0);
    give_head(out, h, 1, context, start + first * d, d, rows, h, 1);
  }
}

// c[n, h] (+)= left[32, n]^T right[32, h], both as pairs of rows; `turned` is room for the transpose.
static void turned_product(const uint32_t *left, int64_t n, const uint32_t *right, int64_t h,
                           uint32_t *turned, float *c, int add) {
  transpose_tiles(left, DEEP / 2, n, turned);
  for (int64_t i = 0; i < n; i += DEEP)
    tile_product((uint16_t *)turned + i * DEEP, DEEP, right, h, c + i * h, h, DEEP, add);
}

static void attend_grad_head_tiles(const attention *s, int64_t batch, int64_t head,
                                   const uint16_t *dcontext, const uint16_t *query,
                                   const uint16_t *key, const uint16_t *value, const float *mask,
                                   const uint16_t *context, const float *logs, uint16_t *dquery,
                                   uint16_t *dkey, uint16_t *dvalue, char *scratch) {
  int64_t t = s->t, h = s->h, d = s->n * h, start = batch * t * d + head * h;
  int64_t size = s->columns, full = size * h, block = DEEP * size;
  uint16_t *q = (uint16_t *)scratch, *dout = q + full, *kv = dout + full, *ds = kv + full;
  uint32_t *kt = (uint32_t *)(ds + block), *kp = kt + full / 2, *vt = kp + full / 2;
  uint32_t *pp = vt + full / 2, *dsp = pp + block / 2, *turned = dsp + block / 2;
  uint32_t *pairs = turned + block / 2;
  float *scores = (float *)(pairs + DEEP * h / 2), *slopes = scores + block, *dq = slopes + block;
  float *dk = dq + DEEP * h, *dv = dk + full;
  take_rows(query + start, d, t, size, h, q);
  take_rows(dcontext + start, d, t, size, h, dout);
  take_rows(key + start, d, t, size, h, kv);
  transpose_tiles((uint32_t *)kv, size, h / 2, kt);
  paired(kv, size, h, kp);
  take_rows(value + start, d, t, size, h, kv);
  transpose_tiles((uint32_t *)kv, size, h / 2, vt);
  for (int64_t first = 0; first < t; first += DEEP) {
    int64_t rows = t - first < DEEP ? t - first : DEEP;
    tile_product(q + first * h, h, kt, size, scores, size, h, 0);
    tile_product(dout + first * h, h, vt, size, slopes, size, h, 0);
    memset(ds, 0, 2 * (size_t)block);
    memset(pp, 0, 2 * (size_t)block);
    memset(dsp, 0, 2 * (size_t)block);
    for (int64_t i = 0; i < rows; i += 2) {
      int pair = i + 1 < rows;
      float log[2] = {0}, along[2] = {0};
      for (int o = 0; o <= pair; o++) {
        log[o] = logs[(batch * s->n + head) * t + first + i + o];
        along[o] = dot(dout + (first + i + o) * h, context + start + (first + i + o) * d, h, 1);
      }
      for (int64_t j = 0; j < size; j += LANES) {
        vfloat used[2] = {}, slope[2] = {};
        for (int o = 0; o <= pair; o++) {
          score_slopes(s, scores + (i + o) * size, slopes + (i + o) * size, mask, s->scale, log[o],
                       along[o], place(s, batch, head, first + i + o), j, 1, used + o, slope + o);
          store(ds + (i + o) * size, j, slope[o], LANES, 1);
        }
        store_pair(pp + i / 2 * size, j, used[0], used[1]);
        store_pair(dsp + i / 2 * size, j, slope[0], slope[1]);
      }
    }
    tile_product(ds, size, kp, h, dq, h, size, 0);
    give_head(dq, h, s->scale, dquery, start + first * d, d, rows, h, 1);
    paired(dout + first * h, DEEP, h, pairs);
    turned_product(pp, size, pairs, h, turned, dv, first > 0);
    paired(q + first * h, DEEP, h, pairs);
    turned_product(dsp, size, pairs, h, turned, dk, first > 0);
  }
  give_head(dk, h, s->scale, dkey, start, d, t, h, 1);
  give_head(dv, h, 1, dvalue, start, d, t, h, 1);
}

// Bytes of scratch: each buffer of attend_grad_head_tiles, which needs the most.
static size_t tile_scratch(const attention *s) {
  size_t size = s->columns, h = s->h;
  return size * h * (3 * 2 + 3 * 2 + 2 * 4) + DEEP * size * (2 + 3 * 2 + 2 * 4) +
         DEEP * h * (2 + 4);
}
#endif

// The mask of one row of the batch: [T] and -infinity beyond.
static void take_mask(const float *bias, int64_t batch, int64_t t, int64_t columns, float *mask) {
  for (int64_t i = 0; i < columns; i++) mask[i] = i < t ? bias[batch * t + i] : -INFINITY;
}

// ---- TensorFlow's side --------------------------------------------------------------------------

typedef struct {
  int half, form;
  float rate;
  int64_t heads;
} attributes;

static void *create(TF_OpKernelConstruction *context) {
  attributes *a = calloc(1, sizeof *a);
  TF_Status *status = TF_NewStatus();
  TF_DataType type = TF_FLOAT;
  int32_t value = 0;
  TF_OpKernelConstruction_GetAttrType(context, "T", &type, status);
  a->half = type == TF_BFLOAT16;
  if (TF_OpKernelConstruction_HasAttr(context, "form", status)) {
    TF_OpKernelConstruction_GetAttrInt32(context, "form", &value, status);
    a->form = value;
  }
  if (TF_OpKernelConstruction_HasAttr(context, "heads", status)) {
    TF_OpKernelConstruction_GetAttrInt32(context, "heads", &value, status);
    a->heads = value;
  }
  if (TF_OpKernelConstruction_HasAttr(context, "rate", status))
    TF_OpKernelConstruction_GetAttrFloat(context, "rate", &a->rate, status);
  TF_DeleteStatus(status);
  return a;
}
static void delete(void *kernel) { free(kernel); }

#define MOST_TENSORS 16
typedef struct {  // one call: its tensors, freed together
  TF_OpKernelContext *context;
  TF_Status *status;
  TF_Tensor *tensors[MOST_TENSORS];
  int count;
} call;

static call begin(TF_OpKernelContext *context) {
  return (call){.context = context, .status = TF_NewStatus()};
}
static void end(call *c) {
  if (TF_GetCode(c->status) != TF_OK) TF_OpKernelContext_Failure(c->context, c->status);
  for (int i = 0; i < c->count; i++) TF_DeleteTensor(c->tensors[i]);
  TF_DeleteStatus(c->status);
}
static TF_Tensor *take(call *c, int index) {
  TF_Tensor *tensor = NULL;
  TF_GetInput(c->context, index, &tensor, c->status);
  return c->tensors[c->count++] = tensor;
}
static void *input(call *c, int index) { return TF_TensorData(take(c, index)); }
static void *output(call *c, int index, TF_DataType type, const int64_t *shape, int rank) {
  int64_t n = 1;
  for (int i = 0; i < rank; i++) n *= shape[i];
  TF_Tensor *tensor = TF_AllocateOutput(c->context, index, type, shape, rank,
                                        (size_t)n * TF_DataTypeSize(type), c->status);
  c->tensors[c->count++] = tensor;
  return tensor ? TF_TensorData(tensor) : NULL;
}
static int shape_of(const TF_Tensor *tensor, int64_t *shape) {
  for (int i = 0; i < TF_NumDims(tensor); i++) shape[i] = TF_Dim(tensor, i);
  return TF_NumDims(tensor);
}
#define MOST_DIMENSIONS 8
static void *output_like(call *c, int index, const TF_Tensor *like) {
  int64_t shape[MOST_DIMENSIONS];
  return output(c, index, TF_TensorType(like), shape, shape_of(like, shape));
}
// An output in the place of an input of its shape and type that nobody reads any more, or a new one.
// The kernel reads each number of that input before it writes the one in its place.
static void *output_over(call *c, int index, int source, const TF_Tensor *like) {
  int64_t shape[MOST_DIMENSIONS];
  int forwarded, rank = shape_of(like, shape);
  TF_Tensor *tensor = TF_ForwardInputOrAllocateOutput(c->context, &source, 1, index, shape, rank,
                                                      &forwarded, c->status);
  c->tensors[c->count++] = tensor;
  return tensor ? TF_TensorData(tensor) : NULL;
}
typedef struct {
  int64_t rows, width;
} rows_of;
static rows_of matrix(const TF_Tensor *x) {  // the last axis, and all others together
  int64_t width = TF_NumDims(x) ? TF_Dim(x, TF_NumDims(x) - 1) : 1;
  return (rows_of){width ? TF_TensorElementCount(x) / width : 0, width};
}
static int failed(call *c, void *one, void *other) {
  if (!one || !other) {
    if (TF_GetCode(c->status) == TF_OK) TF_SetStatus(c->status, TF_RESOURCE_EXHAUSTED, "no memory");
    return 1;
  }
  return 0;
}

// `body` twice, with `half` a constant in each, so that the compiler makes two straight loops.
#define FOR_TYPE(a, body)                     \
  do {                                        \
    if ((a)->half) { enum { half = 1 }; body } \
    else { enum { half = 0 }; body }          \
  } while (0);

static void compute_activate(void *kernel, TF_OpKernelContext *context) {
  const attributes *a = kernel;
  call c = begin(context);
  TF_Tensor *x = take(&c, 0);
  const float *bias = input(&c, 1);
  void *y = output_over(&c, 0, 0, x);
  rows_of m = matrix(x);
  if (!failed(&c, y, y)) FOR_TYPE(a, {
    if (a->form == GELU_ERF) activate(TF_TensorData(x), bias, y, m.rows, m.width, GELU_ERF, half);
    else activate(TF_TensorData(x), bias, y, m.rows, m.width, GELU_TANH, half);
  })
  end(&c);
}

static void compute_activate_grad(void *kernel, TF_OpKernelContext *context) {
  const attributes *a = kernel;
  call c = begin(context);
  const void *dy = input(&c, 0);
  TF_Tensor *x = take(&c, 1);
  const float *bias = input(&c, 2);
  void *dx = output_over(&c, 0, 0, x);
  rows_of m = matrix(x);
  if (!failed(&c, dx, dx)) FOR_TYPE(a, {
    const void *data = TF_TensorData(x);
    if (a->form == GELU_ERF) activate_grad(dy, data, bias, dx, m.rows, m.width, GELU_ERF, half);
    else activate_grad(dy, data, bias, dx, m.rows, m.width, GELU_TANH, half);
  })
  end(&c);
}

static void compute_dropout(void *kernel, TF_OpKernelContext *context) {
  const attributes *a = kernel;
  call c = begin(context);
  TF_Tensor *x = take(&c, 0), *bias = take(&c, 1);
  uint64_t seed = spread(*(uint64_t *)input(&c, 2));
  void *y = output_over(&c, 0, 0, x);
  rows_of m = matrix(x);
  const float *added = TF_TensorElementCount(bias) ? TF_TensorData(bias) : NULL;
  if (!failed(&c, y, y))
    FOR_TYPE(a, { dropout(TF_TensorData(x), added, y, m.rows, m.width, seed, a->rate, half); })
  end(&c);
}

static void compute_add_norm(void *kernel, TF_OpKernelContext *context) {
  const attributes *a = kernel;
  call c = begin(context);
  TF_Tensor *x = take(&c, 0);
  const void *residual = input(&c, 1), *gamma = input(&c, 2), *beta = input(&c, 3);
  int64_t w = matrix(x).width, rows = matrix(x).rows;
  void *y = output_over(&c, 0, 0, x);
  float *means = output(&c, 1, TF_FLOAT, &rows, 1), *inverses = output(&c, 2, TF_FLOAT, &rows, 1);
  float *sum = malloc(sizeof(float) * ROUND_UP(w));
  if (!failed(&c, sum, inverses)) FOR_TYPE(a, {
    for (int64_t r = 0; r < rows; r++)
      add_norm_row(TF_TensorData(x), residual, gamma, beta, y, means + r, inverses + r, sum, r * w,
                   w, half);
  })
  free(sum);
  end(&c);
}

static void compute_add_norm_grad(void *kernel, TF_OpKernelContext *context) {
  const attributes *a = kernel;
  call c = begin(context);
  const void *dy = input(&c, 0);
  TF_Tensor *x = take(&c, 1);
  const void *residual = input(&c, 2), *gamma = input(&c, 3);
  const float *means = input(&c, 4), *inverses = input(&c, 5);
  int64_t w = matrix(x).width, rows = matrix(x).rows;
  void *dx = output_over(&c, 0, 0, x);
  float *dgamma = output(&c, 1, TF_FLOAT, &w, 1), *dbeta = output(&c, 2, TF_FLOAT, &w, 1);
  if (!failed(&c, dgamma, dbeta)) {
    memset(dgamma, 0, sizeof(float) * w);
    memset(dbeta, 0, sizeof(float) * w);
    FOR_TYPE(a, {
      for (int64_t r = 0; r < rows; r++)
        add_norm_grad_row(dy, TF_TensorData(x), residual, gamma, means[r], inverses[r], dx, dgamma,
                          dbeta, r * w, w, half);
    })
  }
  end(&c);
}

static void compute_column_sum(void *kernel, TF_OpKernelContext *context) {
  const attributes *a = kernel;
  call c = begin(context);
  TF_Tensor *x = take(&c, 0);
  int64_t w = matrix(x).width, rows = matrix(x).rows;
  float *sum = output(&c, 0, TF_FLOAT, &w, 1);
  if (!failed(&c, sum, sum)) {
    memset(sum, 0, sizeof(float) * w);
    FOR_TYPE(a, {
      for (int64_t r = 0; r < rows; r++)
        FOR_LANES(w, {
          vfloat more = load(TF_TensorData(x), r * w + i, count, half);
          store(sum, i, load(sum, i, count, 0) + more, count, 0);
        });
    })
  }
  end(&c);
}

static attention sizes(const attributes *a, const TF_Tensor *query, uint64_t seed) {
  int64_t b = TF_Dim(query, 0), t = TF_Dim(query, 1), h = TF_Dim(query, 2) / a->heads;
  attention s = {.b = b, .t = t, .n = a->heads, .h = h, .columns = ROUND_UP(t),
                 .width = ROUND_UP(h), .rate = a->rate, .scale = 1.0f / sqrtf((float)h),
                 .seed = spread(seed), .half = a->half};
#ifdef __AMX_BF16__
  s.tiles = a->half && h % DEEP == 0 && tiles_allowed();
  if (s.tiles) s.columns = ROUND_UP_DEEP(t);
#endif
  return s;
}
static float *scratch_of(const attention *s, int matrices, int transposes, int blocks) {
  size_t bytes = sizeof(float) * (size_t)(matrices * s->t * s->width + transposes * s->h * s->columns +
                                          blocks * ROWS_AT_ONCE * s->columns +
                                          ROWS_AT_ONCE * s->width);
#ifdef __AMX_BF16__
  if (s->tiles) bytes = tile_scratch(s);
#endif
  void *memory = NULL;   // the mask, and then what the heads work in, from a multiple of 64 on
  return posix_memalign(&memory, 64, sizeof(float) * s->columns + bytes) ? NULL : memory;
}
#ifdef __AMX_BF16__
static void begin_heads(const attention *s) { if (s->tiles) tiles_on(); }
static void end_heads(const attention *s) { if (s->tiles) _tile_release(); }
#define IF_TILES(s, yes, no) do { if ((s)->tiles) yes; else no; } while (0)
#else
static void begin_heads(const attention *s) { (void)s; }
static void end_heads(const attention *s) { (void)s; }
#define IF_TILES(s, yes, no) no
#endif

static void compute_attend(void *kernel, TF_OpKernelContext *context) {
  call c = begin(context);
  TF_Tensor *query = take(&c, 0);
  const void *key = input(&c, 1), *value = input(&c, 2), *bias = input(&c, 3);
  attention s = sizes(kernel, query, *(uint64_t *)input(&c, 4));
  void *out = output_like(&c, 0, query);
  float *logs = output(&c, 1, TF_FLOAT, (int64_t[]){s.b, s.n, s.t}, 3);
  float *mask = scratch_of(&s, 3, 1, 1);
  if (!failed(&c, logs, mask)) {
    begin_heads(&s);
    for (int64_t i = 0; i < s.b; i++) {
      take_mask(bias, i, s.t, s.columns, mask);
      for (int64_t head = 0; head < s.n; head++)
        IF_TILES(&s,
          attend_head_tiles(&s, i, head, TF_TensorData(query), key, value, mask, out, logs,
                            (char *)(mask + s.columns)),
          attend_head(&s, i, head, TF_TensorData(query), key, value, mask, out, logs,
                      mask + s.columns));
    }
    end_heads(&s);
  }
  free(mask);
  end(&c);
}

static void compute_attend_grad(void *kernel, TF_OpKernelContext *context) {
  call c = begin(context);
  const void *dcontext = input(&c, 0);
  TF_Tensor *query = take(&c, 1);
  const void *key = input(&c, 2), *value = input(&c, 3), *bias = input(&c, 4);
  attention s = sizes(kernel, query, *(uint64_t *)input(&c, 5));
  const void *out = input(&c, 6);
  const float *logs = input(&c, 7);
  void *dquery = output_over(&c, 0, 0, query), *dkey = output_like(&c, 1, query);
  void *dvalue = output_like(&c, 2, query);
  float *mask = scratch_of(&s, 8, 2, 2);
  if (!failed(&c, dvalue, mask)) {
    begin_heads(&s);
    for (int64_t i = 0; i < s.b; i++) {
      take_mask(bias, i, s.t, s.columns, mask);
      for (int64_t head = 0; head < s.n; head++)
        IF_TILES(&s,
          attend_grad_head_tiles(&s, i, head, dcontext, TF_TensorData(query), key, value, mask, out,
                                 logs, dquery, dkey, dvalue, (char *)(mask + s.columns)),
          attend_grad_head(&s, i, head, dcontext, TF_TensorData(query), key, value, mask, out, logs,
                           dquery, dkey, dvalue, mask + s.columns));
    }
    end_heads(&s);
  }
  free(mask);
  end(&c);
}

typedef struct {
  const char *name, *inputs, *outputs, *attributes;  // names parted by spaces
  void (*compute)(void *, TF_OpKernelContext *);
} operation;

static const operation OPERATIONS[] = {
  {"AdapterBertActivate", "x:T bias:float", "y:T", "form:int", compute_activate},
  {"AdapterBertActivateGrad", "dy:T x:T bias:float", "dx:T", "form:int", compute_activate_grad},
  {"AdapterBertDropout", "x:T bias:float seed:int64", "y:T", "rate:float", compute_dropout},
  {"AdapterBertAddNorm", "x:T residual:T gamma:float beta:float",
   "y:T mean:float inverse:float", "", compute_add_norm},
  {"AdapterBertAddNormGrad",
   "dy:T x:T residual:T gamma:float mean:float inverse:float",
   "dx:T dgamma:float dbeta:float", "", compute_add_norm_grad},
  {"AdapterBertColumnSum", "x:T", "sum:float", "", compute_column_sum},
  {"AdapterBertAttend", "query:T key:T value:T bias:float seed:int64",
   "context:T logs:float", "heads:int rate:float", compute_attend},
  {"AdapterBertAttendGrad",
   "dcontext:T query:T key:T value:T bias:float seed:int64 context:T logs:float",
   "dquery:T dkey:T dvalue:T", "heads:int rate:float", compute_attend_grad},
};

static void infer_nothing(TF_ShapeInferenceContext *context, TF_Status *status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
}

static void each_word(const char *words, TF_OpDefinitionBuilder *builder,
                      void (*add)(TF_OpDefinitionBuilder *, const char *)) {
  char copy[256];
  strncpy(copy, words, sizeof copy - 1);
  copy[sizeof copy - 1] = 0;
  for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) add(builder, word);
}

__attribute__((constructor)) static void register_operations(void) {
  TF_Status *status = TF_NewStatus();
  const TF_DataType types[] = {TF_FLOAT, TF_BFLOAT16};
  for (size_t i = 0; i < sizeof OPERATIONS / sizeof *OPERATIONS; i++) {
    const operation *o = OPERATIONS + i;
    TF_OpDefinitionBuilder *builder = TF_NewOpDefinitionBuilder(o->name);
    TF_OpDefinitionBuilderAddAttr(builder, "T: {float, bfloat16}");
    each_word(o->attributes, builder, TF_OpDefinitionBuilderAddAttr);
    each_word(o->inputs, builder, TF_OpDefinitionBuilderAddInput);
    each_word(o->outputs, builder, TF_OpDefinitionBuilderAddOutput);
    TF_OpDefinitionBuilderSetShapeInferenceFunction(builder, infer_nothing);
    TF_RegisterOpDefinition(builder, status);
    for (int j = 0; j < 2; j++) {
      TF_KernelBuilder *kernel = TF_NewKernelBuilder(o->name, "CPU", create, o->compute, delete);
      TF_KernelBuilder_TypeConstraint(kernel, "T", types[j], status);
      TF_RegisterKernelBuilder(o->name, kernel, status);
    }
  }
  TF_DeleteStatus(status);
}
