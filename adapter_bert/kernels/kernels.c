// What BERT is made of, as TensorFlow kernels for CPU: the parts between its matrix products, and,
// for bfloat16 on CPUs that multiply its pairs (AMX, AVX512-BF16), the products with what follows
// them.
//
// Every kernel reads float32 or bfloat16, computes in float32, and writes the type that it read. A
// kernel runs on one thread: the model is built once for each core (towers in
// network.py), and its copies run side by side. Nothing here is stored for a gradient that
// can be computed again from what the model keeps anyway: a dropout mask comes from a hash of seed
// and place.
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
INLINE vfloat larger(vfloat x, vfloat y) {
#ifdef __AVX512F__
  return (vfloat)_mm512_max_ps((__m512)x, (__m512)y);
#else
  return choose(x > y, x, y);
#endif
}
INLINE float sum_of(vfloat x) {
#ifdef __AVX512F__
  return _mm512_reduce_add_ps((__m512)x);
#else
  for (int width = LANES / 2; width; width /= 2)
    for (int i = 0; i < width; i++) x[i] += x[i + width];
  return x[0];
#endif
}
INLINE float max_of(vfloat x) {
#ifdef __AVX512F__
  return _mm512_reduce_max_ps((__m512)x);
#else
  float most = x[0];
  for (int i = 1; i < LANES; i++) most = x[i] > most ? x[i] : most;
  return most;
#endif
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

INLINE vuint widened(vhalf x) {
#ifdef __AVX512F__
  return (vuint)_mm512_cvtepu16_epi32((__m256i)x);
#else
  return __builtin_convertvector(x, vuint);
#endif
}

// `count` numbers from place i of an array of float32, or of bfloat16 where `half`; the others are 0.
INLINE vfloat load(const void *array, int64_t i, int count, int half) {
  if (half) {
    vhalf x = {};
    memcpy(&x, (const uint16_t *)array + i, count == LANES ? sizeof x : 2 * (size_t)count);
    return (vfloat)(widened(x) << 16);
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

INLINE vfloat nearest_integer(vfloat x) {
#ifdef __AVX512F__
  return (vfloat)_mm512_roundscale_ps((__m512)x, 8);
#else
  const float big = 12582912.0f;  // 1.5 * 2^23
  return (x + big) - big;
#endif
}
INLINE vfloat times_power_of_two(vfloat x, vfloat n) {  // n up to 127
#ifdef __AVX512F__
  return (vfloat)_mm512_scalef_ps((__m512)x, (__m512)n);
#else
  vfloat power = (vfloat)((__builtin_convertvector(n, vint) + 127) << 23);
  return choose(n < -126.0f, (vfloat){}, x * power);
#endif
}

// e^x to 2 units in the last place, to 5e-5 of it where `rough`; 0 below -104, e^88 above 88.
INLINE vfloat exponential(vfloat x, int rough) {
  x = clamp(x, -200.0f, 88.0f);
  vfloat n = nearest_integer(x * 1.44269504f);
  vfloat r = x - n * 0.693359375f + n * 2.12194440e-4f;   // ln 2 in two parts
  vfloat p = all(1.0f / 24);
  if (!rough) p = (p * r * (1.0f / 30) + 1.0f / 120) * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return times_power_of_two(p, n);
}

// The standard normal distribution function to 8e-8 (Abramowitz & Stegun 7.1.26), and e^(-x^2/2).
INLINE vfloat normal_cdf(vfloat x, vfloat *bell) {
  vfloat z = choose(x < 0, -x, x);
  vfloat t = 1.0f / (1.0f + 0.3275911f * 0.70710678f * z);
  *bell = exponential(-0.5f * z * z, 0);
  vfloat p = all(1.061405429f);
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  vfloat tail = 0.5f * p * t * *bell;
  return choose(x < 0, tail, 1.0f - tail);
}

// sigmoid(2u) = (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3), and 2 du/dx.
#define TANH_C 0.7978845608f
#define TANH_A 0.044715f
INLINE vfloat tanh_gate(vfloat x, vfloat *slope) {
  *slope = 2.0f * TANH_C * (1.0f + 3.0f * TANH_A * x * x);
  return 1.0f / (1.0f + exponential(-2.0f * TANH_C * (x + TANH_A * x * x * x), 0));
}

enum activation { LINEAR, GELU_ERF, GELU_TANH, FORMS };

// GELU is x gate(x), and both gate and slope are 1/2 + g(x) with g(-x) = -g(x). For results that are
// rounded to bfloat16, which is 2^-9 wide, g is parabolas on 32 equal parts of 0 <= x < 4.8, to 4e-5.
#define PARTS 32
#define PART (4.8 / PARTS)
static float GATES[FORMS][3][PARTS], SLOPES[FORMS][3][PARTS];

static double exact_gate(double x, int form) {
  return form == GELU_ERF ? 0.5 * erfc(-x * M_SQRT1_2)
                          : 0.5 * (1 + tanh(TANH_C * (x + TANH_A * x * x * x)));
}
static double exact_slope(double x, int form) {
  const double step = 1e-4;
  return ((x + step) * exact_gate(x + step, form) - (x - step) * exact_gate(x - step, form)) /
         (2 * step);
}
static void fit(double (*f)(double, int), int form, float table[3][PARTS]) {
  for (int part = 0; part < PARTS; part++) {   // through the three Chebyshev nodes of the part
    double middle = (part + 0.5) * PART, d = 0.8660254 * PART / 2;
    double low = f(middle - d, form), here = f(middle, form), high = f(middle + d, form);
    double c2 = (high - 2 * here + low) / (2 * d * d), c1 = (high - low) / (2 * d);
    table[0][part] = here - 0.5 - c1 * middle + c2 * middle * middle;
    table[1][part] = c1 - 2 * c2 * middle;
    table[2][part] = c2;
  }
  table[0][PARTS - 1] = 0.5;                   // the last part is also all that lies beyond
  table[1][PARTS - 1] = table[2][PARTS - 1] = 0;
}
__attribute__((constructor)) static void fill_tables(void) {
  for (int form = GELU_ERF; form < FORMS; form++) {
    fit(exact_gate, form, GATES[form]);
    fit(exact_slope, form, SLOPES[form]);
  }
}
INLINE vfloat at(const float *table, vint part) {
#ifdef __AVX512F__
  return (vfloat)_mm512_permutex2var_ps(_mm512_loadu_ps(table), (__m512i)part,
                                        _mm512_loadu_ps(table + LANES));
#else
  vfloat y;
  for (int i = 0; i < LANES; i++) y[i] = table[part[i] & (PARTS - 1)];
  return y;
#endif
}
INLINE vfloat from_table(const float table[3][PARTS], vfloat x) {
  const vint sign = (vint)all(-0.0f);
  vfloat a = clamp((vfloat)((vint)x & ~sign), 0, 4.79f);
  vint part = __builtin_convertvector(a * (float)(1 / PART), vint);
  vfloat g = (at(table[2], part) * a + at(table[1], part)) * a + at(table[0], part);
  return 0.5f + (vfloat)((vint)g | ((vint)x & sign));
}

// Beyond 12 both forms of GELU are x or 0, and the squares and cubes in them could overflow.
INLINE vfloat activated(vfloat x, int form, int half) {
  if (form == LINEAR) return x;
  if (half) return x * from_table(GATES[form], x);
  vfloat unused, inner = clamp(x, -12.0f, 12.0f);
  vfloat gate = form == GELU_ERF ? normal_cdf(inner, &unused) : tanh_gate(inner, &unused);
  return choose(x < -12.0f, (vfloat){}, x * gate);
}
INLINE vfloat gelu_slope(vfloat x, int form, int half) {
  if (half) return from_table(SLOPES[form], x);
  vfloat extra, gate, inner = clamp(x, -12.0f, 12.0f);
  if (form == GELU_ERF) {
    gate = normal_cdf(inner, &extra);
    return gate + inner * extra * 0.3989422804f;
  }
  gate = tanh_gate(inner, &extra);
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

// 32 random numbers of 16 bits, two in each lane, for the place `index` in units of 32 numbers: a
// hash of seed and place (the mixing steps of MurmurHash3, by Austin Appleby).
INLINE vuint random_bits(uint64_t seed, uint64_t index) {
  const vuint lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  vuint x = (lane + (uint32_t)(index * LANES) + (uint32_t)seed) * ((uint32_t)(seed >> 32) | 1);
  x = (x ^ (x >> 16)) * 0x85ebca6bu;
  x = (x ^ (x >> 13)) * 0xc2b2ae35u;
  return x ^ (x >> 16);
}
typedef struct {
  uint64_t seed;
  uint32_t threshold;   // of 2^16; numbers below are dropped
  float up;
} dropping;
static dropping dropping_at(float rate, uint64_t seed) {
  return (dropping){spread(seed), (uint32_t)lrintf(rate * 65536.0f), 1.0f / (1.0f - rate)};
}
// x / (1 - rate) or 0, for the numbers from i on of a row, i a multiple of 16.
INLINE vfloat drop(vfloat x, vuint bits, int64_t i, dropping d) {
  return choose((vint)((bits >> (int)(i & LANES) & 0xffff) >= d.threshold), x * d.up, (vfloat){});
}
// The place of a row of w numbers.
#define PLACES(w) (((w) + 2 * LANES - 1) / (2 * LANES))

// ---- element-wise kernels: x and y of R rows, a bias [W] that is added to each row --------------

INLINE void activate(const void *x, const float *bias, void *y, int64_t rows, int64_t w, int form,
                     int half) {
  for (int64_t r = 0; r < rows; r++)
    FOR_LANES(w, {
      vfloat sum = load(x, r * w + i, count, half) + load(bias, i, count, 0);
      store(y, r * w + i, activated(sum, form, half), count, half);
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
                    dropping d, int half) {
  vuint bits = {};
  for (int64_t r = 0; r < rows; r++)
    FOR_LANES(w, {
      if (!(i & LANES)) bits = random_bits(d.seed, r * PLACES(w) + i / (2 * LANES));
      vfloat sum = load(x, r * w + i, count, half);
      if (bias) sum += load(bias, i, count, 0);
      store(y, r * w + i, drop(sum, bits, i, d), count, half);
    });
}

// sum = x + y, arrays of n numbers; sum may be one of them.
INLINE void add(const void *x, const void *y, void *sum, int64_t n, int half) {
  FOR_LANES(n, { store(sum, i, load(x, i, count, half) + load(y, i, count, half), count, half); });
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
  float scale;
  int half, tiles, drops;
  dropping d;
} attention;

typedef struct {  // of one row of scores: the largest, and 1 / (sum of e^(score - largest))
  float most, inverse;
} norm;

// e^(s - most) of one row of scores s = score * scale + mask, in place.
INLINE norm exponentials(float *scores, float scale, const float *mask, int64_t columns, int rough) {
  vfloat most = all(-INFINITY), sum = {};
  for (int64_t i = 0; i < columns; i += LANES) {
    vfloat s = load(scores, i, LANES, 0) * scale + load(mask, i, LANES, 0);
    store(scores, i, s, LANES, 0);
    most = larger(s, most);
  }
  float top = max_of(most);
  for (int64_t i = 0; i < columns; i += LANES) {
    vfloat e = exponential(load(scores, i, LANES, 0) - top, rough);
    store(scores, i, e, LANES, 0);
    sum += e;
  }
  return (norm){top, 1.0f / sum_of(sum)};
}

INLINE int64_t place(const attention *s, int64_t batch, int64_t head, int64_t row) {
  return ((batch * s->n + head) * s->t + row) * PLACES(s->t);
}

// The attention weights of one row as they are used, from its exponentials.
INLINE void weights(const attention *s, const float *row, float inverse, int64_t first, void *out,
                    int half) {
  vuint bits = {};
  for (int64_t j = 0; j < s->columns; j += LANES) {
    vfloat weight = load(row, j, LANES, 0) * inverse;
    if (s->drops) {
      if (!(j & LANES)) bits = random_bits(s->d.seed, first + j / (2 * LANES));
      weight = drop(weight, bits, j, s->d);
    }
    store(out, j, weight, LANES, half);
  }
}

// Gradients of 16 scores of a row: the weights as they were used, and the scores' gradient.
INLINE void score_slopes(const attention *s, const float *scores, const float *slopes,
                         const float *mask, float scale, norm n, float along, vuint bits,
                         int64_t j, int rough, vfloat *used, vfloat *slope) {
  vfloat score = load(scores, j, LANES, 0) * scale + load(mask, j, LANES, 0);
  vfloat e = exponential(score - n.most, rough) * n.inverse;
  *slope = load(slopes, j, LANES, 0), *used = e;
  if (s->drops) {
    *used = drop(e, bits, j, s->d);
    *slope = drop(*slope, bits, j, s->d);
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
                        norm *norms, float *scratch) {
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
      norm n = exponentials(row, 1, mask, s->columns, s->half);
      norms[(batch * s->n + head) * t + first + i] = n;
      weights(s, row, n.inverse, place(s, batch, head, first + i), row, 0);
    }
    product(scores, s->columns, 1, v, width, out, width, rows, width, t, 0);
    give_head(out, width, 1, context, start + first * d, d, rows, s->h, s->half);
  }
}

static void attend_grad_head(const attention *s, int64_t batch, int64_t head, const void *dcontext,
                             const void *query, const void *key, const void *value,
                             const float *mask, const void *context, const norm *norms,
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
      norm n = norms[(batch * s->n + head) * t + first + i];
      float along = dot(douts + i * width, out + (first + i) * width, width, 0);
      int64_t index = place(s, batch, head, first + i);
      vuint bits = {};
      for (int64_t j = 0; j < columns; j += LANES) {
        vfloat used, slope;   // the queries carry the scale
        if (s->drops && !(j & LANES)) bits = random_bits(s->d.seed, index + j / (2 * LANES));
        score_slopes(s, pr, dr, mask, 1, n, along, bits, j, s->half, &used, &slope);
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

#ifdef __AVX512BF16__
// ---- attention on tiles -------------------------------------------------------------------------
//
// The same with the CPU's products of pairs, for bfloat16 and H a multiple of 32. A product of tiles
// takes 16 rows of 32 numbers, and 16 rows of 16 pairs: (B[2k, n], B[2k + 1, n]). So a factor lies
// as rows ("left") or as pairs ("right"). What is summed over is padded with zeros to a multiple of 32,
// the rest to one of 16. Sums are float32. A call's scratch is zero at its start, and the padding of
// its buffers is never written. C[16, n] and C[m, 16] are not `tall`, not `wide`. In vectors less of the
// padding is computed: 8 rows and a pair at a time.

#define TILE 16
#define DEEP 32
#define ROUND_UP_DEEP(n) (((n) + DEEP - 1) / DEEP * DEEP)

#ifdef __AMX_BF16__   // the CPU has tile registers
static int tiles_allowed(void) {  // Linux gives a process the tile registers when it asks
  static int allowed = -1;
  if (allowed < 0) allowed = syscall(SYS_arch_prctl, 0x1023, 18) == 0;
  return allowed;
}
static void tiles_on(void) {  // eight tiles of 16 rows of 64 bytes
  struct { uint8_t palette, start, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; } config = {
      .palette = 1};
  for (int i = 0; i < 8; i++) config.bytes[i] = 64, config.rows[i] = TILE;
  _tile_loadconfig(&config);
}

static void tiles_off(void) { _tile_release(); }

// Tiles 0 to 3 are C[32, 32]; of C[16, n] the lower two are not used, of C[m, 16] the right two.
INLINE void tiles_zero(const int tall, const int wide) {
  _tile_zero(0);
  if (wide) _tile_zero(1);
  if (tall) _tile_zero(2);
  if (tall && wide) _tile_zero(3);
}
INLINE void tiles_load(const float *c, int64_t ldc, const int tall, const int wide) {
  _tile_loadd(0, c, 4 * ldc);
  if (wide) _tile_loadd(1, c + TILE, 4 * ldc);
  if (tall) _tile_loadd(2, c + TILE * ldc, 4 * ldc);
  if (tall && wide) _tile_loadd(3, c + TILE * ldc + TILE, 4 * ldc);
}
INLINE void tiles_store(float *c, int64_t ldc, const int tall, const int wide) {
  _tile_stored(0, c, 4 * ldc);
  if (wide) _tile_stored(1, c + TILE, 4 * ldc);
  if (tall) _tile_stored(2, c + TILE * ldc, 4 * ldc);
  if (tall && wide) _tile_stored(3, c + TILE * ldc + TILE, 4 * ldc);
}
// C[m, n] += left[m, 32] right[32, n]; `right` has ldr pairs a row.
INLINE void tile_step(const uint16_t *left, int64_t ldl, const uint32_t *right, int64_t ldr,
                      const int tall, const int wide) {
  _tile_loadd(4, left, 2 * ldl);
  _tile_loadd(6, right, 4 * ldr);
  if (wide) _tile_loadd(7, right + TILE, 4 * ldr);
  if (tall) _tile_loadd(5, left + TILE * ldl, 2 * ldl);
  _tile_dpbf16ps(0, 4, 6);
  if (wide) _tile_dpbf16ps(1, 4, 7);
  if (tall) _tile_dpbf16ps(2, 5, 6);
  if (tall && wide) _tile_dpbf16ps(3, 5, 7);
}
#define SUMMED(n) ROUND_UP_DEEP(n)   // of a sum of n terms, those that a product takes
INLINE void tiles_block(const uint16_t *left, int64_t ldl, const uint32_t *right, int64_t ldr, float *c,
                        int64_t ldc, int64_t k, int add, const int tall, const int wide) {
  if (add) tiles_load(c, ldc, tall, wide); else tiles_zero(tall, wide);
  for (int64_t p = 0; p < k; p += DEEP) tile_step(left + p, ldl, right + p / 2 * ldr, ldr, tall, wide);
  tiles_store(c, ldc, tall, wide);
}
INLINE void tile_block(const uint16_t *left, int64_t ldl, const uint32_t *right, int64_t ldr, float *c,
                       int64_t ldc, int64_t m, int64_t k, int add, const int wide) {
  if (m > TILE) tiles_block(left, ldl, right, ldr, c, ldc, k, add, 1, wide);
  else tiles_block(left, ldl, right, ldr, c, ldc, k, add, 0, wide);
}
#else   // tiles lie in memory, 8 rows of two at a time in vectors
static int tiles_allowed(void) { return 1; }
static void tiles_on(void) {}
static void tiles_off(void) {}

#define SUMMED(n) (((n) + 1) / 2 * 2)
#define ROWS_OF_VECTORS 8
// C[8, 16 * vectors] (+)= left[8, k] right[k, 16 * vectors].
INLINE void vector_block(const uint16_t *left, int64_t ldl, const uint32_t *right, int64_t ldr,
                         float *c, int64_t ldc, int64_t k, int add, const int vectors) {
  __m512 sum[ROWS_OF_VECTORS][2];
#pragma GCC unroll 8
  for (int i = 0; i < ROWS_OF_VECTORS; i++)
    for (int j = 0; j < vectors; j++)
      sum[i][j] = add ? _mm512_loadu_ps(c + i * ldc + j * LANES) : _mm512_setzero_ps();
  for (int64_t p = 0; p < k / 2; p++, right += ldr) {
    __m512bh pairs[2];
    for (int j = 0; j < vectors; j++) pairs[j] = (__m512bh)_mm512_loadu_si512(right + j * LANES);
#pragma GCC unroll 8
    for (int i = 0; i < ROWS_OF_VECTORS; i++) {
      int32_t pair;
      memcpy(&pair, left + i * ldl + 2 * p, sizeof pair);
      __m512bh pairs_left = (__m512bh)_mm512_set1_epi32(pair);
      for (int j = 0; j < vectors; j++)
        sum[i][j] = _mm512_dpbf16_ps(sum[i][j], pairs_left, pairs[j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < ROWS_OF_VECTORS; i++)
    for (int j = 0; j < vectors; j++) _mm512_storeu_ps(c + i * ldc + j * LANES, sum[i][j]);
}
INLINE void tile_block(const uint16_t *left, int64_t ldl, const uint32_t *right, int64_t ldr, float *c,
                       int64_t ldc, int64_t m, int64_t k, int add, const int wide) {
  for (int64_t i = 0; i < m && i < 2 * TILE; i += ROWS_OF_VECTORS)
    vector_block(left + i * ldl, ldl, right, ldr, c + i * ldc, ldc, k, add, wide ? 2 : 1);
}
#endif

// C[m, n] (+)= left[m, k] right[k, n], the first 32 rows: n is a multiple of 16, k is SUMMED. 8, 16 or 32
// rows at a time are made, for which left and c have room.
static void tile_product(const uint16_t *left, int64_t ldl, const uint32_t *right, int64_t ldr,
                         float *c, int64_t ldc, int64_t m, int64_t n, int64_t k, int add) {
  for (int64_t j = 0; j < n; j += 2 * TILE) {
    if (n - j > TILE) tile_block(left, ldl, right + j, ldr, c + j, ldc, m, k, add, 1);
    else tile_block(left, ldl, right + j, ldr, c + j, ldc, m, k, add, 0);
  }
}

// One head's rows of [T, D] as [T, H].
static void take_rows(const uint16_t *x, int64_t stride, int64_t t, int64_t h, uint16_t *rows) {
  for (int64_t i = 0; i < t; i++)
    for (int64_t j = 0; j < h; j += DEEP) memcpy(rows + i * h + j, x + i * stride + j, 2 * DEEP);
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
INLINE void pair_rows(const uint16_t *even, const uint16_t *odd, uint32_t *pairs) {  // 16 numbers
  vhalf low, high;
  memcpy(&low, even, sizeof low);
  memcpy(&high, odd, sizeof high);
  vuint both = widened(low) | widened(high) << 16;
  memcpy(pairs, &both, sizeof both);
}
static void paired(const uint16_t *rows, int64_t size, int64_t h, uint32_t *pairs) {
  for (int64_t i = 0; i < size; i += 2)
    for (int64_t j = 0; j < h; j += LANES)
      pair_rows(rows + i * h + j, rows + (i + 1) * h + j, pairs + i / 2 * h + j);
}
INLINE void store_pair(uint32_t *pairs, int64_t i, vfloat even, vfloat odd) {
  vuint both = widened(to_bfloat16(even)) | widened(to_bfloat16(odd)) << 16;
  memcpy(pairs + i, &both, sizeof both);
}

static void attend_head_tiles(const attention *s, int64_t batch, int64_t head, const uint16_t *query,
                              const uint16_t *key, const uint16_t *value, const float *mask,
                              uint16_t *context, norm *norms, char *scratch) {
  int64_t t = s->t, h = s->h, d = s->n * h, start = batch * t * d + head * h;
  int64_t columns = s->columns, size = ROUND_UP_DEEP(t);
  uint16_t *q = (uint16_t *)scratch, *kv = q + size * h, *p = kv + size * h;
  uint32_t *kt = (uint32_t *)(p + DEEP * size), *vp = kt + size * h / 2;
  float *scores = (float *)(vp + size * h / 2), *out = scores + DEEP * size;
  take_rows(query + start, d, t, h, q);
  take_rows(key + start, d, t, h, kv);
  transpose_tiles((uint32_t *)kv, columns, h / 2, kt);
  take_rows(value + start, d, t, h, kv);
  paired(kv, columns, h, vp);
  for (int64_t first = 0; first < t; first += DEEP) {
    int64_t rows = t - first < DEEP ? t - first : DEEP;
    tile_product(q + first * h, h, kt, columns, scores, columns, rows, columns, h, 0);
    for (int64_t i = 0; i < rows; i++) {
      float *row = scores + i * columns;
      norm n = exponentials(row, s->scale, mask, columns, 1);
      norms[(batch * s->n + head) * t + first + i] = n;
      weights(s, row, n.inverse, place(s, batch, head, first + i), p + i * size, 1);
    }
    tile_product(p, size, vp, h, out, h, rows, h, SUMMED(t), 0);
    give_head(out, h, 1, context, start + first * d, d, rows, h, 1);
  }
}

// c[n, h] (+)= left[rows, n]^T right[rows, h], both as pairs of rows with their padding: 32 rows, and
// columns of left. `turned` is room for its transpose.
static void turned_product(const uint32_t *left, int64_t rows, int64_t n, const uint32_t *right,
                           int64_t h, uint32_t *turned, float *c, int add) {
  transpose_tiles(left, DEEP / 2, ROUND_UP(n), turned);
  for (int64_t i = 0; i < n; i += DEEP)
    tile_product((uint16_t *)turned + i * DEEP, DEEP, right, h, c + i * h, h, n - i, h, SUMMED(rows),
                 add);
}

static void attend_grad_head_tiles(const attention *s, int64_t batch, int64_t head,
                                   const uint16_t *dcontext, const uint16_t *query,
                                   const uint16_t *key, const uint16_t *value, const float *mask,
                                   const uint16_t *context, const norm *norms, uint16_t *dquery,
                                   uint16_t *dkey, uint16_t *dvalue, char *scratch) {
  int64_t t = s->t, h = s->h, d = s->n * h, start = batch * t * d + head * h;
  int64_t columns = s->columns, size = ROUND_UP_DEEP(t), full = size * h, block = DEEP * size;
  uint16_t *q = (uint16_t *)scratch, *dout = q + full, *kv = dout + full, *ds = kv + full;
  uint32_t *kt = (uint32_t *)(ds + block), *kp = kt + full / 2, *vt = kp + full / 2;
  uint32_t *pp = vt + full / 2, *dsp = pp + block / 2, *turned = dsp + block / 2;
  uint32_t *pairs = turned + block / 2;
  float *scores = (float *)(pairs + DEEP * h / 2), *slopes = scores + block, *dq = slopes + block;
  float *dk = dq + DEEP * h, *dv = dk + full;
  take_rows(query + start, d, t, h, q);
  take_rows(dcontext + start, d, t, h, dout);
  take_rows(key + start, d, t, h, kv);
  transpose_tiles((uint32_t *)kv, columns, h / 2, kt);
  paired(kv, columns, h, kp);
  take_rows(value + start, d, t, h, kv);
  transpose_tiles((uint32_t *)kv, columns, h / 2, vt);
  for (int64_t first = 0; first < t; first += DEEP) {
    int64_t rows = t - first < DEEP ? t - first : DEEP;
    tile_product(q + first * h, h, kt, columns, scores, columns, rows, columns, h, 0);
    tile_product(dout + first * h, h, vt, columns, slopes, columns, rows, columns, h, 0);
    if (first && rows < DEEP) {   // the rows beyond are those of the block before
      memset(ds, 0, 2 * (size_t)block);
      memset(pp, 0, 2 * (size_t)block);
      memset(dsp, 0, 2 * (size_t)block);
    }
    for (int64_t i = 0; i < rows; i += 2) {
      int pair = i + 1 < rows;
      norm n[2] = {{0}};
      float along[2] = {0};
      vuint bits[2] = {};
      int64_t index = place(s, batch, head, first + i);
      for (int o = 0; o <= pair; o++) {
        n[o] = norms[(batch * s->n + head) * t + first + i + o];
        along[o] = dot(dout + (first + i + o) * h, context + start + (first + i + o) * d, h, 1);
      }
      for (int64_t j = 0; j < columns; j += LANES) {
        vfloat used[2] = {}, slope[2] = {};
        for (int o = 0; o <= pair; o++) {
          if (s->drops && !(j & LANES))
            bits[o] = random_bits(s->d.seed, index + o * PLACES(t) + j / (2 * LANES));
          score_slopes(s, scores + (i + o) * columns, slopes + (i + o) * columns, mask, s->scale,
                       n[o], along[o], bits[o], j, 1, used + o, slope + o);
          store(ds + (i + o) * size, j, slope[o], LANES, 1);
        }
        store_pair(pp + i / 2 * columns, j, used[0], used[1]);
        store_pair(dsp + i / 2 * columns, j, slope[0], slope[1]);
      }
    }
    tile_product(ds, size, kp, h, dq, h, rows, h, SUMMED(t), 0);
    give_head(dq, h, s->scale, dquery, start + first * d, d, rows, h, 1);
    paired(dout + first * h, DEEP, h, pairs);
    turned_product(pp, rows, t, pairs, h, turned, dv, first > 0);
    paired(q + first * h, DEEP, h, pairs);
    turned_product(dsp, rows, t, pairs, h, turned, dk, first > 0);
  }
  give_head(dk, h, s->scale, dkey, start, d, t, h, 1);
  give_head(dv, h, 1, dvalue, start, d, t, h, 1);
}

// Bytes of scratch: each buffer of attend_grad_head_tiles, which needs the most.
static size_t tile_scratch(const attention *s) {
  size_t size = ROUND_UP_DEEP(s->t), h = s->h;
  return size * h * (3 * 2 + 3 * 2 + 2 * 4) + DEEP * size * (2 + 3 * 2 + 2 * 4) +
         DEEP * h * (2 + 4);
}

// ---- products with weights, on tiles ------------------------------------------------------------
//
// y = drop(f(x W + b)) + residual. W [I, O] lies packed in the order in which it is read: panels of
// 32 columns, each [I / 2, 32] pairs of rows. I and O are multiples of 32.

// Here some rows of it, `packed` being the place of the first in panels of `in` rows.
static void pack(const uint16_t *w, int64_t rows, int64_t out, int64_t in, uint32_t *packed) {
  for (int64_t j = 0; j < out; j += DEEP, packed += in / 2 * DEEP)
    for (int64_t i = 0; i < rows; i += 2)
      for (int64_t k = 0; k < DEEP; k += LANES)
        pair_rows(w + i * out + j + k, w + (i + 1) * out + j + k, packed + i / 2 * DEEP + k);
}
// The same for the transpose of w [O, I].
static void pack_turned(const uint16_t *w, int64_t in, int64_t out, uint32_t *packed) {
  for (int64_t j = 0; j < out; j += DEEP)
    for (int64_t i = 0; i < in; i += DEEP, packed += DEEP * DEEP / 2)
      for (int64_t k = 0; k < DEEP; k += TILE)
        transpose_tile((const uint32_t *)(w + (j + k) * in + i), in / 2, packed + k, DEEP);
}

#define PANEL_BYTES (5 << 18)  // of W at a time: what stays in a second-level cache beside the rest

typedef struct {
  int64_t rows, in, out;
  const float *bias;   // NULL for none
  int drops;
  dropping d;
  const uint16_t *residual;   // NULL for none
  uint16_t *y, *before;   // y, and x W where it is kept
} finish;

typedef struct {  // 32 x 32 sums, and their place in y
  float sums[DEEP * DEEP] __attribute__((aligned(64)));
  int64_t i, j, rows;
} block;

// From the sums of some rows of a block to y.
INLINE void finish_rows(const finish *f, const block *b, int64_t from, int64_t to, int form) {
  for (int64_t row = from; row < to && row < b->rows; row++) {
    vuint bits = {};
    if (f->drops) bits = random_bits(f->d.seed, (b->i + row) * PLACES(f->out) + b->j / DEEP);
    for (int64_t k = 0; k < DEEP; k += LANES) {
      int64_t place = (b->i + row) * f->out + b->j + k;
      vfloat y = load(b->sums, row * DEEP + k, LANES, 0);
      if (f->before) store(f->before, place, y, LANES, 1);
      if (f->bias) y += load(f->bias, b->j + k, LANES, 0);
      y = activated(y, form, 1);
      if (f->drops) y = drop(y, bits, k, f->d);
      if (f->residual) y += load(f->residual, place, LANES, 1);
      store(f->y, place, y, LANES, 1);
    }
  }
}

// The sums of a block, and the one before is finished. A step on tile registers takes 64 cycles, in
// which the CPU's other units would wait: there they do it.
#ifdef __AMX_BF16__
INLINE void multiply_tiles(const finish *f, const uint16_t *left, const uint32_t *panel, block *b,
                           const block *before, int form, const int tall) {
  int64_t steps = f->in / DEEP, rows = (DEEP + steps - 1) / steps;
  tiles_zero(tall, 1);
  for (int64_t p = 0; p < steps; p++) {
    tile_step(left + p * DEEP, f->in, panel + p * DEEP * DEEP / 2, DEEP, tall, 1);
    finish_rows(f, before, p * rows, (p + 1) * rows, form);
  }
  tiles_store(b->sums, DEEP, tall, 1);
}
#endif
INLINE void multiply_block(const finish *f, const uint16_t *left, const uint32_t *panel, block *b,
                           const block *before, int form) {
#ifdef __AMX_BF16__
  if (b->rows > TILE) multiply_tiles(f, left, panel, b, before, form, 1);
  else multiply_tiles(f, left, panel, b, before, form, 0);
#else
  tile_block(left, f->in, panel, DEEP, b->sums, DEEP, b->rows, f->in, 0, 1);
  finish_rows(f, before, 0, DEEP, form);
#endif
}

// The first `whole` rows of x, of its `rows`, with zeros beyond; `tail` is room for them.
static const uint16_t *whole_rows(const uint16_t *x, int64_t rows, int64_t whole, int64_t width,
                                  uint16_t *tail) {
  if (rows >= whole) return x;
  memcpy(tail, x, 2 * (size_t)(rows * width));
  memset(tail + rows * width, 0, 2 * (size_t)((whole - rows) * width));
  return tail;
}

// `tail` is room for 32 rows of x.
INLINE void linear(const finish *f, const uint16_t *x, const uint32_t *packed, uint16_t *tail,
                   int form) {
  block blocks[2];
  int64_t panel = f->in / 2 * DEEP, width = PANEL_BYTES / (4 * panel) * DEEP;
  int now = 0;
  blocks[1].rows = 0;
  if (width < DEEP) width = DEEP;
  for (int64_t first = 0; first < f->out; first += width)
    for (int64_t i = 0; i < f->rows; i += DEEP) {
      int64_t rows = f->rows - i < DEEP ? f->rows - i : DEEP;
      const uint16_t *left = whole_rows(x + i * f->in, rows, ROUND_UP(rows), f->in, tail);
      for (int64_t j = first; j < f->out && j < first + width; j += DEEP, now = !now) {
        block *b = blocks + now;
        b->i = i, b->j = j, b->rows = rows;
        multiply_block(f, left, packed + j / DEEP * panel, b, blocks + !now, form);
      }
    }
  finish_rows(f, blocks + !now, 0, DEEP, form);
}

// The factors of dW[in, out] = x^T dy in the places of x and W above: x turned, [in, deep], and dy
// packed. Their rows are filled up with zeros to `deep`, a multiple of 32; `tail` and `pairs` are room
// for 32 of them.
static void turn_rows(const uint16_t *x, int64_t rows, int64_t in, int64_t deep, uint16_t *tail,
                      uint32_t *pairs, uint32_t *turned) {
  for (int64_t i = 0; i < deep; i += DEEP) {
    paired(whole_rows(x + i * in, rows - i, DEEP, in, tail), DEEP, in, pairs);
    for (int64_t j = 0; j < in; j += TILE)
      transpose_tile(pairs + j, in, turned + (j * deep + i) / 2, deep / 2);
  }
}
static void pack_rows(const uint16_t *dy, int64_t rows, int64_t out, int64_t deep, uint16_t *tail,
                      uint32_t *packed) {
  for (int64_t i = 0; i < deep; i += DEEP)
    pack(whole_rows(dy + i * out, rows - i, DEEP, out, tail), DEEP, out, deep, packed + i / 2 * DEEP);
}
#endif

int adapter_bert_has_tiles(void) {
#ifdef __AVX512BF16__
  return tiles_allowed();
#else
  return 0;
#endif
}

// The mask of one row of the batch: [T] and -infinity beyond.
static void take_mask(const float *bias, int64_t batch, int64_t t, int64_t columns, float *mask) {
  for (int64_t i = 0; i < columns; i++) mask[i] = i < t ? bias[batch * t + i] : -INFINITY;
}

// ---- TensorFlow's side --------------------------------------------------------------------------

typedef struct {
  int half, form, heads, turned, keep;
  float rate;
} attributes;

static int number(TF_OpKernelConstruction *context, const char *name, TF_Status *status) {
  int32_t value = 0;
  if (TF_OpKernelConstruction_HasAttr(context, name, status))
    TF_OpKernelConstruction_GetAttrInt32(context, name, &value, status);
  return value;
}
static void *create(TF_OpKernelConstruction *context) {
  attributes *a = calloc(1, sizeof *a);
  TF_Status *status = TF_NewStatus();
  TF_DataType type = TF_FLOAT;
  TF_OpKernelConstruction_GetAttrType(context, "T", &type, status);
  a->half = type == TF_BFLOAT16;
  a->form = number(context, "form", status);
  a->heads = number(context, "heads", status);
  a->turned = number(context, "turned", status);
  a->keep = number(context, "keep", status);
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
    const void *data = TF_TensorData(x);
    if (a->form == LINEAR) activate(data, bias, y, m.rows, m.width, LINEAR, half);
    else if (a->form == GELU_ERF) activate(data, bias, y, m.rows, m.width, GELU_ERF, half);
    else activate(data, bias, y, m.rows, m.width, GELU_TANH, half);
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
  dropping d = dropping_at(a->rate, *(uint64_t *)input(&c, 2));
  void *y = output_over(&c, 0, 0, x);
  rows_of m = matrix(x);
  const float *added = TF_TensorElementCount(bias) ? TF_TensorData(bias) : NULL;
  if (!failed(&c, y, y))
    FOR_TYPE(a, { dropout(TF_TensorData(x), added, y, m.rows, m.width, d, half); })
  end(&c);
}

static void compute_add_norm(void *kernel, TF_OpKernelContext *context) {
  const attributes *a = kernel;
  call c = begin(context);
  TF_Tensor *x = take(&c, 0);
  const void *residual = input(&c, 1);
  const float *gamma = input(&c, 2), *beta = input(&c, 3);
  int64_t w = matrix(x).width, rows = matrix(x).rows;
  int64_t sets = TF_TensorElementCount(c.tensors[2]) / (w ? w : 1);   // 1, or one a row of a batch
  int64_t each = sets ? rows / sets : rows;
  void *y = output_over(&c, 0, 0, x);
  float *means = output(&c, 1, TF_FLOAT, &rows, 1), *inverses = output(&c, 2, TF_FLOAT, &rows, 1);
  float *sum = malloc(sizeof(float) * ROUND_UP(w));
  if (!failed(&c, sum, inverses)) FOR_TYPE(a, {
    for (int64_t r = 0; r < rows; r++) {
      int64_t set = r / each * w;
      add_norm_row(TF_TensorData(x), residual, gamma + set, beta + set, y, means + r, inverses + r,
                   sum, r * w, w, half);
    }
  })
  free(sum);
  end(&c);
}

// TensorFlow's AddN, which sums bfloat16 number by number.
static void compute_add_n(void *kernel, TF_OpKernelContext *context) {
  call c = begin(context);
  TF_Tensor *first = take(&c, 0);
  int64_t n = TF_TensorElementCount(first);
  void *sum = output_over(&c, 0, 0, first);
  const void *so_far = TF_TensorData(first);
  failed(&c, sum, sum);
  for (int i = 1; i < TF_NumInputs(context) && TF_GetCode(c.status) == TF_OK; i++) {
    TF_Tensor *next = NULL;
    TF_GetInput(context, i, &next, c.status);
    if (TF_TensorElementCount(next) == n) add(so_far, TF_TensorData(next), sum, n, 1);
    else TF_SetStatus(c.status, TF_INVALID_ARGUMENT, "inputs of AddN must have the same size");
    so_far = sum;
    TF_DeleteTensor(next);
  }
  if (so_far != sum && TF_GetCode(c.status) == TF_OK) memcpy(sum, so_far, 2 * (size_t)n);
  end(&c);
}

// Rows of a stack in place, from memory of this process that the caller holds.
static void compute_fill(void *kernel, TF_OpKernelContext *context) {
  (void)kernel;
  call c = begin(context);
  TF_Tensor *stack = take(&c, 0), *slots = take(&c, 1);
  const int64_t *addresses = input(&c, 2);
  int64_t rows = TF_Dim(stack, 0), count = TF_TensorElementCount(slots);
  size_t bytes = rows ? TF_TensorByteSize(stack) / (size_t)rows : 0;
  int32_t *filled = output(&c, 0, TF_INT32, &count, 1);
  if (!failed(&c, filled, filled))
    for (int64_t i = 0; i < count; i++) {
      int32_t slot = filled[i] = ((const int32_t *)TF_TensorData(slots))[i];
      if (slot >= 0 && slot < rows)
        memcpy((char *)TF_TensorData(stack) + (size_t)slot * bytes,
               (const void *)(uintptr_t)addresses[i], bytes);
      else
        TF_SetStatus(c.status, TF_OUT_OF_RANGE, "no such slot");
    }
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
                 .width = ROUND_UP(h), .scale = 1.0f / sqrtf((float)h), .half = a->half,
                 .drops = a->rate > 0, .d = dropping_at(a->rate, seed)};
#ifdef __AVX512BF16__
  s.tiles = a->half && h % DEEP == 0 && tiles_allowed();
#endif
  return s;
}
static float *scratch_of(const attention *s, int matrices, int transposes, int blocks) {
  size_t bytes = sizeof(float) * (size_t)(matrices * s->t * s->width + transposes * s->h * s->columns +
                                          blocks * ROWS_AT_ONCE * s->columns +
                                          ROWS_AT_ONCE * s->width);
#ifdef __AVX512BF16__
  if (s->tiles) bytes = tile_scratch(s);
#endif
  void *memory = NULL;   // the mask, and then what the heads work in, from a multiple of 64 on
  bytes += sizeof(float) * s->columns;
  return posix_memalign(&memory, 64, bytes) ? NULL : memset(memory, 0, bytes);
}
#ifdef __AVX512BF16__
static void begin_heads(const attention *s) { if (s->tiles) tiles_on(); }
static void end_heads(const attention *s) { if (s->tiles) tiles_off(); }
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
  norm *norms = output(&c, 1, TF_FLOAT, (int64_t[]){s.b, s.n, s.t, 2}, 4);
  float *mask = scratch_of(&s, 3, 1, 1);
  if (!failed(&c, norms, mask)) {
    begin_heads(&s);
    for (int64_t i = 0; i < s.b; i++) {
      take_mask(bias, i, s.t, s.columns, mask);
      for (int64_t head = 0; head < s.n; head++)
        IF_TILES(&s,
          attend_head_tiles(&s, i, head, TF_TensorData(query), key, value, mask, out, norms,
                            (char *)(mask + s.columns)),
          attend_head(&s, i, head, TF_TensorData(query), key, value, mask, out, norms,
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
  const norm *norms = input(&c, 7);
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
                                 norms, dquery, dkey, dvalue, (char *)(mask + s.columns)),
          attend_grad_head(&s, i, head, dcontext, TF_TensorData(query), key, value, mask, out, norms,
                           dquery, dkey, dvalue, mask + s.columns));
    }
    end_heads(&s);
  }
  free(mask);
  end(&c);
}

#ifdef __AVX512BF16__
static void compute_pack(void *kernel, TF_OpKernelContext *context) {
  const attributes *a = kernel;
  call c = begin(context);
  TF_Tensor *w = take(&c, 0);
  int64_t in = TF_Dim(w, a->turned), out = TF_Dim(w, !a->turned);
  uint32_t *packed = output(&c, 0, TF_BFLOAT16, (int64_t[]){in, out}, 2);
  if (!failed(&c, packed, packed)) {
    if (a->turned) pack_turned(TF_TensorData(w), in, out, packed);
    else pack(TF_TensorData(w), in, out, in, packed);
  }
  end(&c);
}

static void linear_of_form(const finish *f, const uint16_t *x, const uint32_t *packed,
                           uint16_t *tail, int form) {
  if (form == GELU_ERF) linear(f, x, packed, tail, GELU_ERF);
  else if (form == GELU_TANH) linear(f, x, packed, tail, GELU_TANH);
  else linear(f, x, packed, tail, LINEAR);
}

static void compute_linear(void *kernel, TF_OpKernelContext *context) {
  const attributes *a = kernel;
  call c = begin(context);
  TF_Tensor *x = take(&c, 0), *packed = take(&c, 1), *bias = take(&c, 3);
  TF_Tensor *residual = take(&c, 5);
  int64_t shape[MOST_DIMENSIONS], nothing = 0;
  int rank = shape_of(x, shape);
  finish f = {.rows = matrix(x).rows, .in = TF_Dim(packed, 0), .out = TF_Dim(packed, 1),
              .bias = TF_TensorElementCount(bias) ? TF_TensorData(bias) : NULL,
              .residual = TF_TensorElementCount(residual) ? TF_TensorData(residual) : NULL,
              .drops = a->rate > 0, .d = dropping_at(a->rate, *(uint64_t *)input(&c, 4))};
  shape[rank - 1] = f.out;
  f.y = output(&c, 0, TF_BFLOAT16, shape, rank);
  f.before = output(&c, 1, TF_BFLOAT16, a->keep ? shape : &nothing, a->keep ? rank : 1);
  uint16_t *tail = aligned_alloc(64, 2 * (size_t)(DEEP * f.in));
  if (!failed(&c, f.before, tail)) {
    if (!a->keep) f.before = NULL;
    tiles_on();
    linear_of_form(&f, TF_TensorData(x), TF_TensorData(packed), tail, a->form);
    tiles_off();
  }
  free(tail);
  end(&c);
}

static void compute_linear_weight_grad(void *kernel, TF_OpKernelContext *context) {
  (void)kernel;
  call c = begin(context);
  TF_Tensor *x = take(&c, 0), *dy = take(&c, 1);
  int64_t rows = matrix(x).rows, in = matrix(x).width, out = matrix(dy).width;
  int64_t deep = rows ? ROUND_UP_DEEP(rows) : DEEP, most = in > out ? in : out;
  uint16_t *dw = output(&c, 0, TF_BFLOAT16, (int64_t[]){in, out}, 2);
  uint32_t *turned = aligned_alloc(64, 2 * (size_t)(deep * (in + out) + 2 * DEEP * most));
  if (!failed(&c, dw, turned)) {
    uint32_t *packed = turned + deep * in / 2, *pairs = packed + deep * out / 2;
    uint16_t *tail = (uint16_t *)(pairs + DEEP * most / 2);
    turn_rows(TF_TensorData(x), rows, in, deep, tail, pairs, turned);
    pack_rows(TF_TensorData(dy), rows, out, deep, tail, packed);
    finish f = {.rows = in, .in = deep, .out = out, .y = dw};
    tiles_on();
    linear(&f, (uint16_t *)turned, packed, NULL, LINEAR);   // no tail: a multiple of 32 rows
    tiles_off();
  }
  free(turned);
  end(&c);
}

// The same for x [B, T, I], each row b of it with the weight packed[slots[b]] and the bias [b].
static void compute_linear_rows(void *kernel, TF_OpKernelContext *context) {
  const attributes *a = kernel;
  call c = begin(context);
  TF_Tensor *x = take(&c, 0), *bias = take(&c, 2), *residual = take(&c, 3);
  const int64_t *addresses = input(&c, 1);
  int64_t batch = TF_Dim(x, 0), t = TF_Dim(x, 1), in = TF_Dim(x, 2), out = TF_Dim(bias, 1);
  uint16_t *y = output(&c, 0, TF_BFLOAT16, (int64_t[]){batch, t, out}, 3);
  uint16_t *tail = aligned_alloc(64, 2 * (size_t)(DEEP * in));
  if (!failed(&c, y, tail)) {
    const uint16_t *added = TF_TensorElementCount(residual) ? TF_TensorData(residual) : NULL;
    tiles_on();
    for (int64_t b = 0; b < batch; b++) {
      finish f = {.rows = t, .in = in, .out = out, .y = y + b * t * out,
                  .bias = (const float *)TF_TensorData(bias) + b * out,
                  .residual = added ? added + b * t * out : NULL};
      linear_of_form(&f, (const uint16_t *)TF_TensorData(x) + b * t * in,
                     (const uint32_t *)(uintptr_t)addresses[b], tail, a->form);
    }
    tiles_off();
  }
  free(tail);
  end(&c);
}
#endif

typedef struct {
  const char *name, *inputs, *outputs, *attributes;  // names parted by spaces
  void (*compute)(void *, TF_OpKernelContext *);
  int half_only, is_stateful;
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
  {"AdapterBertFill", "stack:T slots:int32 addresses:int64", "filled:int32", "", compute_fill, 0, 1},
  {"AdapterBertAttend", "query:T key:T value:T bias:float seed:int64",
   "context:T norms:float", "heads:int rate:float", compute_attend},
  {"AdapterBertAttendGrad",
   "dcontext:T query:T key:T value:T bias:float seed:int64 context:T norms:float",
   "dquery:T dkey:T dvalue:T", "heads:int rate:float", compute_attend_grad},
#ifdef __AVX512BF16__
  {"AdapterBertPack", "kernel:T", "packed:T", "turned:int", compute_pack, 1},
  {"AdapterBertLinear", "x:T packed:T turned:T bias:float seed:int64 residual:T", "y:T before:T",
   "form:int rate:float keep:int", compute_linear, 1},
  {"AdapterBertLinearWeightGrad", "x:T dy:T", "dw:T", "", compute_linear_weight_grad, 1},
  {"AdapterBertLinearRows", "x:T addresses:int64 bias:float residual:T", "y:T", "form:int",
   compute_linear_rows, 1},
#endif
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
    if (o->is_stateful) TF_OpDefinitionBuilderSetIsStateful(builder, 1);
    TF_RegisterOpDefinition(builder, status);
    for (int j = o->half_only; j < 2; j++) {
      TF_KernelBuilder *kernel = TF_NewKernelBuilder(o->name, "CPU", create, o->compute, delete);
      TF_KernelBuilder_TypeConstraint(kernel, "T", types[j], status);
      TF_RegisterKernelBuilder(o->name, kernel, status);
    }
  }
  TF_KernelBuilder *kernel = TF_NewKernelBuilder("AddN", "CPU", create, compute_add_n, delete);
  TF_KernelBuilder_TypeConstraint(kernel, "T", TF_BFLOAT16, status);
  TF_KernelBuilder_Priority(kernel, 1);   // TensorFlow's own has 0
  TF_RegisterKernelBuilder("AddN of bfloat16", kernel, status);
  TF_DeleteStatus(status);
}
