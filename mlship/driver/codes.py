"""Return codes of NVML and CUDA, from mlship/data/codes.toml."""

from collections.abc import Mapping
from dataclasses import dataclass

from mlship.versioned import TableRow, table_reader


@dataclass(frozen=True)
class DriverCode:
    """One return code.

    Attributes:
        name: the constant in nvml.h; empty for CUDA.
        text: the header's description.
        why: the usual cause, and `hint` its fix; both or neither.
    """

    name: str = ""
    text: str = ""
    why: str = ""
    hint: str = ""


class CodeTables(TableRow):
    """The whole file; brands and architectures are NVML's numbers for them, as nvidia-smi prints them."""

    nvml: Mapping[int, DriverCode]
    cuda: Mapping[int, DriverCode]
    brand: Mapping[int, str]
    architecture: Mapping[int, str]


code_tables = table_reader(CodeTables, "codes")


def nvml(code: int) -> str:
    """Such as "18 (driver/library version mismatch)"; for a code newer than the table, nvidia-ml-py's name."""
    text = _described(code, code_tables().nvml)
    return text if text != str(code) else _named_by_pynvml(code)


def _named_by_pynvml(code: int) -> str:
    import pynvml

    names = {value: name for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_")}
    return f"{code} ({names[code]})" if code in names else str(code)


def cuda(code: int) -> str:
    """Such as "804 (forward compatibility was attempted on non supported HW)"."""
    return _described(code, code_tables().cuda)


def cuda_version(number: int) -> str:
    """CUDA's number as a version: 12.4 for 12040."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _described(code: int, codes: Mapping[int, DriverCode]) -> str:
    text = codes[code].text if code in codes else ""
    return f"{code} ({text})" if text else str(code)
