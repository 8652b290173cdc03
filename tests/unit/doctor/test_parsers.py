"""What doctor's probes make of captured text, and what is masked before it is sent."""

import re
import struct
from pathlib import Path

import pytest

from mlship.doctor.facts.fact import UNKNOWN, Unreadable, known
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.host import Host, PackageChange, Service, Tegra
from mlship.doctor.facts.kernel import Dkms, Kernel
from mlship.doctor.facts.place import NvmlDevice
from mlship.doctor.facts.replay import parse_facts
from mlship.doctor.mask import mask
from mlship.doctor.probes import kernel, kernel_log, module_files, packages, services, system
from mlship.doctor.probes.base import here
from mlship.doctor.probes.driver import nvml_facts
from mlship.doctor.probes.files import below
from mlship.doctor.probes.inside.loader import cache_entries, section
from mlship.doctor.probes.tables import probe_tables
from mlship.driver.child import ChildResult

OPEN = """NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@U22)
GCC version:  gcc version 12.3.0
"""
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        (OPEN, ("580.95.05", "open")),
        (CLOSED, ("550.54.15", "proprietary")),
        (CLOSED.replace("550.54.15", "470.57"), ("470.57", "proprietary")),
        ("", (UNKNOWN, UNKNOWN)),
        ("GCC version: gcc 12.3.0\n", (UNKNOWN, UNKNOWN)),
    ],
)
def test_the_drivers_version_line(text: str, parsed: object) -> None:
    assert kernel.parse_version(text) == parsed


def test_the_drivers_parameters() -> None:
    assert kernel.parse_params('DeviceFileMode: 438\nRegistryDwords: ""\n') == {
        "DeviceFileMode": "438",
        "RegistryDwords": "",
    }


def test_only_character_devices_of_nvidia() -> None:
    text = "Character devices:\n  1 mem\n195 nvidia\n511 nvidia-uvm\n\nBlock devices:\n259 nvidia-block\n"
    assert kernel.proc_devices(text) == {"nvidia": 195, "nvidia-uvm": 511}
    assert kernel.proc_devices(None) == UNKNOWN


def test_boot_time_and_lockdown() -> None:
    assert kernel.boot_time("cpu 1\nbtime 1782885600\n") == "2026-07-01T06:00:00Z"
    assert kernel.boot_time("") == UNKNOWN
    assert kernel.lockdown("none [integrity] confidentiality\n") == "integrity"


def test_signers_in_the_kernels_keyrings() -> None:
    keys = (
        "0b1c2d3e I------     1 perm 1f030000     0     0 asymmetri Canonical Ltd. Kernel Module Signing: "
        "88f752e560a1e0737e31163a466ad7b70a850c19: X509.rsa 0a850c19 []\n"
        "1b1c2d3e I------     1 perm 1f0b0000     0     0 keyring   .builtin_trusted_keys: 2\n"
    )
    assert kernel.signers(keys) == ("Canonical Ltd. Kernel Module Signing",)
    assert kernel.signers("") == UNKNOWN


def test_names_of_the_list_of_pci_ids() -> None:
    ids = "10de  NVIDIA Corporation\n\t20b0  GA100 [A100 SXM4 40GB]\n\t\t10de 1450  sub\n10df  Emulex\n\t20b1  other\n"
    assert kernel.listed_name(ids, "20b0") == "GA100 [A100 SXM4 40GB]"
    assert kernel.listed_name(ids, "20b1") is None


def test_a_gpu_that_fell_off_the_bus_has_revision_ff(tmp_path: Path) -> None:
    folder = tmp_path / "sys/bus/pci/devices/0000:3b:00.0"
    folder.mkdir(parents=True)
    for name, text in (("vendor", "0x10de"), ("device", "0x20b0"), ("class", "0x030200"), ("revision", "0xa1")):
        (folder / name).write_text(text, encoding="ascii")
    (folder / "config").write_bytes(b"\xff" * 64)
    (device,) = known(kernel.pci(tmp_path)) or ()
    assert (device.revision, device.driver) == ("ff", None)


def test_secure_boot_is_read_or_unknown(tmp_path: Path) -> None:
    assert kernel.secure_boot(tmp_path) == UNKNOWN
    (tmp_path / "sys/firmware").mkdir(parents=True)
    assert kernel.secure_boot(tmp_path) == UNKNOWN  # hidden, as in a container
    (tmp_path / "sys/firmware/acpi").mkdir()
    assert kernel.secure_boot(tmp_path) is False
    variables = tmp_path / "sys/firmware/efi/efivars"
    variables.mkdir(parents=True)
    assert isinstance(kernel.secure_boot(tmp_path), Unreadable)
    (variables / "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c").write_bytes(b"\x06\0\0\0\x01")
    assert kernel.secure_boot(tmp_path) is True


def test_dkms(tmp_path: Path) -> None:
    folder = tmp_path / "var/lib/dkms/nvidia"
    (folder / "550.54.15/6.1.0-20/x86_64/module").mkdir(parents=True)
    (folder / "550.54.15/6.1.0-21/x86_64/module").mkdir(parents=True)
    (folder / "kernel-6.1.0-20-x86_64").symlink_to("550.54.15/6.1.0-20/x86_64")
    (folder / "560.35.03").mkdir()
    assert kernel.dkms(tmp_path) == (
        Dkms("nvidia", "550.54.15", "6.1.0-20", "installed"),
        Dkms("nvidia", "550.54.15", "6.1.0-21", "built"),
        Dkms("nvidia", "560.35.03", UNKNOWN, "added"),
    )


def test_the_kernels_log_without_stamps_and_noise() -> None:
    lines = (
        "6,1234,567890,-;NVRM: GPU 0000:3b:00.0: RmInitAdapter failed! (0x26:0x56:1463)",
        " SUBSYSTEM=pci nvidia",
        "[    4.123456] nvidia: module verification failed: signature and/or required key missing",
        "[    4.123456] nvidia: module verification failed: signature and/or required key missing",
        "[    9.000000] usb 1-1: new device",
        '[    9.100000] audit: type=1400 apparmor="STATUS" name="nvidia_modprobe"',
    )
    assert kernel_log.matter(lines) == (
        "NVRM: GPU 0000:3b:00.0: RmInitAdapter failed! (0x26:0x56:1463)",
        "nvidia: module verification failed: signature and/or required key missing",
    )


@pytest.mark.parametrize(
    "lines",
    [
        ["4,9,8,-;NVRM: quux is not supported by the\\x0aNVRM: NVIDIA 1.2 driver release.", " DEVICE=+pci:quux"],
        ["[   12.345678] NVRM: quux is not supported by the", "               NVRM: NVIDIA 1.2 driver release."],
    ],
)
def test_a_message_of_several_lines_is_one(lines: list[str]) -> None:
    """/dev/kmsg escapes the line end, dmesg indents the next line."""
    assert kernel_log.matter(lines) == ("NVRM: quux is not supported by the NVIDIA 1.2 driver release.",)


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("nvidia.ko", "nvidia"),
        ("nvidia-uvm.ko.xz", "nvidia_uvm"),
        ("nvidia-current.ko", "nvidia"),
        ("nvidia-current-uvm.ko.zst", "nvidia_uvm"),
        ("nvidia-tesla-535-drm.ko", "nvidia_drm"),
        ("nvidia-legacy-390xx.ko", "nvidia"),
        ("nvidiafb.ko", "nvidiafb"),
        ("nvidia.ko.sig", None),
        ("nouveau.ko", "nouveau"),
    ],
)
def test_which_module_a_file_is(file: str, module: str | None) -> None:
    assert module_files.module_of(file) == module


def test_of_two_module_files_the_one_that_modprobe_takes(tmp_path: Path) -> None:
    for folder in ("kernel/nvidia-535", "updates/dkms"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "nvidia.ko").touch()
    assert module_files.find_modules(tmp_path) == {"nvidia": tmp_path / "updates/dkms/nvidia.ko"}


def test_modinfo() -> None:
    text = "filename:       /x/nvidia.ko\nlicense:        NVIDIA\nsigner:         host Secure Boot\n"
    assert module_files.parse_modinfo(text)["signer"] == "host Secure Boot"


def test_apts_history_is_in_utc_and_says_who() -> None:
    text = (
        "Start-Date: 2026-07-01  06:12:01\nCommandline: /usr/bin/unattended-upgrade\n"
        "Upgrade: libnvidia-compute-550:amd64 (550.54.14-0ubuntu1, 550.54.15-0ubuntu1), bash:amd64 (5.1, 5.2)\n"
        "Install: linux-image-6.8.0-40-generic:amd64 (6.8.0-40.40, automatic)\nEnd-Date: 2026-07-01  06:12:40\n"
    )
    install, upgrade = packages.apt_history(text)
    assert upgrade == PackageChange(
        upgrade.at,
        "upgrade",
        "libnvidia-compute-550",
        "550.54.14-0ubuntu1",
        "550.54.15-0ubuntu1",
        "unattended-upgrade",
    )
    assert (install.old, install.new, install.package) == (None, "6.8.0-40.40", "linux-image-6.8.0-40-generic")
    assert (known(upgrade.at) or "").endswith("Z")


def test_dnfs_history() -> None:
    text = "2026-07-01T06:00:00+0200 SUBDEBUG Upgraded: kmod-nvidia-3:550.54.15-1.el9.x86_64\nnonsense\n"
    assert packages.dnf_history(text) == (
        PackageChange("2026-07-01T04:00:00Z", "upgrade", "kmod-nvidia", UNKNOWN, "550.54.15-1.el9"),
    )


def test_dpkgs_status_holds_removed_packages_too() -> None:
    text = (
        "Package: libcuda1\nStatus: install ok installed\nVersion: 535.1-1\n\n"
        "Package: nvidia-driver\nStatus: deinstall ok config-files\nVersion: 535.1-1\n\n"
        "Package: bash\nStatus: install ok installed\nVersion: 5.2\n"
    )
    assert packages.dpkg_status(text) == {"libcuda1": "535.1-1"}


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        (
            "a.list",
            "deb [arch=amd64 signed-by=/k.gpg] https://nvidia.github.io/x /\n# deb https://old /\n",
            [("https://nvidia.github.io/x", "/k.gpg")],
        ),
        (
            "a.sources",
            "Types: deb\nURIs: https://a https://b\nSigned-By: /k\n",
            [("https://a", "/k"), ("https://b", "/k")],
        ),
        ("a.sources", "Enabled: no\nURIs: https://a\n", []),
        (
            "a.repo",
            "[cuda]\nbaseurl=https://a\ngpgkey=https://k\n[off]\nbaseurl=https://b\nenabled=0\n",
            [("https://a", "https://k")],
        ),
    ],
)
def test_package_sources(path: str, text: str, found: object) -> None:
    assert list(packages.entries(path, text)) == found


def test_systemds_units() -> None:
    text = (
        "Id=nvidia-fabricmanager.service\nLoadState=not-found\nActiveState=inactive\n\n"
        "Id=docker.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n"
        "ActiveEnterTimestampMonotonic=20000000\n"
    )
    assert services.parse_show(text, "2026-07-01T06:00:00Z") == {
        "nvidia-fabricmanager": None,
        "docker": Service("active", "enabled", started_at="2026-07-01T06:00:20Z"),
    }


def test_wsl_and_jetson(tmp_path: Path) -> None:
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/osrelease").write_text("5.15.153.1-microsoft-standard-WSL2\n", encoding="ascii")
    (tmp_path / "etc").mkdir()
    assert system.virtualization(tmp_path) == "wsl"
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.0, GCID: 1\n", encoding="ascii")
    assert system.tegra(tmp_path) == Tegra("R36.4.0", UNKNOWN, None)


@pytest.mark.parametrize(
    ("mounts", "file", "where"),
    [
        (("/etc/hosts", "/etc/resolv.conf"), None, "container"),
        (("/etc/resolv.conf",), None, "host"),
        ((), ".dockerenv", "host"),
        ((), "run/.containerenv", "container"),
    ],
)
def test_a_host_or_a_container(mounts: tuple[str, ...], file: str | None, where: str, tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    text = "".join(f"1 1 8:1 / {path} rw - ext4 /dev/x rw\n" for path in mounts)
    (tmp_path / "proc/self/mountinfo").write_text(text, encoding="ascii")
    if file:
        (tmp_path / file).touch()
    assert here(tmp_path) == where


def test_links_stay_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/link").symlink_to("/etc/passwd")
    (tmp_path / "etc/loop").symlink_to("loop")
    assert below(tmp_path, "/etc/link") == tmp_path / "etc/passwd"
    assert below(tmp_path, "/../../etc/x") == tmp_path / "etc/x"
    assert not below(tmp_path, "/etc/loop").exists()


def test_the_loaders_cache_without_the_other_width() -> None:
    names = b"libcuda.so.1\0/usr/lib/x/libcuda.so.1\0/usr/lib/i/libcuda.so.1\0"
    start = 48 + 24 * 2
    entries = struct.pack("<iIIIQ", 0x0303, start, start + 13, 0, 0) + struct.pack("<iIIIQ", 3, start, start + 37, 0, 0)
    data = b"glibc-ld.so.cache1.1" + struct.pack("<II", 2, len(names)) + bytes(20) + entries + names
    assert cache_entries(data) == [("libcuda.so.1", "/usr/lib/x/libcuda.so.1")]
    assert cache_entries(data[:60]) == cache_entries(b"") == []


@pytest.mark.parametrize("data", [b"", b"\x7fELF\x02\x01" + bytes(58), b"\x7fELF\x02\x01" + b"\xff" * 70])
def test_what_is_no_elf_file_has_no_section(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    assert section(str(tmp_path / "x"), ".note") is None


def test_an_answer_cut_off_anywhere_is_no_crash() -> None:
    text = '{"event": "answer", "name": "nvmlDeviceGetCount_v2", "device": null, "code": 0, "value": [1]}'
    for end in range(len(text) + 1):
        nvml = nvml_facts(ChildResult([text[:end]], "late").driver)
        assert nvml.device_count in {1, UNKNOWN}
    assert nvml_facts(ChildResult(["3", '"x"', "[]", '{"event": 1}'], "ended", 0).driver).init == Unreadable(
        "the program that asks did not run"
    )


PRIVATE = Facts(
    kernel=Kernel(cmdline="root=UUID=6e3c1d2a-1111-2222-3333-444455556666 ip=10.1.2.3", log=("gpubox7: NVRM: x",)),
    host=Host(
        env={"NVIDIA_API_KEY": "nvapi-1", "LD_LIBRARY_PATH": "/home/alice/lib:/home/bob/lib:/root/x"},
        packages=parse_facts(
            '{"schema": 1, "host": {"packages": {"installed": {"libcudnn9": "9.1.0.70"},'
            ' "sources": [{"uri": "https://alice:pw@mirror.corp.example/nvidia"}, {"uri": "https://nvidia.github.io/x"}]}}}',
            "x",
        ).host.packages,
        nvml=type(Host().nvml)(devices=(NvmlDevice(uuid="GPU-6e3c1d2a-9999-2222-3333-444455556666"),)),
        docker=type(Host().docker)(endpoint="ssh://alice@10.1.2.3"),
    ),
)


def test_what_is_private_is_masked_and_the_rest_stays() -> None:
    masked = mask(PRIVATE, ("gpubox7", "alice", "ubuntu"))
    text = masked.to_json()
    for word in ("alice", "bob", "6e3c1d2a", "10.1.2.3", "nvapi", "gpubox7", "corp"):
        assert word not in text
    assert masked.host.env == {
        "NVIDIA_API_KEY": "***",
        "LD_LIBRARY_PATH": "/home/user1/lib:/home/user2/lib:/root/x",
    }
    assert masked.host.packages.installed == {"libcudnn9": "9.1.0.70"}
    assert "https://nvidia.github.io/x" in text
    assert mask(masked) == masked


def test_a_machine_named_like_a_distribution_stays_a_distribution() -> None:
    facts = parse_facts('{"schema": 1, "host": {"os": {"id": "ubuntu"}}}', "x")
    assert mask(facts, ("ubuntu",)) == facts


@pytest.mark.parametrize(
    ("name", "masked"), [("", False), ("a", False), ("pi", False), ("box", True), ("Linux", False)]
)
def test_short_names_are_not_masked(name: str, masked: bool) -> None:
    facts = Facts(kernel=Kernel(log=("a pi box: NVRM: Linux",)))
    assert (mask(facts, (name,)) != facts) is masked


def test_every_row_of_the_probes_tables_is_a_pattern_or_has_a_source() -> None:
    tables = probe_tables()
    for pattern in (tables.packages, *tables.machines.values(), *tables.pods.values(), *tables.nvidia_smi):
        re.compile(pattern)
    sources = [*(row.source for row in tables.containerd), *(row.source for row in (*tables.cri, *tables.crio))]
    assert all(source.startswith("https://") for source in sources)
