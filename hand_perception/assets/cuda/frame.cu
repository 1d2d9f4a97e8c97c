// From a camera's bytes to the network's input on the GPU, and rows of queries picked there.
//
// The same arithmetic compiles as plain C++, where each kernel is a loop: the tests run that against
// OpenCV. Colours follow OpenCV to the bit (BT.601 in 20-bit fixed point, bilinear Bayer), so that a
// frame looks the same to the network whichever way it came.

typedef unsigned char byte;

#ifdef __CUDACC__
#define DEVICE __device__ __forceinline__
#define KERNEL extern "C" __global__ void
// Defines x and y.
#define FOR_EACH(columns, rows)                          \
    const int x = blockIdx.x * blockDim.x + threadIdx.x; \
    const int y = blockIdx.y * blockDim.y + threadIdx.y; \
    if (x < (columns) && y < (rows))
#else
#include <cmath>
#define DEVICE static inline
#define KERNEL extern "C" void
#define FOR_EACH(columns, rows)      \
    for (int y = 0; y < (rows); ++y) \
        for (int x = 0; x < (columns); ++x)
#endif

// The order of ENCODINGS in runtime/tensorrt_frame.py.
enum Encoding { RGB8, BGR8, RGBA8, BGRA8, MONO8, YUYV, UYVY, NV12, NV21, RGGB, BGGR, GBRG, GRBG };

struct Image {
    const byte *data;
    int width, height, step, encoding;
};

struct Colour {
    int r, g, b;
};

DEVICE int clamp(int value, int low, int high) {
    return value < low ? low : (value > high ? high : value);
}

// ITU-R BT.601, studio swing: factors times 2^20, rounded.
DEVICE Colour from_yuv(int y, int u, int v) {
    const int luma = (y > 16 ? y - 16 : 0) * 1220542, half = 1 << 19;
    u -= 128;
    v -= 128;
    Colour c;
    c.r = clamp((luma + half + 1673527 * v) >> 20, 0, 255);
    c.g = clamp((luma + half - 852492 * v - 409993 * u) >> 20, 0, 255);
    c.b = clamp((luma + half + 2116026 * u) >> 20, 0, 255);
    return c;
}

// The two missing colours of a Bayer pixel are means of its nearest neighbours of that colour; the
// image's rim repeats its neighbours.
DEVICE Colour from_bayer(const Image &image, int x, int y) {
    x = clamp(x, 1, image.width - 2);
    y = clamp(y, 1, image.height - 2);
    const int step = image.step;
    const byte *p = image.data + (long long)y * step + x;
    // Where red lies in each 2x2 cell.
    const int red_x = image.encoding == BGGR || image.encoding == GRBG;
    const int red_y = image.encoding == BGGR || image.encoding == GBRG;
    const bool red_row = (y & 1) == red_y, red_column = (x & 1) == red_x;
    Colour c;
    if (red_row == red_column) {  // on red or on blue
        const int cross = (p[-1] + p[1] + p[-step] + p[step] + 2) >> 2;
        const int corners = (p[-step - 1] + p[-step + 1] + p[step - 1] + p[step + 1] + 2) >> 2;
        c.r = red_row ? p[0] : corners;
        c.g = cross;
        c.b = red_row ? corners : p[0];
    } else {
        const int along = (p[-1] + p[1] + 1) >> 1, across = (p[-step] + p[step] + 1) >> 1;
        c.r = red_row ? along : across;
        c.g = p[0];
        c.b = red_row ? across : along;
    }
    return c;
}

DEVICE Colour pixel(const Image &image, int x, int y) {
    const byte *row = image.data + (long long)y * image.step;
    Colour c;
    switch (image.encoding) {
        case RGB8:
        case RGBA8: {
            const byte *p = row + x * (image.encoding == RGB8 ? 3 : 4);
            c.r = p[0], c.g = p[1], c.b = p[2];
            return c;
        }
        case BGR8:
        case BGRA8: {
            const byte *p = row + x * (image.encoding == BGR8 ? 3 : 4);
            c.r = p[2], c.g = p[1], c.b = p[0];
            return c;
        }
        case MONO8:
            c.r = c.g = c.b = row[x];
            return c;
        case YUYV: {
            const byte *pair = row + (x & ~1) * 2;
            return from_yuv(row[2 * x], pair[1], pair[3]);
        }
        case UYVY: {
            const byte *pair = row + (x & ~1) * 2;
            return from_yuv(row[2 * x + 1], pair[0], pair[2]);
        }
        case NV12:
        case NV21: {
            const byte *chroma = image.data + (long long)(image.height + y / 2) * image.step;
            const int first = chroma[x & ~1], second = chroma[x | 1];
            return image.encoding == NV12 ? from_yuv(row[x], first, second)
                                          : from_yuv(row[x], second, first);
        }
        default:
            return from_bayer(image, x, y);
    }
}

struct Sum {
    float r, g, b;
};

DEVICE void add(Sum &sum, const Colour &c, float weight) {
    sum.r += weight * c.r;
    sum.g += weight * c.g;
    sum.b += weight * c.b;
}

// The mean over the part of the image that a canvas pixel covers.
DEVICE Sum area_mean(const Image &image, int x, int y, float scale_x, float scale_y) {
    const float x0 = x * scale_x, x1 = fminf(x0 + scale_x, (float)image.width);
    const float y0 = y * scale_y, y1 = fminf(y0 + scale_y, (float)image.height);
    Sum sum = {0.f, 0.f, 0.f};
    for (int v = (int)y0; v < image.height && v < y1; ++v) {
        const float high = fminf(v + 1.f, y1) - fmaxf((float)v, y0);
        for (int u = (int)x0; u < image.width && u < x1; ++u) {
            const float wide = fminf(u + 1.f, x1) - fmaxf((float)u, x0);
            add(sum, pixel(image, u, v), wide * high);
        }
    }
    const float area = (x1 - x0) * (y1 - y0);
    sum.r /= area, sum.g /= area, sum.b /= area;
    return sum;
}

DEVICE Sum bilinear(const Image &image, int x, int y, float scale_x, float scale_y) {
    const float u = fminf(fmaxf((x + 0.5f) * scale_x - 0.5f, 0.f), image.width - 1.f);
    const float v = fminf(fmaxf((y + 0.5f) * scale_y - 0.5f, 0.f), image.height - 1.f);
    const int u0 = (int)u, v0 = (int)v;
    const int u1 = clamp(u0 + 1, 0, image.width - 1), v1 = clamp(v0 + 1, 0, image.height - 1);
    const float fu = u - u0, fv = v - v0;
    Sum sum = {0.f, 0.f, 0.f};
    add(sum, pixel(image, u0, v0), (1 - fu) * (1 - fv));
    add(sum, pixel(image, u1, v0), fu * (1 - fv));
    add(sum, pixel(image, u0, v1), (1 - fu) * fv);
    add(sum, pixel(image, u1, v1), fu * fv);
    return sum;
}

// float [3, canvas, canvas]: the image resampled to inner_width x inner_height in the top-left
// corner, grey beyond it, rounded to whole levels as the CPU path does, then x * gain - offset.
KERNEL letterbox_normalise(const byte *data, int width, int height, int step, int encoding,
                           float *out, int canvas, int inner_width, int inner_height, float gain_r,
                           float gain_g, float gain_b, float offset_r, float offset_g,
                           float offset_b) {
    const Image image = {data, width, height, step, encoding};
    const float scale_x = (float)width / inner_width, scale_y = (float)height / inner_height;
    FOR_EACH(canvas, canvas) {
        Sum level = {114.f, 114.f, 114.f};
        if (x < inner_width && y < inner_height) {
            level = inner_width < width ? area_mean(image, x, y, scale_x, scale_y)
                                        : bilinear(image, x, y, scale_x, scale_y);
        }
        const int plane = canvas * canvas, at = y * canvas + x;
        out[at] = rintf(level.r) * gain_r - offset_r;
        out[at + plane] = rintf(level.g) * gain_g - offset_g;
        out[at + 2 * plane] = rintf(level.b) * gain_b - offset_b;
    }
}

// out[k] = rows[chosen[k]] for `count` rows of `width` floats.
KERNEL gather_rows(const float *rows, const int *chosen, float *out, int count, int width) {
    FOR_EACH(width, count) { out[y * width + x] = rows[chosen[y] * width + x]; }
}
