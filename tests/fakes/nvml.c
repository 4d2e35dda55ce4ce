/* A libnvidia-ml.so.1 for tests: the functions and structures of nvml.h that RLU uses, answered from a directory and a callback.
 *
 *   <directory>/driver, settings ("cc devtools multigpu"), state ("cc devtools")
 *   <directory>/<gpu>/name, memory (bytes), vbios, uuid, serial, chain
 *   <directory>/<gpu>/ecc ("current pending"), errors, performance, persistence, link.<number> ("0" or "1")
 *   <directory>/fail/<function>.<gpu>        code to give instead, for one GPU
 *
 * A text or value whose file is absent is NOT_SUPPORTED. Reports come from the callback. Nothing answers before nvmlInit_v2.
 */
#include "device_library.h"

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, VERSION_MISMATCH = 25 };

struct memory { unsigned long long total, free, used; };
struct state { unsigned environment, feature, devtools; };
struct settings { unsigned version, environment, feature, devtools, multigpu; };
struct certificate { unsigned size, attestation_size; unsigned char chain[0x1000], attestation_chain[0x1400]; };
struct report { unsigned has_cec, size, cec_size; unsigned char nonce[0x20], report[0x2000], cec[0x1000]; };

static unsigned handles[64];

/* As `slurp`, of a GPU where one is given. */
static long slurp_of(const unsigned *gpu, const char *name, void *into, size_t room)
{
    char path[192];
    if (!gpu)
        return slurp(name, into, room);
    snprintf(path, sizeof path, "%u/%s", *gpu, name);
    return slurp(path, into, room);
}

static int failing(const char *function, const unsigned *gpu)
{
    char name[160];
    if (!opened && strcmp(function, "nvmlInit_v2"))
        return UNINITIALIZED;
    snprintf(name, sizeof name, "fail/%s", function);
    int code = number_in(name);
    if (code || !gpu)
        return code;
    snprintf(name, sizeof name, "fail/%s.%u", function, *gpu);
    return number_in(name);
}

static int text(const char *function, const char *name, const unsigned *gpu, char *into, unsigned room)
{
    unsigned char found[256] = {0};
    int code = failing(function, gpu);
    if (code)
        return code;
    long size = slurp_of(gpu, name, found, sizeof found - 1);
    if (size < 0)
        return NOT_SUPPORTED;
    if ((unsigned long)size >= room)
        return INSUFFICIENT_SIZE;
    memcpy(into, found, (size_t)size + 1);
    return SUCCESS;
}

int nvmlInit_v2(void)
{
    int code = failing("nvmlInit_v2", NULL);
    opened += code == SUCCESS;
    return code;
}

int nvmlShutdown(void) { return opened ? (opened--, SUCCESS) : UNINITIALIZED; }

int nvmlSystemGetDriverVersion(char *into, unsigned room) { return text("nvmlSystemGetDriverVersion", "driver", NULL, into, room); }

int nvmlDeviceGetCount_v2(unsigned *count)
{
    int code = failing("nvmlDeviceGetCount_v2", NULL);
    if (!code)
        *count = (unsigned)number_in("count");
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, unsigned **device)
{
    int code = failing("nvmlDeviceGetHandleByIndex_v2", &index);
    if (code)
        return code;
    if (index >= 64)
        return INVALID_ARGUMENT;
    handles[index] = index;
    *device = &handles[index];
    return SUCCESS;
}

int nvmlDeviceGetName(unsigned *device, char *into, unsigned room) { return text("nvmlDeviceGetName", "name", device, into, room); }
int nvmlDeviceGetVbiosVersion(unsigned *device, char *into, unsigned room) { return text("nvmlDeviceGetVbiosVersion", "vbios", device, into, room); }
int nvmlDeviceGetUUID(unsigned *device, char *into, unsigned room) { return text("nvmlDeviceGetUUID", "uuid", device, into, room); }
int nvmlDeviceGetSerial(unsigned *device, char *into, unsigned room) { return text("nvmlDeviceGetSerial", "serial", device, into, room); }

int nvmlDeviceGetMemoryInfo(unsigned *device, struct memory *memory)
{
    unsigned char found[32] = {0};
    int code = failing("nvmlDeviceGetMemoryInfo", device);
    if (code)
        return code;
    if (slurp_of(device, "memory", found, sizeof found - 1) < 0)
        return NOT_SUPPORTED;
    memory->total = strtoull((char *)found, NULL, 10);
    memory->used = memory->total / 2;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlSystemGetConfComputeSettings(struct settings *settings)
{
    unsigned char found[64] = {0};
    int code = failing("nvmlSystemGetConfComputeSettings", NULL);
    if (code)
        return code;
    if (settings->version != (sizeof *settings | 1u << 24))
        return VERSION_MISMATCH;
    if (slurp("settings", found, sizeof found - 1) < 0)
        return NOT_SUPPORTED;
    sscanf((char *)found, "%u %u %u", &settings->feature, &settings->devtools, &settings->multigpu);
    return SUCCESS;
}

int nvmlSystemGetConfComputeState(struct state *state)
{
    unsigned char found[64] = {0};
    int code = failing("nvmlSystemGetConfComputeState", NULL);
    if (code)
        return code;
    if (slurp("state", found, sizeof found - 1) < 0)
        return NOT_SUPPORTED;
    sscanf((char *)found, "%u %u", &state->feature, &state->devtools);
    return SUCCESS;
}

int nvmlDeviceGetConfComputeGpuCertificate(unsigned *device, struct certificate *certificate)
{
    int code = failing("nvmlDeviceGetConfComputeGpuCertificate", device);
    if (code)
        return code;
    long size = slurp_of(device, "chain", certificate->attestation_chain, sizeof certificate->attestation_chain);
    if (size < 0)
        return NOT_SUPPORTED;
    certificate->attestation_size = (unsigned)size;
    return SUCCESS;
}

int nvmlDeviceGetConfComputeGpuAttestationReport(unsigned *device, struct report *report)
{
    int code = failing("nvmlDeviceGetConfComputeGpuAttestationReport", device);
    if (code)
        return code;
    report->size = sizeof report->report;
    return report_of ? report_of(*device, report->nonce, report->report, &report->size) : NOT_SUPPORTED;
}

/* Up to two numbers of a file. */
static int two_numbers(const char *function, const char *name, unsigned *device, unsigned *first, unsigned *second)
{
    unsigned char found[64] = {0};
    int code = failing(function, device);
    if (code)
        return code;
    if (slurp_of(device, name, found, sizeof found - 1) < 0)
        return NOT_SUPPORTED;
    sscanf((char *)found, "%u %u", first, second);
    return SUCCESS;
}

int nvmlDeviceGetEccMode(unsigned *device, unsigned *current, unsigned *pending) { return two_numbers("nvmlDeviceGetEccMode", "ecc", device, current, pending); }

int nvmlDeviceGetPerformanceState(unsigned *device, unsigned *state)
{
    unsigned none;
    return two_numbers("nvmlDeviceGetPerformanceState", "performance", device, state, &none);
}

int nvmlDeviceGetPersistenceMode(unsigned *device, unsigned *mode)
{
    unsigned none;
    return two_numbers("nvmlDeviceGetPersistenceMode", "persistence", device, mode, &none);
}

int nvmlDeviceGetNvLinkState(unsigned *device, unsigned link, unsigned *active)
{
    char name[32];
    unsigned none;
    if (link >= 18)
        return INVALID_ARGUMENT;
    snprintf(name, sizeof name, "link.%u", link);
    return two_numbers("nvmlDeviceGetNvLinkState", name, device, active, &none);
}

int nvmlDeviceGetTotalEccErrors(unsigned *device, unsigned error_type, unsigned counter_type, unsigned long long *count)
{
    unsigned found = 0, none;
    if (error_type != 1 || counter_type != 0)
        return INVALID_ARGUMENT;
    int code = two_numbers("nvmlDeviceGetTotalEccErrors", "errors", device, &found, &none);
    *count = found;
    return code;
}
