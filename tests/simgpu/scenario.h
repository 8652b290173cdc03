/* The simulated GPU host: read from a scenario file as the library is loaded. scenario.py writes that file.
 *
 * Words the two libraries share: struct host and its devices, faults, and which process holds how much memory. */
#ifndef SCENARIO_H
#define SCENARIO_H

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define UNSUPPORTED (-1) /* this device has no such thing */
#define MOST_DEVICES 64
#define MOST_FAULTS 64
#define MOST_HOLDERS 256

struct device {
    char name[96], uuid[96], pci[32];
    long long cc_major, cc_minor, architecture, brand, memory, reserved, minor, pci_device_id, pci_subsystem_id;
    long long persistence, compute_mode, ecc, ecc_uncorrected, ecc_corrected, retired_pending, virtualization;
    long long remapped_correctable, remapped_uncorrectable, remapped_pending, remapped_failed;
    long long fabric_state, fabric_status, fabric_health;
    long long mig, most_instances, gpu_instance, compute_instance;
    struct device *parent; /* the GPU that a MIG device is a part of; NULL for a GPU */
};

struct fault {
    char kind[8], call[80]; /* "return nvmlInit_v2 9"; "nvmlDeviceGetName/1" is the call for device 1 only */
    int code;
};

/* Memory that a process holds on a device. */
struct holder {
    int pid;
    char uuid[96];
    unsigned long long bytes;
};

static struct {
    int present; /* without a scenario file there is no driver here */
    char driver[80], branch[80];
    int cuda, nvml_cuda;
    int devices, faults;
    struct device device[MOST_DEVICES];
    struct fault fault[MOST_FAULTS];
} host;

EXPORT int mlship_simulated_gpu = 1;

#define TEXT(field) {#field, offsetof(struct device, field), sizeof(((struct device *)0)->field)}
#define NUMBER(field) {#field, offsetof(struct device, field), 0}
static const struct {
    const char *key;
    size_t offset, size; /* size 0: a number */
} device_field[] = {
    TEXT(name), TEXT(uuid), TEXT(pci),
    NUMBER(cc_major), NUMBER(cc_minor), NUMBER(architecture), NUMBER(brand), NUMBER(memory), NUMBER(reserved),
    NUMBER(minor), NUMBER(pci_device_id), NUMBER(pci_subsystem_id),
    NUMBER(persistence), NUMBER(compute_mode), NUMBER(ecc), NUMBER(ecc_uncorrected), NUMBER(ecc_corrected),
    NUMBER(retired_pending), NUMBER(virtualization),
    NUMBER(remapped_correctable), NUMBER(remapped_uncorrectable), NUMBER(remapped_pending), NUMBER(remapped_failed),
    NUMBER(fabric_state), NUMBER(fabric_status), NUMBER(fabric_health),
    NUMBER(mig), NUMBER(most_instances), NUMBER(gpu_instance), NUMBER(compute_instance),
};

/* --- reading the file */

static void refuse(const char *line) {
    fprintf(stderr, "simulated GPU host: the scenario file has a bad line: %s\n", line);
    abort();
}

static void copy(char *to, size_t size, const char *from) { snprintf(to, size, "%s", from); }

static void add_device(const char *line, int is_instance) {
    struct device *next = &host.device[host.devices];
    struct device *gpu = host.devices ? next - 1 : NULL;
    if (host.devices == MOST_DEVICES || (is_instance && !gpu))
        refuse(line);
    if (is_instance) { /* it is what its GPU is, but for the lines that follow */
        gpu = gpu->parent ? gpu->parent : gpu;
        *next = *gpu;
        next->reserved = 0;
    }
    next->parent = is_instance ? gpu : NULL;
    host.devices++;
}

static void describe_device(const char *key, const char *value) {
    if (!host.devices)
        refuse(key);
    char *device = (char *)&host.device[host.devices - 1];
    for (size_t i = 0; i < sizeof device_field / sizeof *device_field; i++) {
        if (strcmp(device_field[i].key, key))
            continue;
        if (device_field[i].size)
            copy(device + device_field[i].offset, device_field[i].size, value);
        else
            *(long long *)(device + device_field[i].offset) = strtoll(value, NULL, 10);
        return;
    }
    refuse(key);
}

static void add_fault(const char *kind, const char *call_and_code) {
    if (host.faults == MOST_FAULTS)
        refuse(call_and_code);
    struct fault *fault = &host.fault[host.faults++];
    copy(fault->kind, sizeof fault->kind, kind);
    copy(fault->call, sizeof fault->call, call_and_code);
    char *code = strchr(fault->call, ' ');
    if (code) {
        fault->code = atoi(code + 1);
        *code = 0;
    }
}

/* "KEY VALUE" a line; the lines after "device" and "instance" describe it. */
static void read_line(char *line) {
    line[strcspn(line, "\n")] = 0;
    char *value = strchr(line, ' ');
    value = value ? (*value = 0, value + 1) : line + strlen(line);
    if (!*line || *line == '#')
        return;
    else if (!strcmp(line, "driver"))
        copy(host.driver, sizeof host.driver, value);
    else if (!strcmp(line, "branch"))
        copy(host.branch, sizeof host.branch, value);
    else if (!strcmp(line, "cuda"))
        host.cuda = atoi(value);
    else if (!strcmp(line, "nvml_cuda"))
        host.nvml_cuda = atoi(value);
    else if (!strcmp(line, "device") || !strcmp(line, "instance"))
        add_device(line, *line == 'i');
    else if (!strcmp(line, "return") || !strcmp(line, "hang") || !strcmp(line, "abort") || !strcmp(line, "exit"))
        add_fault(line, value);
    else
        describe_device(line, value);
}

__attribute__((constructor)) static void read_scenario(void) {
    const char *path = getenv("MLSHIP_SIMGPU");
    FILE *file = fopen(path && *path ? path : "/etc/mlship-simgpu", "r");
    char line[256];
    if (!file)
        return;
    while (fgets(line, sizeof line, file))
        read_line(line);
    fclose(file);
    host.present = 1;
}

/* --- devices */

/* A GPU's place among the GPUs, a MIG device's among its GPU's. */
static int index_of(const struct device *device) {
    int place = 0;
    for (const struct device *other = host.device; other < device; other++)
        place += other->parent == device->parent;
    return place;
}

/* The GPU (parent NULL) or the MIG device of that index; NULL where there is none. */
static struct device *device_at(struct device *parent, unsigned index) {
    for (int i = 0; i < host.devices; i++)
        if (host.device[i].parent == parent && index-- == 0)
            return &host.device[i];
    return NULL;
}

static unsigned count_devices(struct device *parent) {
    unsigned count = 0;
    while (device_at(parent, count))
        count++;
    return count;
}

static int is_device(const struct device *device) {
    return device >= host.device && device < host.device + host.devices;
}

static const struct device *whole(const struct device *device) { return device->parent ? device->parent : device; }

/* --- faults */

static int is_fault_of(const struct fault *fault, const char *call, const struct device *device) {
    char with_index[120];
    snprintf(with_index, sizeof with_index, "%s/%d", call, device ? index_of(whole(device)) : -1);
    return !strcmp(fault->call, call) || !strcmp(fault->call, with_index);
}

/* The code that the scenario has this call return, -1 for none; it may also never return. */
static int fault_of(const char *call, const struct device *device) {
    for (struct fault *fault = host.fault; fault < host.fault + host.faults; fault++) {
        if (!is_fault_of(fault, call, is_device(device) ? device : NULL))
            continue;
        if (!strcmp(fault->kind, "abort"))
            abort();
        if (!strcmp(fault->kind, "exit"))
            _exit(fault->code);
        while (!strcmp(fault->kind, "hang"))
            pause();
        return fault->code;
    }
    return -1;
}

/* --- who holds memory: one file a process and library, "UUID BYTES" a line */

/* In a container with a read-only root, /dev/shm is what can be written. */
static const char *state_folder(int number) {
    const char *asked = getenv("MLSHIP_SIMGPU_STATE");
    if (asked && *asked)
        return number == 0 ? asked : NULL;
    return number == 0 ? "/tmp/.mlship-simgpu" : number == 1 ? "/dev/shm/.mlship-simgpu" : NULL;
}

static int is_alive(int pid) { return kill(pid, 0) == 0 || errno == EPERM; }

static int read_holders_of(const char *folder, int pid, struct holder *found, int room) {
    char path[512], line[160];
    snprintf(path, sizeof path, "%s/%d", folder, pid);
    FILE *file = is_alive(pid) ? fopen(path, "r") : NULL;
    int count = 0;
    while (file && count < room && fgets(line, sizeof line, file)) {
        char *bytes = strchr(line, ' ');
        if (!bytes)
            continue;
        *bytes = 0;
        found[count].pid = pid;
        copy(found[count].uuid, sizeof found[count].uuid, line);
        found[count++].bytes = strtoull(bytes + 1, NULL, 10);
    }
    if (file)
        fclose(file);
    return count;
}

/* Every living process's holdings. */
__attribute__((unused)) static int read_holders(struct holder found[MOST_HOLDERS]) {
    int count = 0;
    for (int i = 0; state_folder(i); i++) {
        DIR *folder = opendir(state_folder(i));
        struct dirent *entry;
        while (folder && (entry = readdir(folder))) {
            int pid = atoi(entry->d_name); /* 0 for "." and for a file that is being written */
            if (pid > 0)
                count += read_holders_of(state_folder(i), pid, found + count, MOST_HOLDERS - count);
        }
        if (folder)
            closedir(folder);
    }
    return count;
}

/* A MIG device's memory is held by those who use that device, a GPU's also by those who use a part of it. */
static int holds(const struct holder *holder, const struct device *device) {
    if (!strcmp(holder->uuid, device->uuid))
        return 1;
    for (int i = 0; i < host.devices; i++)
        if (host.device[i].parent == device && !strcmp(holder->uuid, host.device[i].uuid))
            return 1;
    return 0;
}

static unsigned long long held_on(const struct device *device) {
    struct holder found[MOST_HOLDERS];
    unsigned long long sum = 0;
    for (int i = 0, count = read_holders(found); i < count; i++)
        sum += holds(&found[i], device) ? found[i].bytes : 0;
    return sum;
}

static unsigned long long free_on(const struct device *device) {
    unsigned long long taken = held_on(device) + device->reserved, memory = device->memory;
    return taken < memory ? memory - taken : 0;
}

#endif
