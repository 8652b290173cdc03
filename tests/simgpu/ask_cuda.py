"""Use a GPU by the CUDA driver API: a context, some memory; print as JSON what came of it.

A program for a child process and for containers: standard library only. With `hold` it keeps the memory until its
standard input ends.
"""

import ctypes
import json
import sys
from ctypes import byref

BYTES = 64 * 1024**2
MAJOR, MINOR, COMPUTE_MODE = 75, 76, 20


def main(arguments: list[str]) -> None:
    cuda = ctypes.CDLL("libcuda.so.1")
    version, count = ctypes.c_int(-1), ctypes.c_int(-1)
    codes = [cuda.cuDriverGetVersion(byref(version)), cuda.cuInit(0), cuda.cuDeviceGetCount(byref(count))]
    found: dict[str, object] = {"codes": codes, "version": version.value, "count": count.value}
    if codes == [0, 0, 0]:
        found |= describe(cuda) | use(cuda)
    print(json.dumps(found), flush=True)  # noqa: T201
    if arguments == ["hold"]:
        sys.stdin.read()


def describe(cuda: ctypes.CDLL) -> dict[str, object]:
    device, name, total = ctypes.c_int(), ctypes.create_string_buffer(96), ctypes.c_size_t()
    checked(cuda.cuDeviceGet(byref(device), 0))
    checked(cuda.cuDeviceGetName(name, 96, device))
    checked(cuda.cuDeviceTotalMem_v2(byref(total), device))
    values = {}
    for key, attribute in (("major", MAJOR), ("minor", MINOR), ("compute_mode", COMPUTE_MODE)):
        value = ctypes.c_int()
        checked(cuda.cuDeviceGetAttribute(byref(value), attribute, device))
        values[key] = value.value
    return {"name": name.value.decode(), "total": total.value, **values}


def use(cuda: ctypes.CDLL) -> dict[str, object]:
    """Memory before and after an allocation; the allocation stays."""
    context, address = ctypes.c_void_p(), ctypes.c_ulonglong()
    checked(cuda.cuDevicePrimaryCtxRetain(byref(context), 0))
    checked(cuda.cuCtxSetCurrent(context))
    before = free_memory(cuda)
    checked(cuda.cuMemAlloc_v2(byref(address), ctypes.c_size_t(BYTES)))
    checked(cuda.cuCtxSynchronize())
    return {"free_before": before, "free": free_memory(cuda)}


def free_memory(cuda: ctypes.CDLL) -> int:
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    checked(cuda.cuMemGetInfo_v2(byref(free), byref(total)))
    return free.value


def checked(code: int) -> None:
    if code:
        raise SystemExit(f"a CUDA call returned {code}")


if __name__ == "__main__":
    main(sys.argv[1:])
