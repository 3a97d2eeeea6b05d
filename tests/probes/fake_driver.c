/* A stand-in for libcuda.so.1 and libnvidia-ml.so.1: FAKE_GPUS devices whose kernel is a loop on the CPU, and what
   the other variables say is wrong with them. Device memory is memory of the process. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static long setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtol(text, NULL, 10) : otherwise;
}

static int is_named(const char *variable, const char *call) {
    const char *name = getenv(variable);
    return name && strcmp(name, call) == 0;
}

/* FAKE_ONLY_ON is the end of a MIG device's UUID; what is wrong is then wrong in its process only. */
static int is_spared(void) {
    const char *only = getenv("FAKE_ONLY_ON"), *visible = getenv("CUDA_VISIBLE_DEVICES");
    return only && !(visible && strcmp(visible + strlen(visible) - strlen(only), only) == 0);
}

static int failing(const char *call) {
    if (is_spared()) return 0;
    if (is_named("FAKE_HANGS", call)) sleep(600);
    if (is_named("FAKE_CRASHES", call)) raise(SIGSEGV);
    return is_named("FAKE_FAILS", call) ? (int)setting("FAKE_CODE", 999) : 0;
}

static int has_mig(void) { return setting("FAKE_MIG", 0) > 0; }

/* --- CUDA ------------------------------------------------------------------------------------------------------ */

/* With MIG a process sees one device, the one that CUDA_VISIBLE_DEVICES names. */
static int cuda_devices(void) {
    if (!has_mig()) return (int)setting("FAKE_GPUS", 1);
    return getenv("CUDA_VISIBLE_DEVICES") ? 1 : 0;
}

EXPORT int cuInit(unsigned flags) { (void)flags; return failing("cuInit"); }

EXPORT int cuGetErrorName(int code, const char **name) {
    *name = code == 802 ? "CUDA_ERROR_SYSTEM_NOT_READY" : code == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : NULL;
    return *name ? 0 : 1;
}

EXPORT int cuDeviceGetCount(int *count) { *count = cuda_devices(); return failing("cuDeviceGetCount"); }
EXPORT int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return ordinal < cuda_devices() ? 0 : 101; }

EXPORT int cuDeviceGetName(char *name, int length, int device) {
    (void)device;
    snprintf(name, length, has_mig() ? "NVIDIA A100-SXM4-40GB MIG 1g.5gb" : "NVIDIA A100-SXM4-40GB");
    return 0;
}

EXPORT int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
    memset(uuid, 0, 16);
    uuid[15] = (unsigned char)device;
    if (has_mig()) uuid[15] = (unsigned char)strtol(strrchr(getenv("CUDA_VISIBLE_DEVICES"), '-') + 1, NULL, 16);
    return 0;
}

EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    *value = attribute == 75 ? 8 : 0;
    return 0;
}

static void *current = NULL;
EXPORT int cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = (void *)(intptr_t)(device + 1);
    return failing("cuDevicePrimaryCtxRetain");
}
EXPORT int cuDevicePrimaryCtxRelease_v2(int device) { (void)device; current = NULL; return 0; }
EXPORT int cuCtxSetCurrent(void *context) { current = context; return 0; }
EXPORT int cuCtxSynchronize(void) { return failing("cuCtxSynchronize"); }
EXPORT int cuModuleLoadData(void **module, const char *program) {
    *module = (void *)program;
    if (!current) return 201;
    return strstr(program, ".target sm_50") && strstr(program, "mad.lo.u32 %y, %factor, %x, %y") ? 0 : 218;
}
EXPORT int cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = module;
    return strstr((const char *)module, name) ? 0 : 500;
}
EXPORT int cuMemAlloc_v2(uint64_t *address, size_t size) {
    *address = (uint64_t)(uintptr_t)malloc(size);
    return failing("cuMemAlloc_v2");
}
EXPORT int cuMemFree_v2(uint64_t address) { free((void *)(uintptr_t)address); return 0; }
EXPORT int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t size) { memcpy((void *)(uintptr_t)to, from, size); return 0; }
EXPORT int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size) { memcpy(to, (void *)(uintptr_t)from, size); return 0; }

EXPORT int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                          unsigned shared, void *stream, void **values, void **extra) {
    (void)shared, (void)stream, (void)extra;
    if (!function || gy != 1 || gz != 1 || by != 1 || bz != 1) return 1;
    uint32_t factor = *(uint32_t *)values[0], count = *(uint32_t *)values[3];
    uint32_t *xs = *(uint32_t **)values[1], *ys = *(uint32_t **)values[2];
    for (uint64_t at = 0; at < (uint64_t)gx * bx && at < count; at++) ys[at] = factor * xs[at] + ys[at];
    for (long wrong = 0; wrong < setting("FAKE_WRONG", 0); wrong++) ys[wrong * 7] ^= 1;
    return failing("cuLaunchKernel");
}

EXPORT int cuMemAllocHost_v2(uint64_t *address, size_t size) { return cuMemAlloc_v2(address, size); }
EXPORT int cuMemFreeHost(void *address) { free(address); return 0; }
EXPORT int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) { (void)stream; return cuMemcpyHtoD_v2(to, from, size); }
EXPORT int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) { (void)stream; return cuMemcpyDtoH_v2(to, from, size); }
EXPORT int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void *stream) { (void)stream; return cuMemcpyHtoD_v2(to, (void *)(uintptr_t)from, size); }
EXPORT int cuMemcpyPeerAsync(uint64_t to, void *taker, uint64_t from, void *giver, size_t size, void *stream) {
    (void)taker, (void)giver, (void)stream;
    return cuMemcpyHtoD_v2(to, (void *)(uintptr_t)from, size);
}
EXPORT int cuDeviceCanAccessPeer(int *possible, int one, int other) { *possible = one + other == 1; return 0; }
EXPORT int cuCtxEnablePeerAccess(void *context, unsigned flags) { (void)context, (void)flags; return 0; }

/* --- NVML ------------------------------------------------------------------------------------------------------ */

struct memory { unsigned long long total, free, used; };
static int handles[64];
static int parts[64];

EXPORT int nvmlInit_v2(void) { return failing("nvmlInit_v2"); }
EXPORT int nvmlSystemGetDriverVersion(char *text, unsigned length) { snprintf(text, length, "580.95.05"); return 0; }
EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return 0; }
EXPORT int nvmlDeviceGetCount_v2(unsigned *count) { *count = (unsigned)setting("FAKE_GPUS", 1); return 0; }
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    handles[index] = (int)index;
    *device = &handles[index];
    return (long)index == setting("FAKE_LOST", -1) ? (int)setting("FAKE_CODE", 15) : 0;
}
static int is_part(void *device) { return (int *)device >= parts && (int *)device < parts + 64; }
EXPORT int nvmlDeviceGetUUID(void *device, char *text, unsigned length) {
    snprintf(text, length, "%s-00000000-0000-0000-0000-0000000000%02x", is_part(device) ? "MIG" : "GPU", *(int *)device);
    return 0;
}
EXPORT int nvmlDeviceGetName(void *device, char *text, unsigned length) {
    snprintf(text, length, "NVIDIA A100-SXM4-40GB%s", is_part(device) ? " MIG 1g.5gb" : "");
    return 0;
}
EXPORT int nvmlDeviceGetMemoryInfo(void *device, struct memory *memory) {
    memory->total = (is_part(device) ? 4864ull : 40960ull) << 20;
    return failing("nvmlDeviceGetMemoryInfo");
}
EXPORT int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    (void)device;
    *current = *pending = has_mig();
    return setting("FAKE_NO_MIG_AT_ALL", 0) ? 3 : 0;
}
EXPORT int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) { (void)device; *count = 7; return 0; }
EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **part) {
    (void)device;
    parts[index] = 16 + (int)index;
    *part = &parts[index];
    return (long)index < setting("FAKE_MIG", 0) ? 0 : 6;
}
