// StyleGAN2's memory-bound steps for the CPU, each in one pass over the activations.
//
// The entry points are plain C functions on raw pointers: a C++ compiler is enough, torch's
// headers are not needed. Activations are float, double or bfloat16; sums are double for double
// and float for the rest. Work is split over threads statically, so results do not depend on the
// number of threads.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

struct bf16 {
    uint16_t bits;
};

template <class T> struct Sum {
    using type = float;
};
template <> struct Sum<double> {
    using type = double;
};

inline float widen(float x) { return x; }
inline double widen(double x) { return x; }
inline float widen(bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

inline void narrow(float x, float& out) { out = x; }
inline void narrow(double x, double& out) { out = x; }
inline void narrow(float x, bf16& out) {
    const uint32_t u = std::bit_cast<uint32_t>(x);
    const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;  // to nearest, ties to even
    out.bits = static_cast<uint16_t>(x != x ? 0x7fc0u : rounded);
}

// Leaky ReLU with its gain (`positive` for v > 0, else `negative`), then clamp to +-limit.
template <class S>
inline S activate(S v, S positive, S negative, S limit) {
    v *= v > 0 ? positive : negative;
    return v > limit ? limit : (v < -limit ? -limit : v);
}

// ------------------------------------------------------------------ bias, activation, clamp

// Layout of a tensor: `outer` groups of `channels` runs of `inner` values. NCHW has
// (N, C, H * W), channels-last and (N, C) have (N * H * W, C, 1).
template <class T>
void bias_act(const T* x, const double* bias, T* y, int64_t outer, int64_t channels, int64_t inner,
              double slope, double gain, double clamp, int threads) {
    using S = typename Sum<T>::type;
    const S positive = static_cast<S>(gain), negative = static_cast<S>(gain * slope);
    const S limit = clamp < 0 ? static_cast<S>(INFINITY) : static_cast<S>(clamp);
    if (inner == 1) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t o = 0; o < outer; ++o) {
            const T* from = x + o * channels;
            T* to = y + o * channels;
#pragma omp simd
            for (int64_t c = 0; c < channels; ++c) {
                const S v = widen(from[c]) + static_cast<S>(bias ? bias[c] : 0.0);
                narrow(activate(v, positive, negative, limit), to[c]);
            }
        }
        return;
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < outer * channels; ++row) {
        const S b = static_cast<S>(bias ? bias[row % channels] : 0.0);
        const T* from = x + row * inner;
        T* to = y + row * inner;
#pragma omp simd
        for (int64_t i = 0; i < inner; ++i) {
            const S v = widen(from[i]) + b;
            narrow(activate(v, positive, negative, limit), to[i]);
        }
    }
}

// dx from dy and the output y: the factor is 0 where y was clamped, and the slope where y is
// negative.
template <class T>
void bias_act_grad(const T* dy, const T* y, T* dx, int64_t count, double slope, double gain,
                   double clamp, int threads) {
    using S = typename Sum<T>::type;
    const S positive = static_cast<S>(gain), negative = static_cast<S>(gain * slope);
    const S limit = clamp < 0 ? static_cast<S>(INFINITY) : static_cast<S>(clamp);
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (int64_t i = 0; i < count; ++i) {
        const S out = widen(y[i]);
        const S inside = out < limit && out > -limit ? static_cast<S>(1) : static_cast<S>(0);
        narrow(widen(dy[i]) * (out > 0 ? positive : negative) * inside, dx[i]);
    }
}

// ---------------------------------------------------------------- pad, upsample, FIR, downsample

struct Tap {
    int32_t source;
    int32_t index;
};

// For each output position: the inputs it reads, each with its element of the kernel.
std::vector<std::vector<Tap>> taps_of(int64_t out, int64_t in, int k, int up, int down, int pad) {
    std::vector<std::vector<Tap>> all(out);
    for (int64_t o = 0; o < out; ++o)
        for (int j = 0; j < k; ++j) {
            const int64_t at = o * down + j - pad;  // in the upsampled axis
            if (at < 0 || at % up != 0 || at / up >= in) continue;
            all[o].push_back({static_cast<int32_t>(at / up), k - 1 - j});
        }
    return all;
}

template <class T>
void upfirdn2d(const T* x, const double* kernel, T* y, int64_t n, int64_t c, int64_t h, int64_t w,
               int64_t oh, int64_t ow, int kh, int kw, int up, int down, int left, int top,
               int channels_last, int threads) {
    using S = typename Sum<T>::type;
    const auto rows = taps_of(oh, h, kh, up, down, top), columns = taps_of(ow, w, kw, up, down, left);
    if (channels_last) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t row = 0; row < n * oh; ++row) {
            const int64_t sample = row / oh, oy = row % oh;
            std::vector<S> sum(c);
            for (int64_t ox = 0; ox < ow; ++ox) {
                std::fill(sum.begin(), sum.end(), S(0));
                for (const Tap& r : rows[oy])
                    for (const Tap& q : columns[ox]) {
                        const S f = static_cast<S>(kernel[r.index * kw + q.index]);
                        const T* from = x + ((sample * h + r.source) * w + q.source) * c;
                        S* to = sum.data();
#pragma omp simd
                        for (int64_t i = 0; i < c; ++i) to[i] += f * widen(from[i]);
                    }
                T* out = y + (row * ow + ox) * c;
                for (int64_t i = 0; i < c; ++i) narrow(sum[i], out[i]);
            }
        }
        return;
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t plane = 0; plane < n * c; ++plane) {
        std::vector<S> sum(ow);
        for (int64_t oy = 0; oy < oh; ++oy) {
            std::fill(sum.begin(), sum.end(), S(0));
            for (const Tap& r : rows[oy]) {
                const T* from = x + (plane * h + r.source) * w;
                const double* line = kernel + r.index * kw;
                if (up == 1 && down == 1) {
                    for (int j = 0; j < kw; ++j) {
                        const S f = static_cast<S>(line[kw - 1 - j]);
                        const int64_t shift = j - left;
                        const int64_t begin = std::max<int64_t>(0, -shift);
                        const int64_t end = std::min<int64_t>(ow, w - shift);
                        S* to = sum.data();
#pragma omp simd
                        for (int64_t i = begin; i < end; ++i) to[i] += f * widen(from[i + shift]);
                    }
                } else {
                    for (int64_t ox = 0; ox < ow; ++ox)
                        for (const Tap& q : columns[ox])
                            sum[ox] += static_cast<S>(line[q.index]) * widen(from[q.source]);
                }
            }
            T* out = y + (plane * oh + oy) * ow;
            for (int64_t i = 0; i < ow; ++i) narrow(sum[i], out[i]);
        }
    }
}

// ---------------------------------------- the steps after a convolution of the synthesis network

// Parameters of these steps, for a batch of N samples or for one sample.
struct Finish {
    const float* demodulation;  // (N, C)
    const float* bias;          // (C)
    const float* next;          // (N, C) style of the next layer, or null
    const float* to_rgb;        // (N, 3, C), or null
    float positive, negative, limit;

    Finish of_sample(int64_t sample, int64_t c) const {
        Finish one = *this;
        one.demodulation += sample * c;
        if (next) one.next += sample * c;
        if (to_rgb) one.to_rgb += sample * 3 * c;
        return one;
    }
};

// Finish one pixel: `from` holds the C outputs of the convolution; `out` is null if only the
// colours are wanted.
template <class F, class T>
inline void finish_pixel(const Finish& f, const F* from, float noise, T* out, int64_t c,
                         float* rgb) {
    float r = 0, g = 0, b = 0;
    const float *d = f.demodulation, *bias = f.bias, *next = f.next;
    const float p = f.positive, q = f.negative, limit = f.limit;
    if (f.to_rgb) {
        const float *wr = f.to_rgb, *wg = wr + c, *wb = wg + c;
        if (out) {
#pragma omp simd reduction(+ : r, g, b)
            for (int64_t i = 0; i < c; ++i) {
                const float v = activate(widen(from[i]) * d[i] + (bias[i] + noise), p, q, limit);
                r += wr[i] * v;
                g += wg[i] * v;
                b += wb[i] * v;
                narrow(v * next[i], out[i]);
            }
        } else {
#pragma omp simd reduction(+ : r, g, b)
            for (int64_t i = 0; i < c; ++i) {
                const float v = activate(widen(from[i]) * d[i] + (bias[i] + noise), p, q, limit);
                r += wr[i] * v;
                g += wg[i] * v;
                b += wb[i] * v;
            }
        }
        rgb[0] = r;
        rgb[1] = g;
        rgb[2] = b;
        return;
    }
    if (!next) {
#pragma omp simd
        for (int64_t i = 0; i < c; ++i)
            narrow(activate(widen(from[i]) * d[i] + (bias[i] + noise), p, q, limit), out[i]);
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < c; ++i) {
        const float v = activate(widen(from[i]) * d[i] + (bias[i] + noise), p, q, limit);
        narrow(v * next[i], out[i]);
    }
}

// Tensors are channels-last. Without `taps` the input is (N, H, W, C), and `out` may be the same
// memory. With `taps` the input is (N, H + 1, W + 1, C), the output of a transposed convolution;
// it is filtered first by the separable kernel taps x taps with padding 1.
template <class T>
void finish_layer(const T* x, const float* taps, const float* demodulation, const float* noise,
                  int noise_per_sample, const float* bias, const float* next, const float* to_rgb,
                  T* out, float* rgb, int64_t n, int64_t c, int64_t h, int64_t w, float slope,
                  float gain, float clamp, int threads) {
    const float limit = clamp < 0 ? INFINITY : clamp;
    const Finish all{demodulation, bias, next, to_rgb, gain, gain * slope, limit};
    const int64_t in_h = taps ? h + 1 : h, in_w = taps ? w + 1 : w;
    // Number of columns that are processed together; their vertical sums stay in the inner caches.
    const int64_t block = std::clamp<int64_t>(8192 / c - 3, 4, 128);
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> sums(taps ? (block + 4) * c : 0);
#pragma omp for schedule(static)
        for (int64_t row = 0; row < n * h; ++row) {
            const int64_t sample = row / h, y = row % h;
            const Finish f = all.of_sample(sample, c);
            const float* grain =
                noise ? noise + ((noise_per_sample ? sample * h : 0) + y) * w : nullptr;
            T* to = out ? out + row * w * c : nullptr;
            float colour[3];
            float* planes = rgb ? rgb + sample * 3 * h * w + y * w : nullptr;
            if (!taps) {
                const T* from = x + row * w * c;
                for (int64_t i = 0; i < w; ++i) {
                    finish_pixel(f, from + i * c, grain ? grain[i] : 0.0f, to ? to + i * c : nullptr,
                                 c, colour);
                    if (planes)
                        for (int k = 0; k < 3; ++k) planes[k * h * w + i] = colour[k];
                }
                continue;
            }
            for (int64_t start = 0; start < w; start += block) {
                const int64_t count = std::min(block, w - start), columns = count + 3;
                // Vertical pass: sum the input columns from start - 1 to start + count + 1.
                const int64_t low = std::max<int64_t>(start - 1, 0);
                const int64_t high = std::min<int64_t>(start - 1 + columns, in_w);
                float* line = sums.data();
                const int64_t skipped = (low - (start - 1)) * c, length = (high - low) * c;
                std::fill(line, line + skipped, 0.0f);
                std::fill(line + skipped + length, line + columns * c, 0.0f);
                const T* rows[4];
                float weights[4];
                int used = 0;
                for (int k = 0; k < 4; ++k) {
                    const int64_t at = y - 1 + k;
                    if (at < 0 || at >= in_h) continue;
                    rows[used] = x + ((sample * in_h + at) * in_w + low) * c;
                    weights[used++] = taps[3 - k];
                }
                float* sum = line + skipped;
                if (used == 4) {
                    const T *a = rows[0], *b = rows[1], *d = rows[2], *e = rows[3];
                    const float wa = weights[0], wb = weights[1], wd = weights[2], we = weights[3];
#pragma omp simd
                    for (int64_t i = 0; i < length; ++i)
                        sum[i] = wa * widen(a[i]) + wb * widen(b[i]) + wd * widen(d[i]) +
                                 we * widen(e[i]);
                } else {
                    std::fill(sum, sum + length, 0.0f);
                    for (int k = 0; k < used; ++k) {
                        const T* a = rows[k];
                        const float wa = weights[k];
#pragma omp simd
                        for (int64_t i = 0; i < length; ++i) sum[i] += wa * widen(a[i]);
                    }
                }
                // Horizontal pass, then the other steps of the layer.
                const float t0 = taps[3], t1 = taps[2], t2 = taps[1], t3 = taps[0];
                const float *d = f.demodulation, *bs = f.bias, *nx = f.next;
                for (int64_t i = 0; i < count; ++i) {
                    const float *a = line + i * c, *b = a + c, *e = b + c, *g = e + c;
                    const float speck = grain ? grain[start + i] : 0.0f;
                    T* pixel = to + (start + i) * c;
#pragma omp simd
                    for (int64_t k = 0; k < c; ++k) {
                        const float sum4 = t0 * a[k] + t1 * b[k] + t2 * e[k] + t3 * g[k];
                        const float v =
                            activate(sum4 * d[k] + (bs[k] + speck), f.positive, f.negative, limit);
                        narrow(v * nx[k], pixel[k]);
                    }
                }
            }
        }
    }
}

// ------------------------------------------------------------------------ Winograd F(4x4, 3x3)

// A 3x3 convolution by 36 small matrix products per 4x4 tile instead of 144; Lavin and Gray 2016,
// "Fast Algorithms for Convolutional Neural Networks". The steps after the convolution are done
// while a tile is still in the cache.

constexpr int MULTIPLE = 16;  // of channels
constexpr int PANEL = 32;     // columns that stand together in the transformed weight
// A product has ROWS x 2 vectors of sums: 24 of AVX-512's 32 registers, 12 of AVX2's 16.
#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 12;
#elif defined(__AVX__)
constexpr int LANES = 8, ROWS = 6;
#else
constexpr int LANES = 4, ROWS = 6;
#endif
constexpr int STRIP = 2 * LANES;  // columns of one product
typedef float Lanes __attribute__((vector_size(LANES * 4)));
typedef uint16_t HalfLanes __attribute__((vector_size(LANES * 2)));
typedef uint32_t WideLanes __attribute__((vector_size(LANES * 4)));
inline Lanes load(const float* p) {
    Lanes v;
    std::memcpy(&v, p, sizeof v);
    return v;
}
inline Lanes load(const bf16* p) {
    HalfLanes half;
    std::memcpy(&half, p, sizeof half);
    return std::bit_cast<Lanes>(__builtin_convertvector(half, WideLanes) << 16);
}
inline void store(float* p, Lanes v) { std::memcpy(p, &v, sizeof v); }

// One line of B^T d, the transform of the input.
inline void input_line(const Lanes* d, int step, Lanes* v) {
    const Lanes d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step],
                d5 = d[5 * step];
    const Lanes a = d4 - 4.0f * d2, b = d3 - 4.0f * d1, e = d4 - d2, f = 2.0f * (d3 - d1);
    v[0] = 4.0f * d0 - 5.0f * d2 + d4;
    v[1 * step] = a + b;
    v[2 * step] = a - b;
    v[3 * step] = e + f;
    v[4 * step] = e - f;
    v[5 * step] = 4.0f * d1 - 5.0f * d3 + d5;
}

// One line of A^T m, the transform of the output.
inline void output_line(const Lanes* m, int step, Lanes* y, int out_step) {
    const Lanes a = m[step] + m[2 * step], b = m[step] - m[2 * step];
    const Lanes e = m[3 * step] + m[4 * step], f = m[3 * step] - m[4 * step];
    y[0] = m[0] + a + e;
    y[out_step] = b + 2.0f * f;
    y[2 * out_step] = a + 4.0f * e;
    y[3 * out_step] = b + 8.0f * f + m[5 * step];
}

// R rows of a product: c (R, STRIP) = a (R, k) times b (k, STRIP), whose rows are PANEL apart.
template <int R>
inline void product(const float* a, int64_t a_step, const float* b, float* c, int64_t c_step,
                    int64_t k) {
    Lanes sum[R][2] = {};
    for (int64_t i = 0; i < k; ++i, b += PANEL) {
        const Lanes left = load(b), right = load(b + LANES);
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
            const Lanes value = a[r * a_step + i] - Lanes{};  // x - 0 is x; 0 + x need not be
            sum[r][0] += value * left;
            sum[r][1] += value * right;
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
        store(c + r * c_step, sum[r][0]);
        store(c + r * c_step + LANES, sum[r][1]);
    }
}

template <int R>
void product_rest(int rows, const float* a, int64_t a_step, const float* b, float* c,
                  int64_t c_step, int64_t k) {
    if constexpr (R > 0) {
        if (rows == R)
            product<R>(a, a_step, b, c, c_step, k);
        else
            product_rest<R - 1>(rows, a, a_step, b, c, c_step, k);
    }
}

// u: (36, panels, in, PANEL), the transformed weight; the rest as in finish_layer.
template <class T>
void winograd(const T* x, const float* u, const float* demodulation, const float* noise,
              int noise_per_sample, const float* bias, const float* next, const float* to_rgb,
              T* out, float* rgb, int64_t n, int64_t in, int64_t c, int64_t h, int64_t w,
              float slope, float gain, float clamp, int threads) {
    const float limit = clamp < 0 ? INFINITY : clamp;
    const Finish all{demodulation, bias, next, to_rgb, gain, gain * slope, limit};
    const int64_t across = (w + 3) / 4, tiles = across * ((h + 3) / 4);
    const int64_t panels = (c + PANEL - 1) / PANEL, padded = panels * PANEL;
    // Number of tiles per block: few enough to stay in the cache, and enough that large weights
    // are not read too often.
    const int64_t fitting = 700000 / (36 * 4 * (in + padded)) / ROWS * ROWS;
    const int64_t block = std::clamp<int64_t>(fitting, 48, 96);
    const int64_t blocks = (tiles + block - 1) / block;
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> v(36 * block * in), m(36 * block * padded), pixels(16 * padded);
#pragma omp for schedule(static)
        for (int64_t task = 0; task < n * blocks; ++task) {
            const int64_t sample = task / blocks, first = task % blocks * block;
            const int64_t count = std::min(block, tiles - first);
            const T* image = x + sample * h * w * in;
            for (int64_t t = 0; t < count; ++t) {
                const int64_t top = (first + t) / across * 4 - 1;
                const int64_t left = (first + t) % across * 4 - 1;
                const bool inside = top >= 0 && left >= 0 && top + 6 <= h && left + 6 <= w;
                for (int64_t i = 0; i < in; i += LANES) {
                    Lanes d[36], half[36];
                    if (inside) {
                        for (int r = 0; r < 6; ++r)
                            for (int q = 0; q < 6; ++q)
                                d[r * 6 + q] = load(image + ((top + r) * w + left + q) * in + i);
                    } else {
                        for (int r = 0; r < 6; ++r)
                            for (int q = 0; q < 6; ++q) {
                                const int64_t py = top + r, px = left + q;
                                const bool real = py >= 0 && py < h && px >= 0 && px < w;
                                d[r * 6 + q] = real ? load(image + (py * w + px) * in + i) : Lanes{};
                            }
                    }
#pragma GCC unroll 6
                    for (int q = 0; q < 6; ++q) input_line(d + q, 6, half + q);
#pragma GCC unroll 6
                    for (int r = 0; r < 6; ++r) input_line(half + r * 6, 1, d + r * 6);
                    for (int e = 0; e < 36; ++e) store(v.data() + (e * block + t) * in + i, d[e]);
                }
            }
            for (int e = 0; e < 36; ++e)
                for (int64_t panel = 0; panel < panels; ++panel) {
                    const float* b = u + (e * panels + panel) * in * PANEL;
                    const float* a = v.data() + e * block * in;
                    float* to = m.data() + e * block * padded + panel * PANEL;
                    const int64_t used = std::min<int64_t>(PANEL, c - panel * PANEL);
                    for (int64_t q = 0; q < used; q += STRIP) {
                        int64_t t = 0;
                        for (; t + ROWS <= count; t += ROWS)
                            product<ROWS>(a + t * in, in, b + q, to + t * padded + q, padded, in);
                        product_rest<ROWS - 1>(static_cast<int>(count - t), a + t * in, in, b + q,
                                               to + t * padded + q, padded, in);
                    }
                }
            const Finish f = all.of_sample(sample, c);
            for (int64_t t = 0; t < count; ++t) {
                const int64_t top = (first + t) / across * 4, left = (first + t) % across * 4;
                for (int64_t i = 0; i < c; i += LANES) {
                    Lanes e[36], half[24], y[16];
                    for (int k = 0; k < 36; ++k)
                        e[k] = load(m.data() + (k * block + t) * padded + i);
#pragma GCC unroll 6
                    for (int q = 0; q < 6; ++q) output_line(e + q, 6, half + q, 6);
#pragma GCC unroll 4
                    for (int r = 0; r < 4; ++r) output_line(half + r * 6, 1, y + r * 4, 1);
                    for (int k = 0; k < 16; ++k) store(pixels.data() + k * padded + i, y[k]);
                }
                for (int64_t k = 0; k < 16; ++k) {
                    const int64_t py = top + k / 4, px = left + k % 4;
                    if (py >= h || px >= w) continue;
                    const int64_t at = py * w + px;
                    const float speck =
                        noise ? noise[(noise_per_sample ? sample * h * w : 0) + at] : 0.0f;
                    float colour[3];
                    finish_pixel(f, pixels.data() + k * padded, speck,
                                 out ? out + (sample * h * w + at) * c : nullptr, c, colour);
                    if (rgb)
                        for (int plane = 0; plane < 3; ++plane)
                            rgb[(sample * 3 + plane) * h * w + at] = colour[plane];
                }
            }
        }
    }
}

// image = clamp(image + bias) + `small` upsampled by 2 with the separable kernel taps x taps.
// `small` is the image of the block before, or null.
void add_skip(const float* small, const float* taps, const float* bias, float clamp, float* image,
              int64_t n, int64_t h, int64_t w, int threads) {
    const int64_t sh = h / 2, sw = w / 2;
    const float limit = clamp < 0 ? INFINITY : clamp;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t row = 0; row < n * 3 * h; ++row) {
        const int64_t plane = row / h, y = row % h;
        float* to = image + row * w;
        const float b = bias[plane % 3];
        for (int64_t i = 0; i < w; ++i) {
            const float v = to[i] + b;
            to[i] = v > limit ? limit : (v < -limit ? -limit : v);
        }
        if (!small) continue;
        // An output pixel reads two inputs per axis: even pixels use taps 1 and 3, odd pixels 0
        // and 2.
        std::vector<float> line(sw + 2, 0.0f);
        const int64_t first = (y % 2) ? y / 2 : y / 2 - 1;
        const float wa = (y % 2) ? taps[2] : taps[3], wb = (y % 2) ? taps[0] : taps[1];
        for (int k = 0; k < 2; ++k) {
            const int64_t at = first + k;
            if (at < 0 || at >= sh) continue;
            const float weight = k ? wb : wa;
            const float* from = small + (plane * sh + at) * sw;
            for (int64_t i = 0; i < sw; ++i) line[i + 1] += weight * from[i];
        }
        for (int64_t i = 0; i < sw; ++i) {
            to[2 * i] += taps[3] * line[i] + taps[1] * line[i + 1];
            to[2 * i + 1] += taps[2] * line[i + 1] + taps[0] * line[i + 2];
        }
    }
}

}  // namespace

// dtype: 0 float, 1 double, 2 bfloat16
#define DISPATCH(dtype, CALL)                    \
    switch (dtype) {                             \
        case 0: { using T = float; CALL; break; } \
        case 1: { using T = double; CALL; break; } \
        case 2: { using T = bf16; CALL; break; }   \
        default: return 1;                       \
    }                                            \
    return 0

extern "C" {

int sfhq_bias_act(int dtype, const void* x, const double* bias, void* y, int64_t outer,
                  int64_t channels, int64_t inner, double slope, double gain, double clamp,
                  int threads) {
    DISPATCH(dtype, (bias_act<T>(static_cast<const T*>(x), bias, static_cast<T*>(y), outer,
                                 channels, inner, slope, gain, clamp, threads)));
}

int sfhq_bias_act_grad(int dtype, const void* dy, const void* y, void* dx, int64_t count,
                       double slope, double gain, double clamp, int threads) {
    DISPATCH(dtype, (bias_act_grad<T>(static_cast<const T*>(dy), static_cast<const T*>(y),
                                      static_cast<T*>(dx), count, slope, gain, clamp, threads)));
}

int sfhq_upfirdn2d(int dtype, const void* x, const double* kernel, void* y, int64_t n, int64_t c,
                   int64_t h, int64_t w, int64_t oh, int64_t ow, int kh, int kw, int up, int down,
                   int left, int top, int channels_last, int threads) {
    DISPATCH(dtype, (upfirdn2d<T>(static_cast<const T*>(x), kernel, static_cast<T*>(y), n, c, h, w,
                                  oh, ow, kh, kw, up, down, left, top, channels_last, threads)));
}

int sfhq_finish_layer(int dtype, const void* x, const float* taps, const float* demodulation,
                      const float* noise, int noise_per_sample, const float* bias,
                      const float* next, const float* to_rgb, void* out, float* rgb, int64_t n,
                      int64_t c, int64_t h, int64_t w, float slope, float gain, float clamp,
                      int threads) {
    if (dtype == 0)
        finish_layer(static_cast<const float*>(x), taps, demodulation, noise, noise_per_sample,
                     bias, next, to_rgb, static_cast<float*>(out), rgb, n, c, h, w, slope, gain,
                     clamp, threads);
    else if (dtype == 2)
        finish_layer(static_cast<const bf16*>(x), taps, demodulation, noise, noise_per_sample,
                     bias, next, to_rgb, static_cast<bf16*>(out), rgb, n, c, h, w, slope, gain,
                     clamp, threads);
    else
        return 1;
    return 0;
}

int sfhq_winograd(int dtype, const void* x, const float* u, const float* demodulation,
                  const float* noise, int noise_per_sample, const float* bias, const float* next,
                  const float* to_rgb, void* out, float* rgb, int64_t n, int64_t in, int64_t c,
                  int64_t h, int64_t w, float slope, float gain, float clamp, int threads) {
    if (in % MULTIPLE || c % MULTIPLE) return 2;
    if (dtype == 0)
        winograd(static_cast<const float*>(x), u, demodulation, noise, noise_per_sample, bias, next,
                 to_rgb, static_cast<float*>(out), rgb, n, in, c, h, w, slope, gain, clamp, threads);
    else if (dtype == 2)
        winograd(static_cast<const bf16*>(x), u, demodulation, noise, noise_per_sample, bias, next,
                 to_rgb, static_cast<bf16*>(out), rgb, n, in, c, h, w, slope, gain, clamp, threads);
    else
        return 1;
    return 0;
}

int sfhq_add_skip(const float* small, const float* taps, const float* bias, float clamp,
                  float* image, int64_t n, int64_t h, int64_t w, int threads) {
    add_skip(small, taps, bias, clamp, image, n, h, w, threads);
    return 0;
}

int sfhq_version() { return 1; }

}  // extern "C"
