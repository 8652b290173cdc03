"""Return codes of NVML and CUDA, in the words of nvml.h and cuda.h."""

_NVML = {
    0: "ok",
    1: "uninitialized",
    2: "invalid argument",
    3: "not supported",
    4: "insufficient permissions",
    6: "not found",
    8: "external power cables are not attached",
    9: "driver not loaded",
    10: "timeout",
    11: "interrupt request issue",
    12: "NVML shared library not found",
    13: "function not found",
    14: "corrupted infoROM",
    15: "GPU is lost",
    16: "GPU requires reset",
    17: "the operating system has blocked the request",
    18: "driver/library version mismatch",
    19: "in use by another client",
    20: "insufficient memory",
    21: "no data",
    23: "insufficient resources",
    27: "not ready",
    28: "GPU not found",
    29: "invalid state",
    999: "unknown error",
}
_CUDA = {
    0: "ok",
    2: "out of memory",
    3: "initialization error",
    34: "CUDA driver is a stub library",
    35: "CUDA driver version is insufficient for CUDA runtime version",
    36: "API call is not supported in the installed CUDA driver",
    46: "CUDA-capable device(s) is/are busy or unavailable",
    98: "invalid device function",
    100: "no CUDA-capable device is detected",
    101: "invalid device ordinal",
    102: "device doesn't have valid Grid license",
    200: "device kernel image is invalid",
    209: "no kernel image is available for execution on the device",
    214: "uncorrectable ECC error encountered",
    218: "a PTX JIT compilation failed",
    222: "the provided PTX was compiled with an unsupported toolchain",
    302: "shared object symbol not found",
    303: "shared object initialization failed",
    304: "OS call failed or operation not supported on this OS",
    700: "an illegal memory access was encountered",
    719: "unspecified launch failure",
    800: "operation not permitted",
    801: "operation not supported",
    802: "system not yet initialized",
    803: "system has unsupported display driver / cuda driver combination",
    804: "forward compatibility was attempted on non supported HW",
    805: "MPS client failed to connect to the MPS control daemon or the MPS server",
    919: "fabric not ready",
    999: "unknown error",
}


def nvml(code: int) -> str:
    """Such as "18 (driver/library version mismatch)"."""
    return f"{code} ({_NVML[code]})" if code in _NVML else str(code)


def cuda(code: int) -> str:
    """Such as "804 (forward compatibility was attempted on non supported HW)"."""
    return f"{code} ({_CUDA[code]})" if code in _CUDA else str(code)
