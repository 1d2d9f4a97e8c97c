// Runs the preprocessing kernel on a frame in a file and times it: what nvcc alone can check.
//
//     frame_harness ENCODING WIDTH HEIGHT STEP CANVAS INNER_WIDTH INNER_HEIGHT
//                   GAIN OFFSET REPEATS INPUT OUTPUT
//
// Prints milliseconds, one a line: upload and kernel together for each repeat, then the kernel alone.

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "../../hand_perception/assets/cuda/frame.cu"

static void check(cudaError_t status, const char *what) {
    if (status != cudaSuccess) {
        fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(status));
        exit(1);
    }
}

int main(int count, char **arguments) {
    if (count != 13) return 2;
    int n[8];
    for (int k = 1; k < 8; ++k) n[k] = atoi(arguments[k]);
    const int encoding = n[1], width = n[2], height = n[3], step = n[4];
    const int canvas = n[5], inner_width = n[6], inner_height = n[7];
    const float gain = strtof(arguments[8], nullptr), offset = strtof(arguments[9], nullptr);
    const int repeats = atoi(arguments[10]);

    FILE *input = fopen(arguments[11], "rb");
    if (!input) return 3;
    fseek(input, 0, SEEK_END);
    const size_t bytes = ftell(input), floats = 3 * (size_t)canvas * canvas;
    rewind(input);
    byte *host, *device;
    float *out;
    check(cudaMallocHost(&host, bytes), "cudaMallocHost");
    check(cudaMalloc(&device, bytes), "cudaMalloc");
    check(cudaMalloc(&out, floats * sizeof(float)), "cudaMalloc");
    if (fread(host, 1, bytes, input) != bytes) return 3;

    cudaStream_t stream;
    cudaEvent_t begin, middle, end;
    check(cudaStreamCreate(&stream), "cudaStreamCreate");
    check(cudaEventCreate(&begin), "cudaEventCreate");
    check(cudaEventCreate(&middle), "cudaEventCreate");
    check(cudaEventCreate(&end), "cudaEventCreate");
    const dim3 block(32, 8), grid((canvas + 31) / 32, (canvas + 7) / 8);
    std::vector<float> alone;
    for (int k = 0; k < repeats; ++k) {
        check(cudaEventRecord(begin, stream), "record");
        check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream), "upload");
        check(cudaEventRecord(middle, stream), "record");
        letterbox_normalise<<<grid, block, 0, stream>>>(
            device, width, height, step, encoding, out, canvas, inner_width, inner_height, gain,
            gain, gain, offset, offset, offset);
        check(cudaGetLastError(), "letterbox_normalise");
        check(cudaEventRecord(end, stream), "record");
        check(cudaEventSynchronize(end), "letterbox_normalise");
        float both, kernel;
        cudaEventElapsedTime(&both, begin, end);
        cudaEventElapsedTime(&kernel, middle, end);
        printf("%f\n", both);
        alone.push_back(kernel);
    }
    for (float ms : alone) printf("%f\n", ms);

    std::vector<float> result(floats);
    check(cudaMemcpy(result.data(), out, floats * sizeof(float), cudaMemcpyDeviceToHost), "result");
    FILE *output = fopen(arguments[12], "wb");
    if (!output || fwrite(result.data(), sizeof(float), floats, output) != floats) return 3;
    fclose(output);
    return 0;
}
