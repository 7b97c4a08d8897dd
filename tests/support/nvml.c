/* A stand-in for NVIDIA's libnvidia-ml.so.1. What it answers is in the file that NVML_SCRIPT names, read anew for each
 * question, a line each; AFTER: only from so many seconds after the file was written on.
 *
 *   device INDEX TOTAL_BYTES
 *   used INDEX BYTES [AFTER]
 *   process INDEX PID BYTES [AFTER]
 *   mig INDEX                           this device is a part of the whole one before it
 *   fail CODE                           every question but nvmlErrorString fails with this code of nvmlReturn_t
 *   lost INDEX                          this device has fallen off the bus
 *   hang                                nvmlDeviceGetMemoryInfo never answers
 *   die SIGNAL                          nvmlDeviceGetMemoryInfo ends who asks by this signal
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, MOST = 16 };

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process_t;
typedef struct { unsigned pid, device; unsigned long long used; } holder_t;

static struct {
    unsigned devices, holders, hangs;
    int failure, signal, whole[MOST], lost[MOST];
    unsigned long long total[MOST], used[MOST];
    holder_t holder[MOST];
} now;
static int handles[MOST];

static int look(void) {
    const char *path = getenv("NVML_SCRIPT");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return DRIVER_NOT_LOADED;
    struct stat written;
    struct timespec clock;
    fstat(fileno(file), &written);
    clock_gettime(CLOCK_REALTIME, &clock);
    double age = difftime(clock.tv_sec, written.st_mtim.tv_sec) + (clock.tv_nsec - written.st_mtim.tv_nsec) / 1e9;
    memset(&now, 0, sizeof now);
    char line[200];
    while (fgets(line, sizeof line, file)) {
        unsigned index = 0, pid = 0;
        unsigned long long bytes = 0;
        double after = 0;
        if (sscanf(line, "device %u %llu", &index, &bytes) == 2 && index < MOST) {
            now.total[index] = bytes, now.whole[index] = -1;
            if (index >= now.devices) now.devices = index + 1;
        } else if (sscanf(line, "used %u %llu %lf", &index, &bytes, &after) >= 2 && index < MOST && age >= after) {
            now.used[index] = bytes;
        } else if (sscanf(line, "process %u %u %llu %lf", &index, &pid, &bytes, &after) >= 3 && age >= after) {
            if (now.holders < MOST) now.holder[now.holders++] = (holder_t){pid, index, bytes};
        } else if (sscanf(line, "mig %u", &index) == 1 && index > 0 && index < MOST) {
            now.whole[index] = (int)index - 1;
        } else if (sscanf(line, "lost %u", &index) == 1 && index < MOST) {
            now.lost[index] = 1;
        }
        sscanf(line, "fail %d", &now.failure);
        sscanf(line, "die %d", &now.signal);
        now.hangs |= !strncmp(line, "hang", 4);
    }
    fclose(file);
    return now.failure;
}

static unsigned index_of(void *device) { return (unsigned)((int *)device - handles); }

int nvmlInit_v2(void) { return look(); }
int nvmlInitWithFlags(unsigned flags) { return (void)flags, look(); }
int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code) {
    return code == DRIVER_NOT_LOADED ? "Driver Not Loaded" : code == GPU_IS_LOST ? "GPU is lost" : "Unknown Error";
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    int failure = look();
    *count = 0;
    for (unsigned index = 0; index < now.devices; index++) *count += now.whole[index] < 0;
    return failure;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    int failure = look();
    for (unsigned slot = 0; slot < now.devices; slot++)
        if (now.whole[slot] < 0 && index-- == 0) return *device = &handles[slot], failure;
    return failure ? failure : INVALID_ARGUMENT;
}

int nvmlDeviceGetName(void *device, char *name, unsigned length) {
    return snprintf(name, length, "Stand-in %u", index_of(device)), SUCCESS;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) {
    return snprintf(uuid, length, "GPU-%u", index_of(device)), SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) {
    unsigned next = index_of(device) + 1;
    *count = !look() && next < now.devices && now.whole[next] >= 0 ? 7 : 0;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **part) {
    unsigned slot = index_of(device) + 1 + index;
    if (look() || slot >= now.devices) return NOT_FOUND;
    for (unsigned between = index_of(device) + 1; between <= slot; between++)
        if (now.whole[between] < 0) return NOT_FOUND;
    return *part = &handles[slot], SUCCESS;
}

int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
    int failure = look();
    while (now.hangs) pause();
    if (now.signal) raise(now.signal);
    unsigned index = index_of(device);
    *memory = (memory_t){now.total[index], now.total[index] - now.used[index], now.used[index]};
    return failure ? failure : now.lost[index] ? GPU_IS_LOST : SUCCESS;
}

#ifndef OLD
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process_t *found) {
    int failure = look();
    unsigned room = *count, number = 0;
    for (unsigned slot = 0; slot < now.holders; slot++) {
        if (now.holder[slot].device != index_of(device)) continue;
        if (number < room) found[number] = (process_t){now.holder[slot].pid, now.holder[slot].used, -1u, -1u};
        number++;
    }
    *count = number;
    return failure ? failure : number > room ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, process_t *found) {
    return (void)device, (void)found, *count = 0, look();
}
#endif
