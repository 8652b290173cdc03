/* A simulated libnvidia-ml.so.1: the calls that mlship makes, with the signatures of NVIDIA's nvml.h. */
#include "scenario.h"

#include <dlfcn.h>

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    LIBRARY_NOT_FOUND = 12,
    FUNCTION_NOT_FOUND = 13,
    VERSION_MISMATCH = 25,
};
#define FABRIC_INFO_V_SINCE 550 /* driver; 535 has no such call */
#define NOT_A_NUMBER 0xFFFFFFFFu /* the instance of a process on a GPU without MIG */

/* The version of a struct is its size and its number. */
#define VERSION(type, number) ((unsigned)(sizeof(type) | (number) << 24))

typedef struct device *Device;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory_v2;
typedef struct { char busIdLegacy[16]; unsigned domain, bus, device, pciDeviceId, pciSubSystemId; char busId[32]; } PciInfo;
typedef struct { unsigned pid; unsigned long long usedGpuMemory; unsigned gpuInstanceId, computeInstanceId; } ProcessInfo;
typedef struct { unsigned version; char branch[80]; } BranchInfo;
typedef struct { unsigned char clusterUuid[16]; int status; unsigned cliqueId; unsigned char state; } FabricInfo;
typedef struct {
    unsigned version;
    unsigned char clusterUuid[16];
    int status;
    unsigned cliqueId;
    unsigned char state;
    unsigned healthMask;
} FabricInfo_v2;
typedef struct {
    unsigned version;
    unsigned char clusterUuid[16];
    int status;
    unsigned cliqueId;
    unsigned char state;
    unsigned healthMask;
    unsigned char healthSummary;
} FabricInfo_v3;

static int initialized;

/* What a call must return at once, -1 where it can go on. */
static int trouble(const char *call, Device device, int needs_device) {
    int code = fault_of(call, device);
    if (code >= 0)
        return code;
    if (!initialized)
        return UNINITIALIZED;
    return needs_device && !is_device(device) ? INVALID_ARGUMENT : -1;
}

#define RETURN_IF(condition, code) \
    do { \
        if (condition) \
            return code; \
    } while (0)
#define CHECK_CALL(device, needs_device) \
    do { \
        int code = trouble(__func__, device, needs_device); \
        RETURN_IF(code >= 0, code); \
    } while (0)
#define CHECK_SYSTEM() CHECK_CALL(NULL, 0)
#define CHECK_DEVICE() CHECK_CALL(device, 1)

static int driver_major(void) { return atoi(host.driver); }

static int give_text(const char *text, char *to, unsigned size) {
    RETURN_IF(!to, INVALID_ARGUMENT);
    RETURN_IF(strlen(text) >= size, INSUFFICIENT_SIZE);
    strcpy(to, text);
    return SUCCESS;
}

static int give_number(long long value, void *to) {
    RETURN_IF(!to, INVALID_ARGUMENT);
    RETURN_IF(value == UNSUPPORTED, NOT_SUPPORTED);
    *(unsigned *)to = value;
    return SUCCESS;
}

/* --- the library */

/* nvmlInit_v2 and nvmlInitWithFlags(0) are one thing: a fault of one is a fault of both. */
EXPORT int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int code = fault_of("nvmlInit_v2", NULL);
    code = code >= 0 ? code : fault_of(__func__, NULL);
    RETURN_IF(code >= 0, code);
    RETURN_IF(!host.present, DRIVER_NOT_LOADED);
    initialized++;
    return SUCCESS;
}

EXPORT int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

/* As the real one: it does not mind that there was no init. */
EXPORT int nvmlShutdown(void) {
    int code = fault_of(__func__, NULL);
    RETURN_IF(code >= 0, code);
    initialized -= initialized > 0;
    return SUCCESS;
}

EXPORT const char *nvmlErrorString(int code) {
    static const char *const text[] = {
        "Success", "Uninitialized", "Invalid Argument", "Not Supported", "Insufficient Permissions",
        "Already Initialized", "Not Found", "Insufficient Size", "Insufficient External Power", "Driver Not Loaded",
        "Timeout", "Interrupt Request Issue", "NVML Shared Library Not Found", "Function Not Found",
        "Corrupted infoROM", "GPU is lost", "GPU requires reset", "GPU access blocked by the operating system",
        "Driver/library version mismatch", "In use by another client", "Insufficient Memory", "No data",
        "vGPU ECC not supported", "Insufficient Resources", "Invalid Frequency", "Argument version mismatch",
        "Requested functionality has been deprecated", "System is not in ready state",
    };
    return code >= 0 && code < (int)(sizeof text / sizeof *text) ? text[code] : "Unknown Error";
}

EXPORT int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    CHECK_SYSTEM();
    return give_text(host.driver, version, length);
}

EXPORT int nvmlSystemGetDriverBranch(BranchInfo *info, unsigned length) {
    CHECK_SYSTEM();
    RETURN_IF(!*host.branch, FUNCTION_NOT_FOUND);
    RETURN_IF(!info, INVALID_ARGUMENT);
    RETURN_IF(info->version != VERSION(BranchInfo, 1), VERSION_MISMATCH);
    return give_text(host.branch, info->branch, length);
}

EXPORT int nvmlSystemGetNVMLVersion(char *version, unsigned length) {
    char text[96];
    int code = fault_of(__func__, NULL);
    RETURN_IF(code >= 0, code); /* it needs no init */
    snprintf(text, sizeof text, "%d.%s", host.cuda / 1000, host.driver);
    return give_text(text, version, length);
}

/* As the real one: whatever libcuda.so.1 the loader finds is asked. */
EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    CHECK_SYSTEM();
    RETURN_IF(!version, INVALID_ARGUMENT);
    if (host.nvml_cuda) {
        *version = host.nvml_cuda;
        return SUCCESS;
    }
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    int (*ask)(int *) = library ? (int (*)(int *))dlsym(library, "cuDriverGetVersion") : NULL;
    RETURN_IF(!ask, LIBRARY_NOT_FOUND);
    return ask(version) ? NOT_FOUND : SUCCESS;
}

/* As the real one: without libcuda it answers with a number that it knows. */
EXPORT int nvmlSystemGetCudaDriverVersion(int *version) {
    CHECK_SYSTEM();
    int code = nvmlSystemGetCudaDriverVersion_v2(version);
    RETURN_IF(code != LIBRARY_NOT_FOUND, code);
    *version = host.cuda;
    return SUCCESS;
}

/* --- devices */

EXPORT int nvmlDeviceGetCount_v2(unsigned *count) {
    CHECK_SYSTEM();
    return give_number(count_devices(NULL), count);
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device *device) {
    CHECK_CALL(device_at(NULL, index), 0);
    RETURN_IF(!device || index >= count_devices(NULL), INVALID_ARGUMENT);
    *device = device_at(NULL, index);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetName(Device device, char *name, unsigned length) {
    CHECK_DEVICE();
    return give_text(device->name, name, length);
}

EXPORT int nvmlDeviceGetUUID(Device device, char *uuid, unsigned length) {
    CHECK_DEVICE();
    return give_text(device->uuid, uuid, length);
}

EXPORT int nvmlDeviceGetPciInfo_v3(Device device, PciInfo *info) {
    CHECK_DEVICE();
    RETURN_IF(!info, INVALID_ARGUMENT);
    memset(info, 0, sizeof *info);
    sscanf(device->pci, "%x:%x:%x", &info->domain, &info->bus, &info->device);
    snprintf(info->busId, sizeof info->busId, "%s", device->pci);
    snprintf(info->busIdLegacy, sizeof info->busIdLegacy, "%04X:%02X:%02X.0", info->domain & 0xFFFF,
             info->bus & 0xFF, info->device & 0xFF);
    info->pciDeviceId = device->pci_device_id;
    info->pciSubSystemId = device->pci_subsystem_id;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMinorNumber(Device device, unsigned *minor) {
    CHECK_DEVICE();
    return give_number(device->minor, minor);
}

EXPORT int nvmlDeviceGetCudaComputeCapability(Device device, int *major, int *minor) {
    CHECK_DEVICE();
    int code = give_number(device->cc_major, major);
    return code ? code : give_number(device->cc_minor, minor);
}

EXPORT int nvmlDeviceGetArchitecture(Device device, unsigned *architecture) {
    CHECK_DEVICE();
    return give_number(device->architecture, architecture);
}

EXPORT int nvmlDeviceGetBrand(Device device, unsigned *brand) {
    CHECK_DEVICE();
    return give_number(device->brand, brand);
}

EXPORT int nvmlDeviceGetMemoryInfo(Device device, Memory *memory) {
    CHECK_DEVICE();
    RETURN_IF(!memory, INVALID_ARGUMENT);
    memory->total = device->memory;
    memory->free = free_on(device);
    memory->used = memory->total - memory->free;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMemoryInfo_v2(Device device, Memory_v2 *memory) {
    CHECK_DEVICE();
    RETURN_IF(!memory, INVALID_ARGUMENT);
    RETURN_IF(memory->version != VERSION(Memory_v2, 2), VERSION_MISMATCH);
    memory->total = device->memory;
    memory->reserved = device->reserved;
    memory->free = free_on(device);
    memory->used = memory->total - memory->reserved - memory->free;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetPersistenceMode(Device device, unsigned *mode) {
    CHECK_DEVICE();
    return give_number(device->persistence, mode);
}

EXPORT int nvmlDeviceGetComputeMode(Device device, unsigned *mode) {
    CHECK_DEVICE();
    return give_number(device->compute_mode, mode);
}

EXPORT int nvmlDeviceGetVirtualizationMode(Device device, unsigned *mode) {
    CHECK_DEVICE();
    return give_number(device->virtualization, mode);
}

/* --- health */

EXPORT int nvmlDeviceGetEccMode(Device device, unsigned *current, unsigned *pending) {
    CHECK_DEVICE();
    int code = give_number(device->ecc, current);
    return code ? code : give_number(device->ecc, pending);
}

EXPORT int nvmlDeviceGetTotalEccErrors(Device device, unsigned type, unsigned counter, unsigned long long *count) {
    CHECK_DEVICE();
    RETURN_IF(!count || type > 1 || counter > 1, INVALID_ARGUMENT);
    RETURN_IF(device->ecc != 1, NOT_SUPPORTED);
    *count = type ? device->ecc_uncorrected : device->ecc_corrected;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetRemappedRows(Device device, unsigned *correctable, unsigned *uncorrectable,
                                     unsigned *pending, unsigned *failed) {
    CHECK_DEVICE();
    RETURN_IF(!correctable || !uncorrectable || !pending || !failed, INVALID_ARGUMENT);
    RETURN_IF(device->remapped_pending == UNSUPPORTED, NOT_SUPPORTED);
    *correctable = device->remapped_correctable;
    *uncorrectable = device->remapped_uncorrectable;
    *pending = device->remapped_pending;
    *failed = device->remapped_failed;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetRetiredPagesPendingStatus(Device device, unsigned *pending) {
    CHECK_DEVICE();
    return give_number(device->retired_pending, pending);
}

EXPORT int nvmlDeviceGetGpuFabricInfo(Device device, FabricInfo *info) {
    CHECK_DEVICE();
    RETURN_IF(!info, INVALID_ARGUMENT);
    RETURN_IF(device->fabric_state == UNSUPPORTED, NOT_SUPPORTED);
    memset(info, 0, sizeof *info);
    info->state = device->fabric_state;
    info->status = device->fabric_status;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetGpuFabricInfoV(Device device, FabricInfo_v3 *info) {
    CHECK_DEVICE();
    RETURN_IF(driver_major() < FABRIC_INFO_V_SINCE, FUNCTION_NOT_FOUND);
    RETURN_IF(!info, INVALID_ARGUMENT);
    unsigned version = info->version;
    RETURN_IF(device->fabric_state == UNSUPPORTED, NOT_SUPPORTED);
    RETURN_IF(version != VERSION(FabricInfo_v2, 2) && version != VERSION(FabricInfo_v3, 3), VERSION_MISMATCH);
    memset(info, 0, version & 0xFFFFFF);
    info->version = version;
    info->state = device->fabric_state;
    info->status = device->fabric_status;
    info->healthMask = device->fabric_health;
    return SUCCESS;
}

/* --- Multi-Instance GPU */

EXPORT int nvmlDeviceGetMigMode(Device device, unsigned *current, unsigned *pending) {
    CHECK_DEVICE();
    int code = give_number(device->parent ? UNSUPPORTED : device->mig, current);
    return code ? code : give_number(device->mig, pending);
}

EXPORT int nvmlDeviceGetMaxMigDeviceCount(Device device, unsigned *count) {
    CHECK_DEVICE();
    return give_number(device->mig == 1 && !device->parent ? device->most_instances : 0, count);
}

EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(Device device, unsigned index, Device *instance) {
    CHECK_DEVICE();
    RETURN_IF(!instance, INVALID_ARGUMENT);
    RETURN_IF(device->mig == UNSUPPORTED || device->parent, NOT_SUPPORTED);
    RETURN_IF(!device_at(device, index), NOT_FOUND);
    *instance = device_at(device, index);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device device, Device *gpu) {
    CHECK_DEVICE();
    RETURN_IF(!gpu || !device->parent, INVALID_ARGUMENT);
    *gpu = device->parent;
    return SUCCESS;
}

EXPORT int nvmlDeviceIsMigDeviceHandle(Device device, unsigned *is_mig) {
    CHECK_DEVICE();
    return give_number(device->parent != NULL, is_mig);
}

EXPORT int nvmlDeviceGetGpuInstanceId(Device device, unsigned *id) {
    CHECK_DEVICE();
    return give_number(device->parent ? device->gpu_instance : UNSUPPORTED, id);
}

EXPORT int nvmlDeviceGetComputeInstanceId(Device device, unsigned *id) {
    CHECK_DEVICE();
    return give_number(device->parent ? device->compute_instance : UNSUPPORTED, id);
}

/* --- processes */

static const struct device *device_of(const struct holder *holder) {
    const struct device *device = host.device;
    while (is_device(device) && strcmp(device->uuid, holder->uuid))
        device++;
    return device;
}

static ProcessInfo process_info(const struct holder *holder) {
    const struct device *device = device_of(holder);
    int is_instance = device->parent != NULL;
    ProcessInfo info = {.pid = holder->pid, .usedGpuMemory = holder->bytes};
    info.gpuInstanceId = is_instance ? device->gpu_instance : NOT_A_NUMBER;
    info.computeInstanceId = is_instance ? device->compute_instance : NOT_A_NUMBER;
    return info;
}

EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned *count, ProcessInfo *infos) {
    CHECK_DEVICE();
    RETURN_IF(!count, INVALID_ARGUMENT);
    struct holder found[MOST_HOLDERS];
    unsigned room = infos ? *count : 0;
    *count = 0;
    for (int i = 0, all = read_holders(found); i < all; i++) {
        if (!holds(&found[i], device))
            continue;
        if (*count < room)
            infos[*count] = process_info(&found[i]);
        ++*count;
    }
    return *count > room ? INSUFFICIENT_SIZE : SUCCESS;
}
