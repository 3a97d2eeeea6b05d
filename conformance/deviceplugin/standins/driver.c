/* A stand-in of libcuda.so.1 and libnvidia-ml.so.1 in one library, for containers that were given simulated GPUs.

   It knows the GPUs whose device files the container has, and of MIG devices those that NVIDIA_VISIBLE_DEVICES names.
   What they are called stands in a file, a line for each fact (hostfiles.py writes it). Device memory is memory of the
   process, and the one kernel that it runs is that of our own probe, y = a * x + y, as a loop on the CPU. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define MOST 64
#define DEFAULT_FILE "/usr/local/nvidia/machine.txt"

enum { NO_DEVICE = 100, INVALID_DEVICE = 101, SYSTEM_NOT_READY = 802, DRIVER_MISMATCH = 803 };
enum { NVML_NOT_FOUND = 6, NVML_NOT_SUPPORTED = 3, NVML_NOT_LOADED = 9, NVML_MISMATCH = 18 };

struct device {
    int gpu;
    int is_part;
    char uuid[64], name[96];
    unsigned long long memory_mib;
};

static struct device gpus[MOST], parts[MOST], usable[MOST];
static int gpu_count, part_count, usable_count, has_read;
static int mig_capable, not_ready, mismatch, computes_wrong;
static char driver[32], cuda[16], compute[16];

static int is_visible(const char *uuid) {
    const char *named = getenv("NVIDIA_VISIBLE_DEVICES");
    return !named || strstr(named, uuid) || !strcmp(named, "all") || !strcmp(named, "void");
}

static int has_file(int gpu) {
    char path[256];
    const char *folder = getenv("GPU_CONFORMANCE_DEV");
    snprintf(path, sizeof path, "%s/nvidia%d", folder ? folder : "/dev", gpu);
    return access(path, F_OK) == 0;
}

static void take(struct device *into, int *count, char **fields, int is_part) {
    struct device *one = &into[(*count)++];
    one->gpu = atoi(fields[1]);
    one->is_part = is_part;
    snprintf(one->uuid, sizeof one->uuid, "%s", fields[2]);
    one->memory_mib = strtoull(fields[3], NULL, 10);
    snprintf(one->name, sizeof one->name, "%s", fields[4]);
}

static void take_line(char *line) {
    char *fields[5] = {"", "", "", "", ""};
    int count = 0;
    for (char *field; count < 5 && (field = strsep(&line, "\t\n"));) fields[count++] = field;
    if (!strcmp(fields[0], "driver")) snprintf(driver, sizeof driver, "%s", fields[1]);
    if (!strcmp(fields[0], "cuda")) snprintf(cuda, sizeof cuda, "%s", fields[1]);
    if (!strcmp(fields[0], "compute")) snprintf(compute, sizeof compute, "%s", fields[1]);
    if (!strcmp(fields[0], "mig-capable")) mig_capable = atoi(fields[1]);
    if (!strcmp(fields[0], "broken")) {
        not_ready |= !strcmp(fields[1], "fabric-manager");
        mismatch |= !strcmp(fields[1], "driver-mismatch");
        computes_wrong |= !strcmp(fields[1], "wrong-results");
    }
    if (!strcmp(fields[0], "gpu") && gpu_count < MOST && has_file(atoi(fields[1]))) take(gpus, &gpu_count, fields, 0);
    if (!strcmp(fields[0], "mig") && part_count < MOST && is_visible(fields[2])) take(parts, &part_count, fields, 1);
}

static int has_parts(int gpu) {
    for (int at = 0; at < part_count; at++) if (parts[at].gpu == gpu) return 1;
    return 0;
}

/* What CUDA may use: whole GPUs, or the one MIG device that CUDA_VISIBLE_DEVICES names, else the first. */
static void choose_usable(void) {
    const char *named = getenv("CUDA_VISIBLE_DEVICES");
    for (int at = 0; at < gpu_count; at++)
        if (!has_parts(gpus[at].gpu) && (!named || strstr(named, gpus[at].uuid) || !strchr(named, '-')))
            usable[usable_count++] = gpus[at];
    if (usable_count) return;
    for (int at = 0; at < part_count && !usable_count; at++)
        if (!named || strstr(named, parts[at].uuid)) usable[usable_count++] = parts[at];
}

static void read_machine(void) {
    if (has_read) return;
    has_read = 1;
    const char *path = getenv("GPU_CONFORMANCE_MACHINE");
    FILE *file = fopen(path ? path : DEFAULT_FILE, "r");
    char line[512];
    while (file && fgets(line, sizeof line, file)) take_line(line);
    if (file) fclose(file);
    choose_usable();
}

/* --- CUDA ------------------------------------------------------------------------------------------------------ */

EXPORT int cuInit(unsigned flags) {
    (void)flags;
    read_machine();
    if (!*driver || !usable_count) return NO_DEVICE;
    return mismatch ? DRIVER_MISMATCH : not_ready ? SYSTEM_NOT_READY : 0;
}

EXPORT int cuGetErrorName(int code, const char **name) {
    *name = code == NO_DEVICE          ? "CUDA_ERROR_NO_DEVICE"
            : code == SYSTEM_NOT_READY ? "CUDA_ERROR_SYSTEM_NOT_READY"
            : code == DRIVER_MISMATCH  ? "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"
                                       : NULL;
    return *name ? 0 : 1;
}

EXPORT int cuDeviceGetCount(int *count) { *count = usable_count; return 0; }
EXPORT int cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return ordinal >= 0 && ordinal < usable_count ? 0 : INVALID_DEVICE;
}

EXPORT int cuDeviceGetName(char *name, int length, int device) {
    struct device *one = &usable[device];
    const char *whole = one->name;
    for (int at = 0; one->is_part && at < gpu_count; at++) if (gpus[at].gpu == one->gpu) whole = gpus[at].name;
    if (one->is_part) snprintf(name, (size_t)length, "%s MIG %s", whole, one->name);
    else snprintf(name, (size_t)length, "%s", whole);
    return 0;
}

EXPORT int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
    const char *text = strchr(usable[device].uuid, '-') + 1;
    for (int at = 0; at < 16 && *text; text++) {
        unsigned byte;
        if (*text == '-') continue;
        if (sscanf(text++, "%2x", &byte) != 1) break;
        uuid[at++] = (unsigned char)byte;
    }
    return 0;
}

EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    const char *minor = strchr(compute, '.');
    *value = attribute == 75 ? atoi(compute) : attribute == 76 && minor ? atoi(minor + 1) : 0;
    return 0;
}

static void *current = NULL;
EXPORT int cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = (void *)(intptr_t)(device + 1);
    return 0;
}
EXPORT int cuDevicePrimaryCtxRelease_v2(int device) { (void)device; current = NULL; return 0; }
EXPORT int cuCtxSetCurrent(void *context) { current = context; return 0; }
EXPORT int cuCtxSynchronize(void) { return 0; }
EXPORT int cuModuleLoadData(void **module, const char *program) {
    *module = (void *)program;
    if (!current) return 201;
    return strstr(program, "mad.lo.u32") ? 0 : 218;
}
EXPORT int cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = module;
    return strstr((const char *)module, name) ? 0 : 500;
}
EXPORT int cuMemAlloc_v2(uint64_t *address, size_t size) {
    *address = (uint64_t)(uintptr_t)malloc(size);
    return *address ? 0 : 2;
}
EXPORT int cuMemFree_v2(uint64_t address) { free((void *)(uintptr_t)address); return 0; }

static int copy(uint64_t to, uint64_t from, size_t size) {
    memcpy((void *)(uintptr_t)to, (void *)(uintptr_t)from, size);
    return 0;
}
EXPORT int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t size) { return copy(to, (uintptr_t)from, size); }
EXPORT int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size) { return copy((uintptr_t)to, from, size); }

EXPORT int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                          unsigned shared, void *stream, void **values, void **extra) {
    (void)shared, (void)stream, (void)extra;
    if (!function || gy != 1 || gz != 1 || by != 1 || bz != 1) return 1;
    uint32_t factor = *(uint32_t *)values[0], count = *(uint32_t *)values[3];
    uint32_t *xs = *(uint32_t **)values[1], *ys = *(uint32_t **)values[2];
    for (uint64_t at = 0; at < (uint64_t)gx * bx && at < count; at++) ys[at] = factor * xs[at] + ys[at];
    for (uint32_t at = 0; computes_wrong && at < 17 && at < count; at++) ys[at] ^= 1;
    return 0;
}

EXPORT int cuMemAllocHost_v2(uint64_t *address, size_t size) { return cuMemAlloc_v2(address, size); }
EXPORT int cuMemFreeHost(void *address) { free(address); return 0; }
EXPORT int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) {
    (void)stream;
    return copy(to, (uintptr_t)from, size);
}
EXPORT int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) {
    (void)stream;
    return copy((uintptr_t)to, from, size);
}
EXPORT int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void *stream) {
    (void)stream;
    return copy(to, from, size);
}
EXPORT int cuMemcpyPeerAsync(uint64_t to, void *taker, uint64_t from, void *giver, size_t size, void *stream) {
    (void)taker, (void)giver, (void)stream;
    return copy(to, from, size);
}
EXPORT int cuDeviceCanAccessPeer(int *possible, int one, int other) { *possible = one != other; return 0; }
EXPORT int cuCtxEnablePeerAccess(void *context, unsigned flags) { (void)context, (void)flags; return 0; }

/* --- NVML ------------------------------------------------------------------------------------------------------ */

struct memory { unsigned long long total, free, used; };

EXPORT int nvmlInit_v2(void) {
    read_machine();
    return !*driver ? NVML_NOT_LOADED : mismatch ? NVML_MISMATCH : 0;
}
EXPORT int nvmlSystemGetDriverVersion(char *text, unsigned length) { snprintf(text, length, "%s", driver); return 0; }
EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    const char *minor = strchr(cuda, '.');
    *version = atoi(cuda) * 1000 + (minor ? atoi(minor + 1) * 10 : 0);
    return 0;
}
EXPORT int nvmlDeviceGetCount_v2(unsigned *count) { *count = (unsigned)gpu_count; return 0; }
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (index >= (unsigned)gpu_count) return NVML_NOT_FOUND;
    *device = &gpus[index];
    return 0;
}
EXPORT int nvmlDeviceGetUUID(void *device, char *text, unsigned length) {
    snprintf(text, length, "%s", ((struct device *)device)->uuid);
    return 0;
}
EXPORT int nvmlDeviceGetName(void *device, char *text, unsigned length) {
    struct device *one = device;
    for (int at = 0; one->is_part && at < gpu_count; at++)
        if (gpus[at].gpu == one->gpu) return snprintf(text, length, "%s MIG %s", gpus[at].name, one->name), 0;
    snprintf(text, length, "%s", one->name);
    return 0;
}
EXPORT int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory) {
    memory->total = memory->free = ((struct device *)device)->memory_mib << 20;
    memory->used = 0;
    return 0;
}
EXPORT int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *pending) {
    *now = *pending = (unsigned)has_parts(((struct device *)device)->gpu);
    return mig_capable ? 0 : NVML_NOT_SUPPORTED;
}
EXPORT int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) { (void)device; *count = 7; return 0; }
EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **part) {
    unsigned seen = 0;
    for (int at = 0; at < part_count; at++)
        if (parts[at].gpu == ((struct device *)device)->gpu && seen++ == index) return *part = &parts[at], 0;
    return NVML_NOT_FOUND;
}
