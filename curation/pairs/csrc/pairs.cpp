// Pairs of unit vectors above a cosine: a tile of int8 products, the test, and a second look.
//
// Plain C entry points on raw pointers; one call is one thread's work. No score is ever written
// to memory: a tile of 8 rows and 48 columns stays in registers, is compared there, and is left
// unless something in it passes. curation/bound.py proves that nothing is missed.
//
// The instructions are chosen at run time: AVX-512 VNNI multiplies unsigned by signed bytes and
// sums four of them into 32 bits without saturation; AVX2 has only a 16-bit step, which codes of
// at most 63 never overflow: 4 * 127 * 63 < 2^15.

#include <cstdint>
#include <cstring>

namespace {

constexpr int64_t ROWS = 8;      // rows of a tile
constexpr int64_t COLUMNS = 48;  // columns of a tile and of a panel
constexpr int64_t GROUP = 4;     // neighbouring bytes that one instruction sums

enum Path : int { NONE = 0, AVX2 = 1, VNNI = 2 };

// Levels of a code (-levels .. levels) and what makes it unsigned.
int levels_of(int path) { return path == VNNI ? 127 : 63; }
int offset_of(int path) { return path == VNNI ? 128 : 64; }

}  // namespace

extern "C" {

// Everything a search reads; curation/native.py mirrors this structure.
struct Search {
    // First look: products of the first coordinates, in whole groups.
    int64_t width;              // bytes of a row's codes, a multiple of 8
    const int8_t* rows;         // (row_count / 8, width / 4, 8, 4) codes
    const float* row_limit;     // (row_count) a sum above it passes; infinite for padding
    const float* row_tail;      // (row_count)
    const double* row_base;     // (row_count) the row's share of the second look's bound
    const int64_t* row_ids;     // (row_count)
    int64_t row_count;          // a multiple of 8
    const uint8_t* panels;      // (columns / 48, width / 4, 48, 4) codes plus the offset
    const int32_t* column_add;  // (columns)
    const float* column_tail;   // (columns)
    const double* column_base;  // (columns) the column's share of the second look's bound
    const int64_t* column_ids;  // (columns)
    int64_t first, last;        // the columns to search
    // Second look: products of the other coordinates.
    int64_t rest_width;         // a multiple of 64; 0 where the first look saw all
    const int8_t* row_rest;     // (row_count, rest_width) codes
    const int32_t* row_rest_sum;  // (row_count) sums of these codes
    const int8_t* column_rest;  // (columns, rest_width) codes
    double scale, rest_scale;   // what a product of two codes is worth
    double limit;               // the bound must be above it
    // What passed both: pairs whose column's id is smaller than the row's.
    int64_t capacity;
    int64_t* hit_rows;          // places, not ids
    int64_t* hit_columns;
    int64_t looked;             // out: pairs that reached the second look
};

int sfhq_pairs_path();
int64_t sfhq_pairs_search(int path, Search* search);
void sfhq_pairs_pack(const int8_t* codes, int64_t count, int64_t width, int lanes, int offset,
                     uint8_t* out, int64_t start);
void sfhq_pairs_quantise(const float* values, int64_t count, int64_t width, int64_t stride,
                         int64_t padded, float scale, int levels, int8_t* codes, int32_t* sums,
                         double* residual, double* length);
}

#if defined(__x86_64__)

#include <immintrin.h>

#define ON_VNNI __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,fma")))
#define ON_AVX2 __attribute__((target("avx2,fma")))
#define UNROLL _Pragma("GCC unroll 16")

namespace {

// One tile's sums, and for each row a bit for every column that passes.
struct Tile {
    alignas(64) int32_t sums[ROWS][COLUMNS];
    uint64_t passed[ROWS];
};

// AVX-512 VNNI.

// Whether any pair of a tile passes; if so, the tile is filled.
ON_VNNI bool tile_vnni(const int8_t* rows, const uint8_t* panel, int64_t groups,
                       const int32_t* add, const float* limit, const float* row_tail,
                       const float* column_tail, Tile& tile) {
    __m512i sums[ROWS][3];
    UNROLL for (int v = 0; v < 3; ++v) {
        const __m512i start = _mm512_loadu_si512(add + 16 * v);
        UNROLL for (int r = 0; r < ROWS; ++r) sums[r][v] = start;
    }
    for (int64_t g = 0; g < groups; ++g) {
        __m512i columns[3];
        UNROLL for (int v = 0; v < 3; ++v)
            columns[v] = _mm512_loadu_si512(panel + COLUMNS * GROUP * g + 64 * v);
        UNROLL for (int r = 0; r < ROWS; ++r) {
            int32_t four;
            std::memcpy(&four, rows + ROWS * GROUP * g + GROUP * r, 4);
            const __m512i row = _mm512_set1_epi32(four);
            // The intrinsic makes GCC 12 copy and spill every sum: half the speed.
            UNROLL for (int v = 0; v < 3; ++v)
                asm("vpdpbusd %2, %1, %0" : "+v"(sums[r][v]) : "v"(columns[v]), "v"(row));
        }
    }
    __m512 tails[3];
    UNROLL for (int v = 0; v < 3; ++v) tails[v] = _mm512_loadu_ps(column_tail + 16 * v);
    __mmask16 masks[ROWS][3];
    unsigned any = 0;
    UNROLL for (int r = 0; r < ROWS; ++r) {
        const __m512 tail = _mm512_set1_ps(row_tail[r]), bar = _mm512_set1_ps(limit[r]);
        UNROLL for (int v = 0; v < 3; ++v) {
            const __m512 sum = _mm512_fmadd_ps(tail, tails[v], _mm512_cvtepi32_ps(sums[r][v]));
            masks[r][v] = _mm512_cmp_ps_mask(sum, bar, _CMP_GT_OQ);
            any |= masks[r][v];
        }
    }
    if (__builtin_expect(any == 0, 1)) return false;
    UNROLL for (int r = 0; r < ROWS; ++r) {
        tile.passed[r] = 0;
        UNROLL for (int v = 0; v < 3; ++v) {
            _mm512_store_si512(tile.sums[r] + 16 * v, sums[r][v]);
            tile.passed[r] |= static_cast<uint64_t>(masks[r][v]) << (16 * v);
        }
    }
    return true;
}

// Sum of products of two rows of codes; `sum` is that of x.
ON_VNNI int64_t product_vnni(const int8_t* x, const int8_t* y, int64_t width, int32_t sum) {
    const __m512i offset = _mm512_set1_epi8(static_cast<char>(0x80));
    __m512i total = _mm512_setzero_si512();
    for (int64_t i = 0; i < width; i += 64) {
        const __m512i other = _mm512_xor_si512(_mm512_loadu_si512(y + i), offset);
        total = _mm512_dpbusd_epi32(total, other, _mm512_loadu_si512(x + i));
    }
    return static_cast<int64_t>(_mm512_reduce_add_epi32(total)) - int64_t{128} * sum;
}

// AVX2.

ON_AVX2 inline __m256i products_avx2(__m256i columns, __m256i row, __m256i more_columns,
                                     __m256i more_row) {
    // Two products, two summands each, in 16 bits: at most 4 * 127 * 63.
    const __m256i sums = _mm256_add_epi16(_mm256_maddubs_epi16(columns, row),
                                          _mm256_maddubs_epi16(more_columns, more_row));
    return _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
}

ON_AVX2 bool tile_avx2(const int8_t* rows, const uint8_t* panel, int64_t groups,
                       const int32_t* add, const float* limit, const float* row_tail,
                       const float* column_tail, Tile& tile) {
    constexpr int R = 4, V = 2;  // sixteen registers hold no more
    uint64_t any = 0;
    std::memset(tile.passed, 0, sizeof tile.passed);
    for (int r0 = 0; r0 < ROWS; r0 += R) {
        for (int c0 = 0; c0 < COLUMNS; c0 += 8 * V) {
            __m256i sums[R][V];
            UNROLL for (int v = 0; v < V; ++v) {
                const __m256i start = _mm256_loadu_si256(
                    reinterpret_cast<const __m256i*>(add + c0 + 8 * v));
                UNROLL for (int r = 0; r < R; ++r) sums[r][v] = start;
            }
            for (int64_t g = 0; g < groups; g += 2) {
                __m256i columns[V], more[V];
                UNROLL for (int v = 0; v < V; ++v) {
                    const uint8_t* from = panel + GROUP * (COLUMNS * g + c0 + 8 * v);
                    columns[v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
                    more[v] = _mm256_loadu_si256(
                        reinterpret_cast<const __m256i*>(from + GROUP * COLUMNS));
                }
                UNROLL for (int r = 0; r < R; ++r) {
                    int32_t four, next;
                    const int8_t* from = rows + GROUP * (ROWS * g + r0 + r);
                    std::memcpy(&four, from, 4);
                    std::memcpy(&next, from + GROUP * ROWS, 4);
                    const __m256i row = _mm256_set1_epi32(four), then = _mm256_set1_epi32(next);
                    UNROLL for (int v = 0; v < V; ++v)
                        sums[r][v] = _mm256_add_epi32(
                            sums[r][v], products_avx2(columns[v], row, more[v], then));
                }
            }
            UNROLL for (int r = 0; r < R; ++r) {
                const __m256 tail = _mm256_set1_ps(row_tail[r0 + r]);
                const __m256 bar = _mm256_set1_ps(limit[r0 + r]);
                UNROLL for (int v = 0; v < V; ++v) {
                    const __m256 tails = _mm256_loadu_ps(column_tail + c0 + 8 * v);
                    const __m256 sum =
                        _mm256_fmadd_ps(tail, tails, _mm256_cvtepi32_ps(sums[r][v]));
                    const unsigned mask = static_cast<unsigned>(
                        _mm256_movemask_ps(_mm256_cmp_ps(sum, bar, _CMP_GT_OQ)));
                    tile.passed[r0 + r] |= static_cast<uint64_t>(mask) << (c0 + 8 * v);
                    any |= mask;
                    _mm256_store_si256(
                        reinterpret_cast<__m256i*>(tile.sums[r0 + r] + c0 + 8 * v), sums[r][v]);
                }
            }
        }
    }
    return any != 0;
}

ON_AVX2 int64_t product_avx2(const int8_t* x, const int8_t* y, int64_t width, int32_t sum) {
    const __m256i offset = _mm256_set1_epi8(64);
    __m256i total = _mm256_setzero_si256();
    for (int64_t i = 0; i < width; i += 64) {
        const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
        const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i + 32));
        const __m256i c = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(y + i));
        const __m256i d = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(y + i + 32));
        total = _mm256_add_epi32(total, products_avx2(_mm256_add_epi8(c, offset), a,
                                                      _mm256_add_epi8(d, offset), b));
    }
    alignas(32) int32_t lanes[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), total);
    int64_t result = int64_t{-64} * sum;
    for (int32_t lane : lanes) result += lane;
    return result;
}

// the search.

using TileOf = bool (*)(const int8_t*, const uint8_t*, int64_t, const int32_t*, const float*,
                        const float*, const float*, Tile&);
using ProductOf = int64_t (*)(const int8_t*, const int8_t*, int64_t, int32_t);

struct Functions {
    TileOf tile;
    ProductOf product;
};

Functions functions_of(int path) {
    if (path == VNNI) return {tile_vnni, product_vnni};
    return {tile_avx2, product_avx2};
}

// Second look at the pairs of a tile that passed; false when there is no more room.
bool look_closer(const Functions& run, Search& s, const Tile& tile, int64_t row, int64_t column,
                 int64_t& hits) {
    for (int64_t r = 0; r < ROWS; ++r) {
        for (uint64_t bits = tile.passed[r]; bits != 0; bits &= bits - 1) {
            const int64_t lane = __builtin_ctzll(bits), c = column + lane, i = row + r;
            if (c < s.first || c >= s.last || s.column_ids[c] >= s.row_ids[i]) continue;
            ++s.looked;
            if (s.rest_width != 0) {
                const int64_t product =
                    run.product(s.row_rest + i * s.rest_width, s.column_rest + c * s.rest_width,
                                s.rest_width, s.row_rest_sum[i]);
                const double bound = s.scale * tile.sums[r][lane] + s.row_base[i] +
                                     s.column_base[c] +
                                     s.rest_scale * static_cast<double>(product);
                if (!(bound > s.limit)) continue;
            }
            if (hits == s.capacity) return false;
            s.hit_rows[hits] = i;
            s.hit_columns[hits] = c;
            ++hits;
        }
    }
    return true;
}

}  // namespace

extern "C" int sfhq_pairs_path() {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma"))
        return VNNI;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? AVX2 : NONE;
}

// Number of pairs that pass both looks, or -1 when `capacity` is too small for them.
extern "C" int64_t sfhq_pairs_search(int path, Search* search) {
    Search& s = *search;
    const Functions run = functions_of(path);
    const int64_t groups = s.width / GROUP;
    // Rows that stay in the second-level cache while the panels pass by.
    int64_t block = (int64_t{384} << 10) / s.width / ROWS * ROWS;
    if (block < ROWS) block = ROWS;
    Tile tile;
    int64_t hits = 0;
    s.looked = 0;
    const int64_t from = s.first / COLUMNS, to = (s.last + COLUMNS - 1) / COLUMNS;
    for (int64_t start = 0; start < s.row_count; start += block) {
        const int64_t end = start + block < s.row_count ? start + block : s.row_count;
        for (int64_t p = from; p < to; ++p) {
            const int64_t column = p * COLUMNS;
            const uint8_t* panel = s.panels + column * s.width;
            for (int64_t row = start; row < end; row += ROWS) {
                if (!run.tile(s.rows + row * s.width, panel, groups, s.column_add + column,
                              s.row_limit + row, s.row_tail + row, s.column_tail + column, tile))
                    continue;
                if (!look_closer(run, s, tile, row, column, hits)) return -1;
            }
        }
    }
    return hits;
}

// Codes of unit values, and what they leave: squared lengths of value and of value minus code.
//
// The residual is that of the float32 code times the float32 scale, in double.
extern "C" ON_AVX2 void sfhq_pairs_quantise(const float* values, int64_t count, int64_t width,
                                            int64_t stride, int64_t padded, float scale,
                                            int levels, int8_t* codes, int32_t* sums,
                                            double* residual, double* length) {
    const float inverse = 1.0f / scale, most = static_cast<float>(levels);
    constexpr float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
    for (int64_t n = 0; n < count; ++n) {
        const float* from = values + n * stride;
        int8_t* to = codes + n * padded;
        int32_t sum = 0;
        double left = 0, all = 0;
        for (int64_t start = 0; start < width; start += 64) {
            const int64_t end = start + 64 < width ? start + 64 : width;
            float some = 0, whole = 0;  // at most 64 summands: their rounding is in the slack
            for (int64_t i = start; i < end; ++i) {
                float q = from[i] * inverse;
                q = q > most ? most : (q < -most ? -most : q);
                q = (q + magic) - magic;
                const float error = from[i] - q * scale;
                some += error * error;
                whole += from[i] * from[i];
                const int32_t code = static_cast<int32_t>(q);
                sum += code;
                to[i] = static_cast<int8_t>(code);
            }
            left += some;
            all += whole;
        }
        std::memset(to + width, 0, static_cast<size_t>(padded - width));
        sums[n] = sum;
        residual[n] = left;
        length[n] = all;
    }
}

#else  // another processor: the Python side multiplies through numpy or torch

extern "C" int sfhq_pairs_path() { return NONE; }
extern "C" int64_t sfhq_pairs_search(int, Search*) { return -1; }
extern "C" void sfhq_pairs_quantise(const float*, int64_t, int64_t, int64_t, int64_t, float, int,
                                    int8_t*, int32_t*, double*, double*) {}

#endif

// Lays codes out for tiles: `lanes` of them side by side, four bytes of each in turn.
//
// `out` is (panels, width / 4, lanes, 4); code n goes to place `start + n`, with the offset added.
extern "C" void sfhq_pairs_pack(const int8_t* codes, int64_t count, int64_t width, int lanes,
                                int offset, uint8_t* out, int64_t start) {
    for (int64_t n = 0; n < count; ++n) {
        const int64_t place = start + n;
        uint8_t* to = out + place / lanes * lanes * width + place % lanes * GROUP;
        const int8_t* from = codes + n * width;
        for (int64_t g = 0; g < width / GROUP; ++g)
            for (int64_t b = 0; b < GROUP; ++b)
                to[g * lanes * GROUP + b] = static_cast<uint8_t>(from[g * GROUP + b] + offset);
    }
}

extern "C" int sfhq_pairs_levels(int path) { return levels_of(path); }
extern "C" int sfhq_pairs_offset(int path) { return offset_of(path); }
