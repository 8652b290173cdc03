/* A simulated libcuda.so.1: the calls of the CUDA driver API that mlship makes, with the signatures of cuda.h. */
#include "scenario.h"

#include <limits.h>
#include <pthread.h>
#include <stdint.h>

enum {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    NOT_FOUND = 500,
};
enum { COMPUTE_MODE = 20, CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76 };
#define CREATE_V4_SINCE 12050
#define MOST_ALLOCATIONS 1024
#define FIRST_ADDRESS 0x7f0000000000ull
#define ALIGNMENT 512ull /* of what cuMemAlloc returns */

typedef struct context *Context;
typedef unsigned long long Pointer;

struct context {
    struct device *device;
    int users; /* 0: it is not there */
};
struct allocation {
    Pointer address; /* 0: free to be used */
    size_t bytes;
    struct device *device;
};

static int initialized;
static struct context primary[MOST_DEVICES], created[MOST_DEVICES];
static struct allocation allocation[MOST_ALLOCATIONS];
static Pointer next_address = FIRST_ADDRESS;
static _Thread_local Context current;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* --- what CUDA sees */

/* A GPU, or the first MIG device of one whose MIG mode is on: CUDA enumerates no more than that one. */
static struct device *cuda_device(int ordinal) {
    for (unsigned i = 0; ordinal >= 0 && device_at(NULL, i); i++) {
        struct device *gpu = device_at(NULL, i);
        struct device *seen = gpu->mig == 1 ? device_at(gpu, 0) : gpu;
        if (seen && ordinal-- == 0)
            return seen;
    }
    return NULL;
}

static int count_cuda_devices(void) {
    int count = 0;
    while (cuda_device(count))
        count++;
    return count;
}

/* What a call must return at once, -1 where it can go on. */
static int trouble(const char *call, struct device *device) {
    int code = fault_of(call, device);
    return code >= 0 ? code : initialized ? -1 : NOT_INITIALIZED;
}

#define RETURN_IF(condition, code) \
    do { \
        if (condition) \
            return code; \
    } while (0)
#define CHECK_CALL(device) \
    do { \
        int code = trouble(__func__, device); \
        RETURN_IF(code >= 0, code); \
    } while (0)
#define CHECK_DEVICE(ordinal) \
    do { \
        CHECK_CALL(cuda_device(ordinal)); \
        RETURN_IF(!cuda_device(ordinal), INVALID_DEVICE); \
    } while (0)
#define CHECK_CONTEXT() \
    do { \
        CHECK_CALL(current ? current->device : NULL); \
        RETURN_IF(!current || !current->users, INVALID_CONTEXT); \
    } while (0)

/* --- what others see of this process */

static unsigned long long own_bytes(const struct device *device) {
    unsigned long long sum = 0;
    for (int i = 0; i < MOST_ALLOCATIONS; i++)
        sum += allocation[i].address && allocation[i].device == device ? allocation[i].bytes : 0;
    return sum;
}

static int is_in_use(const struct device *device) {
    for (int i = 0; i < MOST_DEVICES; i++)
        if ((primary[i].users && primary[i].device == device) || (created[i].users && created[i].device == device))
            return 1;
    return own_bytes(device) > 0;
}

static FILE *open_for_writing(const char *folder, char *path, size_t size) {
    if (mkdir(folder, 0777) == 0)
        chmod(folder, 01777); /* processes of other users tell too */
    snprintf(path, size, "%s/.%d", folder, getpid());
    return fopen(path, "w");
}

/* Record which devices this process uses, and how much memory; unknown to others if no folder is writable. */
static void record(void) {
    char draft[512], path[512];
    FILE *file = NULL;
    int number = 0;
    for (; !file && state_folder(number); number++)
        file = open_for_writing(state_folder(number), draft, sizeof draft);
    if (!file)
        return;
    for (int i = 0; cuda_device(i); i++)
        if (is_in_use(cuda_device(i)))
            fprintf(file, "%s %llu\n", cuda_device(i)->uuid, own_bytes(cuda_device(i)));
    fclose(file);
    snprintf(path, sizeof path, "%s/%d", state_folder(number - 1), getpid());
    rename(draft, path);
}

__attribute__((destructor)) static void leave(void) {
    char path[512];
    for (int i = 0; initialized && state_folder(i); i++) {
        snprintf(path, sizeof path, "%s/%d", state_folder(i), getpid());
        unlink(path);
    }
}

/* --- the library */

EXPORT int cuInit(unsigned flags) {
    int code = fault_of(__func__, NULL);
    RETURN_IF(code >= 0, code);
    RETURN_IF(flags, INVALID_VALUE);
    RETURN_IF(!count_cuda_devices(), NO_DEVICE);
    initialized = 1;
    return SUCCESS;
}

EXPORT int cuDriverGetVersion(int *version) {
    int code = fault_of(__func__, NULL);
    RETURN_IF(code >= 0, code);
    RETURN_IF(!version, INVALID_VALUE);
    *version = host.cuda;
    return SUCCESS;
}

static const struct {
    int code;
    const char *name, *text;
} error[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
    {304, "CUDA_ERROR_OPERATING_SYSTEM", "OS call failed or operation not supported on this OS"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {802, "CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
    {804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", "forward compatibility was attempted on non supported HW"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

static int find_error(int code, const char **to, int want_name) {
    RETURN_IF(!to, INVALID_VALUE);
    *to = NULL;
    for (size_t i = 0; i < sizeof error / sizeof *error; i++)
        if (error[i].code == code)
            *to = want_name ? error[i].name : error[i].text;
    return *to ? SUCCESS : INVALID_VALUE;
}

EXPORT int cuGetErrorName(int code, const char **name) {
    int fault = fault_of(__func__, NULL);
    return fault >= 0 ? fault : find_error(code, name, 1);
}

EXPORT int cuGetErrorString(int code, const char **text) {
    int fault = fault_of(__func__, NULL);
    return fault >= 0 ? fault : find_error(code, text, 0);
}

/* --- devices */

EXPORT int cuDeviceGetCount(int *count) {
    CHECK_CALL(NULL);
    RETURN_IF(!count, INVALID_VALUE);
    *count = count_cuda_devices();
    return SUCCESS;
}

EXPORT int cuDeviceGet(int *device, int ordinal) {
    CHECK_DEVICE(ordinal);
    RETURN_IF(!device, INVALID_VALUE);
    *device = ordinal;
    return SUCCESS;
}

EXPORT int cuDeviceGetName(char *name, int length, int device) {
    CHECK_DEVICE(device);
    RETURN_IF(!name || length <= 0, INVALID_VALUE);
    copy(name, length, cuda_device(device)->name);
    return SUCCESS;
}

/* The real driver knows more attributes. */
EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device) {
    CHECK_DEVICE(device);
    RETURN_IF(!value, INVALID_VALUE);
    const struct device *asked = cuda_device(device);
    switch (attribute) {
    case CAPABILITY_MAJOR: *value = asked->cc_major; return SUCCESS;
    case CAPABILITY_MINOR: *value = asked->cc_minor; return SUCCESS;
    case COMPUTE_MODE: *value = asked->compute_mode; return SUCCESS;
    default: return INVALID_VALUE;
    }
}

EXPORT int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    CHECK_DEVICE(device);
    RETURN_IF(!bytes, INVALID_VALUE);
    *bytes = cuda_device(device)->memory - cuda_device(device)->reserved;
    return SUCCESS;
}

/* --- contexts */

EXPORT int cuDevicePrimaryCtxRetain(Context *context, int device) {
    CHECK_DEVICE(device);
    RETURN_IF(!context, INVALID_VALUE);
    pthread_mutex_lock(&lock);
    primary[device].device = cuda_device(device);
    primary[device].users++;
    record();
    pthread_mutex_unlock(&lock);
    *context = &primary[device];
    return SUCCESS;
}

EXPORT int cuDevicePrimaryCtxRelease_v2(int device) {
    CHECK_DEVICE(device);
    RETURN_IF(!primary[device].users, INVALID_CONTEXT);
    pthread_mutex_lock(&lock);
    primary[device].users--;
    record();
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

static int create_context(Context *context, int device) {
    Context next = created;
    pthread_mutex_lock(&lock);
    while (next < created + MOST_DEVICES && next->users)
        next++;
    if (next < created + MOST_DEVICES) {
        *next = (struct context){cuda_device(device), 1};
        *context = current = next;
        record();
    }
    pthread_mutex_unlock(&lock);
    return next < created + MOST_DEVICES ? SUCCESS : OUT_OF_MEMORY;
}

EXPORT int cuCtxCreate_v2(Context *context, unsigned flags, int device) {
    (void)flags;
    CHECK_DEVICE(device);
    return context ? create_context(context, device) : INVALID_VALUE;
}

EXPORT int cuCtxCreate_v3(Context *context, void *affinity, int count, unsigned flags, int device) {
    (void)affinity, (void)count, (void)flags;
    CHECK_DEVICE(device);
    return context ? create_context(context, device) : INVALID_VALUE;
}

EXPORT int cuCtxCreate_v4(Context *context, void *parameters, unsigned flags, int device) {
    (void)parameters, (void)flags;
    CHECK_DEVICE(device);
    RETURN_IF(host.cuda < CREATE_V4_SINCE, NOT_FOUND); /* such a driver has no such function */
    return context ? create_context(context, device) : INVALID_VALUE;
}

EXPORT int cuCtxDestroy_v2(Context context) {
    CHECK_CALL(context ? context->device : NULL);
    RETURN_IF(context < created || context >= created + MOST_DEVICES || !context->users, INVALID_CONTEXT);
    pthread_mutex_lock(&lock);
    context->users = 0;
    current = current == context ? NULL : current;
    record();
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

EXPORT int cuCtxSetCurrent(Context context) {
    CHECK_CALL(context ? context->device : NULL);
    RETURN_IF(context && !context->users, INVALID_CONTEXT);
    current = context;
    return SUCCESS;
}

EXPORT int cuCtxSynchronize(void) {
    CHECK_CONTEXT();
    return SUCCESS;
}

/* --- memory: its addresses are numbers, nothing is behind them */

static int allocate(Pointer *address, size_t bytes) {
    struct allocation *next = allocation;
    while (next < allocation + MOST_ALLOCATIONS && next->address)
        next++;
    RETURN_IF(next == allocation + MOST_ALLOCATIONS || bytes > free_on(current->device), OUT_OF_MEMORY);
    *next = (struct allocation){next_address, bytes, current->device};
    *address = next_address;
    next_address += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    record();
    return SUCCESS;
}

EXPORT int cuMemAlloc_v2(Pointer *address, size_t bytes) {
    CHECK_CONTEXT();
    RETURN_IF(!address || !bytes, INVALID_VALUE);
    pthread_mutex_lock(&lock);
    int code = allocate(address, bytes);
    pthread_mutex_unlock(&lock);
    return code;
}

EXPORT int cuMemFree_v2(Pointer address) {
    CHECK_CONTEXT();
    struct allocation *found = allocation;
    pthread_mutex_lock(&lock);
    while (found < allocation + MOST_ALLOCATIONS && found->address != address)
        found++;
    int is_known = address && found < allocation + MOST_ALLOCATIONS;
    if (is_known)
        found->address = 0;
    record();
    pthread_mutex_unlock(&lock);
    return is_known || !address ? SUCCESS : INVALID_VALUE;
}

EXPORT int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    CHECK_CONTEXT();
    RETURN_IF(!free_bytes || !total, INVALID_VALUE);
    *total = current->device->memory - current->device->reserved;
    *free_bytes = free_on(current->device);
    return SUCCESS;
}

/* --- functions by name */

EXPORT int cuGetProcAddress(const char *name, void **function, int cuda, uint64_t flags);
EXPORT int cuGetProcAddress_v2(const char *name, void **function, int cuda, uint64_t flags, int *status);

/* The name that is asked for has no version; the CUDA version asked for picks the newest that it knew.
 * Asked for a newer CUDA than its own, a driver gives the newest that it has. */
#define SINCE(cuda, name, symbol) {name, (void *)symbol, cuda}
static const struct {
    const char *name;
    void *function;
    int since;
} entry[] = {
    SINCE(2000, "cuInit", cuInit),
    SINCE(2020, "cuDriverGetVersion", cuDriverGetVersion),
    SINCE(6000, "cuGetErrorName", cuGetErrorName),
    SINCE(6000, "cuGetErrorString", cuGetErrorString),
    SINCE(2000, "cuDeviceGetCount", cuDeviceGetCount),
    SINCE(2000, "cuDeviceGet", cuDeviceGet),
    SINCE(2000, "cuDeviceGetName", cuDeviceGetName),
    SINCE(2000, "cuDeviceGetAttribute", cuDeviceGetAttribute),
    SINCE(3020, "cuDeviceTotalMem", cuDeviceTotalMem_v2),
    SINCE(7000, "cuDevicePrimaryCtxRetain", cuDevicePrimaryCtxRetain),
    SINCE(11000, "cuDevicePrimaryCtxRelease", cuDevicePrimaryCtxRelease_v2),
    SINCE(3020, "cuCtxCreate", cuCtxCreate_v2),
    SINCE(11040, "cuCtxCreate", cuCtxCreate_v3),
    SINCE(CREATE_V4_SINCE, "cuCtxCreate", cuCtxCreate_v4),
    SINCE(4000, "cuCtxDestroy", cuCtxDestroy_v2),
    SINCE(4000, "cuCtxSetCurrent", cuCtxSetCurrent),
    SINCE(2000, "cuCtxSynchronize", cuCtxSynchronize),
    SINCE(3020, "cuMemAlloc", cuMemAlloc_v2),
    SINCE(3020, "cuMemFree", cuMemFree_v2),
    SINCE(3020, "cuMemGetInfo", cuMemGetInfo_v2),
    SINCE(11030, "cuGetProcAddress", cuGetProcAddress),
    SINCE(12000, "cuGetProcAddress", cuGetProcAddress_v2),
};
enum { LEGACY_STREAM = 1, PER_THREAD_STREAM = 2 }; /* flags */
enum { FOUND = 0, NO_SUCH_NAME = 1, VERSION_TOO_OLD = 2 };

static int look_up(const char *name, int cuda, void **function) {
    int status = NO_SUCH_NAME, known = host.present ? host.cuda : INT_MAX;
    for (size_t i = 0; i < sizeof entry / sizeof *entry; i++) {
        if (strcmp(entry[i].name, name))
            continue;
        if (entry[i].since <= cuda && entry[i].since <= known) {
            *function = entry[i].function;
            status = FOUND;
        } else if (status == NO_SUCH_NAME) {
            status = VERSION_TOO_OLD;
        }
    }
    return status;
}

int cuGetProcAddress(const char *name, void **function, int cuda, uint64_t flags) {
    int code = fault_of(__func__, NULL);
    RETURN_IF(code >= 0, code);
    RETURN_IF(!name || !function || flags > PER_THREAD_STREAM, INVALID_VALUE);
    return look_up(name, cuda, function) == FOUND ? SUCCESS : NOT_FOUND;
}

int cuGetProcAddress_v2(const char *name, void **function, int cuda, uint64_t flags, int *status) {
    int code = fault_of(__func__, NULL);
    RETURN_IF(code >= 0, code);
    RETURN_IF(!name || !function || flags > PER_THREAD_STREAM, INVALID_VALUE);
    *function = NULL;
    int found = look_up(name, cuda, function);
    if (status)
        *status = found;
    return SUCCESS;
}
