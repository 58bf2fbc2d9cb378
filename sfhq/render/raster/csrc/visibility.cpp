// The nearest triangle at each sample, for each group. The arithmetic is that of
// sfhq/render/raster/triangles.py, operation by operation, with a depth buffer instead of fragments.
//
// A triangle is divided into rows of samples; LANES / 2 rows are computed at once in double
// precision. The samples of a row are tested LANES at once in single precision. Triangles come in
// ascending order, so at equal depth the lower one stays.
//
// Every result must round as numpy's does. But the build may fuse a product and a sum, which rounds
// once instead of twice, and Clang ignores the pragmas against it. So `rounded` hides products from
// the compiler.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __AVX__
#include <immintrin.h>
#endif

namespace {

#ifdef __AVX__
constexpr int BYTES = 32;  // size of a vector register
#else
constexpr int BYTES = 16;
#endif
constexpr int LANES = BYTES / 4;
constexpr int ROWS = BYTES / 8;
constexpr double SUBSAMPLES = 4096;  // as in triangles.py

typedef float Floats __attribute__((vector_size(BYTES)));
typedef int32_t Ints __attribute__((vector_size(BYTES)));
typedef double Doubles __attribute__((vector_size(BYTES)));
typedef float FewFloats __attribute__((vector_size(BYTES / 2)));
typedef int32_t FewInts __attribute__((vector_size(BYTES / 2)));

// Returns `value`; the compiler cannot see how it was computed.
template <class T>
inline T rounded(T value) {
#if defined(__x86_64__)
    asm("" : "+x"(value));
#elif defined(__aarch64__)
    asm("" : "+w"(value));
#else
    asm("" : "+m"(value));
#endif
    return value;
}

// 0, 1, 2 and so on.
inline Ints lanes() {
    Ints lane = {};
    for (int i = 0; i < LANES; ++i) lane[i] = i;
    return lane;
}

inline bool any(Ints mask) {
#ifdef __AVX__
    return _mm256_movemask_ps(reinterpret_cast<__m256>(mask)) != 0;
#else
    int64_t halves[BYTES / 8];
    std::memcpy(halves, &mask, BYTES);
    return (halves[0] | halves[1]) != 0;
#endif
}

// A corner, rounded to the grid of subsamples.
struct Corner {
    double x, y, z;
    int64_t column, row;  // the first sample whose centre is at or beyond the corner
};

inline int64_t first(double edge, double limit) {
    return static_cast<int64_t>(std::min(std::max(std::ceil(edge - 0.5), 0.0), limit));
}

inline Corner corner(const double* point, double width, double height) {
    const double x = std::nearbyint(point[0] * SUBSAMPLES) / SUBSAMPLES;
    const double y = std::nearbyint(point[1] * SUBSAMPLES) / SUBSAMPLES;
    return {x, y, point[2], first(x, width), first(y, height)};
}

// An edge: (y * dx + offset) / dy is x - 0.5 where it crosses y.
struct Edge {
    double dx, offset, dy;
};

inline Edge edge(const Corner& top, const Corner& bottom) {
    const double dx = bottom.x - top.x, dy = bottom.y - top.y;
    return {dx, rounded((top.x - 0.5) * dy) - rounded(top.y * dx), dy};
}

// `place` clamped to 0 ... `end` and rounded up to an integer; 0 for NaN.
inline Doubles up(Doubles place, Doubles end) {
    const Doubles nothing = {};
    place = place > nothing ? place : nothing;
    place = place < end ? place : end;
    const Doubles whole =
        __builtin_convertvector(__builtin_convertvector(place, FewInts), Doubles);
    return whole < place ? whole + 1.0 : whole;
}

// A run of samples of one triangle: its weights over depth at the first sample, and their steps.
struct Run {
    Floats value[3], step[3];
    int32_t triangle;
};

// Test LANES samples of a run from `done` on; only the first `rest` of them belong to the run.
inline void test(const Run& run, int32_t done, int32_t rest, float* depth, int32_t* index) {
    const Ints lane = lanes();
    const Floats zero = {}, place = __builtin_convertvector(lane + done, Floats);
    Floats weight[3];
    for (int i = 0; i < 3; ++i) {
        const Floats linear = run.value[i] + rounded(run.step[i] * place);
        weight[i] = linear < zero ? zero : linear;
    }
    const Floats found = 1.0f / (weight[0] + weight[1] + weight[2]);
    Floats best;
    std::memcpy(&best, depth, BYTES);
    const Ints nearer = (found < best) & (lane < rest);
    if (!any(nearer)) return;
    best = nearer ? found : best;
    std::memcpy(depth, &best, BYTES);
    Ints seen;
    std::memcpy(&seen, index, BYTES);
    seen = nearer ? Ints{} + run.triangle : seen;
    std::memcpy(index, &seen, BYTES);
}

// Test the `size` samples of a run that starts at `at`; its row has `room` samples from there on.
inline void fill(const Run& run, int32_t size, int64_t room, int64_t at, float* depth,
                 int32_t* index) {
    depth += at;
    index += at;
    int32_t done = 0;
    for (; done < size && room - done >= LANES; done += LANES)
        test(run, done, size - done, depth + done, index + done);
    if (done >= size) return;
    // A whole vector would reach beyond the row and possibly beyond the buffers.
    float near_depth[LANES] = {};
    int32_t near_index[LANES] = {};
    const size_t bytes = static_cast<size_t>(size - done) * sizeof(float);
    std::memcpy(near_depth, depth + done, bytes);
    std::memcpy(near_index, index + done, bytes);
    test(run, done, size - done, near_depth, near_index);
    std::memcpy(depth + done, near_depth, bytes);
    std::memcpy(index + done, near_index, bytes);
}

}  // namespace

// Write each triangle to `index` and `depth`, (groups, height, width), where it is nearer.
//
// `points` are (V, 3) finite doubles; `triangles` (count, 3) and `group` (count) are within bounds.
extern "C" void sfhq_visible(const double* points, const int32_t* triangles, const int32_t* group,
                             int64_t count, int64_t width, int64_t height, double near,
                             int32_t* index, float* depth) {
    Doubles rows;
    for (int i = 0; i < ROWS; ++i) rows[i] = i;
    const Doubles nothing = {}, end = nothing + static_cast<double>(width);

    for (int64_t t = 0; t < count; ++t) {
        const int32_t* of = triangles + 3 * t;
        Corner c[3];
        for (int i = 0; i < 3; ++i)
            c[i] = corner(points + 3 * static_cast<int64_t>(of[i]), static_cast<double>(width),
                          static_cast<double>(height));
        if (!(c[0].z >= near && c[1].z >= near && c[2].z >= near)) continue;
        if (c[0].column == c[1].column && c[1].column == c[2].column) continue;
        if (c[0].row == c[1].row && c[1].row == c[2].row) continue;

        // Gradients of weights 1 and 2 in the image, and 1 / depth of the three corners.
        const double x1 = c[1].x - c[0].x, x2 = c[2].x - c[0].x;
        const double y1 = c[1].y - c[0].y, y2 = c[2].y - c[0].y;
        const double area = rounded(x1 * y2) - rounded(x2 * y1);
        if (area == 0) continue;
        const double right1 = y2 / area, down1 = -x2 / area;
        const double right2 = -y1 / area, down2 = x1 / area;
        const double near0 = 1 / c[0].z, near1 = 1 / c[1].z, near2 = 1 / c[2].z;
        const double x0 = c[0].x, y0 = c[0].y;
        Run run;
        run.step[0] = Floats{} + static_cast<float>((-right1 - right2) * near0);
        run.step[1] = Floats{} + static_cast<float>(right1 * near1);
        run.step[2] = Floats{} + static_cast<float>(right2 * near2);
        run.triangle = static_cast<int32_t>(t);

        if (c[0].y > c[1].y) std::swap(c[0], c[1]);
        if (c[1].y > c[2].y) std::swap(c[1], c[2]);
        if (c[0].y > c[1].y) std::swap(c[0], c[1]);
        const Edge side = edge(c[0], c[2]), above = edge(c[0], c[1]), below = edge(c[1], c[2]);
        const int64_t base = group[t] * width * height;
        const Doubles middle = nothing + static_cast<double>(c[1].row);

        for (int64_t start = c[0].row; start < c[2].row; start += ROWS) {
            const Doubles row = rows + static_cast<double>(start), centre = row + 0.5;
            const auto lower = row >= middle;
            const Doubles dx = lower ? nothing + below.dx : nothing + above.dx;
            const Doubles offset = lower ? nothing + below.offset : nothing + above.offset;
            const Doubles dy = lower ? nothing + below.dy : nothing + above.dy;
            const Doubles one = (rounded(centre * side.dx) + side.offset) / side.dy;
            const Doubles other = (rounded(centre * dx) + offset) / dy;
            const Doubles column = up(one < other ? one : other, end);
            const FewInts from = __builtin_convertvector(column, FewInts);
            const FewInts to = __builtin_convertvector(up(one > other ? one : other, end), FewInts);

            const Doubles right = column + 0.5 - x0, down = centre - y0;
            const Doubles weight1 = rounded(right * right1) + rounded(down * down1);
            const Doubles weight2 = rounded(right * right2) + rounded(down * down2);
            const FewFloats value[3] = {
                __builtin_convertvector((1.0 - weight1 - weight2) * near0, FewFloats),
                __builtin_convertvector(weight1 * near1, FewFloats),
                __builtin_convertvector(weight2 * near2, FewFloats),
            };

            const int64_t some = std::min<int64_t>(ROWS, c[2].row - start);
            for (int64_t r = 0; r < some; ++r) {
                if (from[r] >= to[r]) continue;
                for (int i = 0; i < 3; ++i) run.value[i] = Floats{} + value[i][r];
                fill(run, to[r] - from[r], width - from[r],
                     base + (start + r) * width + from[r], depth, index);
            }
        }
    }
}
