"""A fix must not make things worse: advice for hosts on which the usual advice would be wrong."""

import inspect
import re
import sys
import tomllib
from dataclasses import replace

import pytest

from mlship.doctor.conditions import NAMED, fill
from mlship.doctor.diagnose import diagnose, findings
from mlship.doctor.facts.fact import UNKNOWN, each
from mlship.doctor.facts.facts import Facts
from mlship.doctor.facts.kernel import PciDevice
from mlship.doctor.finding import Step
from mlship.doctor.rule_texts import RuleText, StepText, rule_texts, with_address
from mlship.doctor.rules import RULES
from mlship.doctor.rules.base import Rule
from mlship.report.doctor.text import story_text
from mlship.resources import read_package_file
from tests.helpers.doctor_hosts import hosts, put, rule_of

_NAMES = re.compile(r"\{(\w+)(?:!q)?\}|\[!?(\w+)\?")


def advice(name: str) -> str:
    (cause,) = diagnose(hosts()[name]).causes
    return "\n".join(f"{step.say} {' '.join(step.commands)}" for step in cause.finding.fix)


@pytest.mark.parametrize(
    ("name", "said", "never"),
    [
        ("require-cuda-unsatisfied", "570.26 or newer", "R470"),
        ("require-cuda-unsatisfied--no-newer-driver-for-this-gpu", "R470 is the last driver", "Update"),
        ("require-not-enforced-cdi", "580.65.06 or newer", "NVIDIA_DISABLE_REQUIRE"),
        ("ldcache-not-updated-debian-ldconfig", "ldconfig=@/sbin/ldconfig", "ldconfig.real"),
        ("ldcache-not-updated-debian-ldconfig--nixos", "@$(command -v ldconfig)", "@/sbin"),
        ("ldcache-not-updated-debian-ldconfig--not-the-hosts", "@/sbin/ldconfig.real", "@$("),
        ("cdi-device-unresolvable--two-files-of-one-folder", "rm /etc/cdi/nvidia-gpu.yaml", "nvidia.yaml"),
        ("cdi-device-unresolvable--not-readable", "chmod 0644", "generate"),
        (
            "apt-signed-by-conflict",
            "rm /etc/apt/sources.list.d/libnvidia-container.list",
            "rm /etc/apt/sources.list.d/nv",
        ),
        ("apt-signed-by-conflict--cuda-repository", "rm /etc/apt/sources.list.d/archive", "apt-get install"),
        ("docker-no-nvidia-driver-registered--installed-after-the-start", "restart docker", "install -y"),
        ("docker-no-nvidia-driver-registered--not-tried", "dnf install -y nvidia-container-toolkit", "apt-get"),
        ("rootless-docker-no-cgroups", "systemctl --user restart docker", "sudo systemctl"),
        ("nvml-unknown-error-after-daemon-reload", "docker restart api", "reboot"),
        ("nvml-unknown-error-after-daemon-reload--kubernetes", "delete the pod", "docker"),
        ("nvml-unknown-error-after-daemon-reload--nerdctl", "nerdctl restart train", "docker"),
        ("selinux-denies-device-nodes--boolean-is-on", "install -y container-selinux", "setsebool"),
        ("visible-devices-unknown-gpu--pod-after-a-move", "delete pod -n gpu plugin-x1", "docker run"),
        ("k8s-no-runtime-nvidia--judge-sparse", "containerd config dump", "docker"),
        ("open-module-on-pre-turing--image-with-the-driver", "rebase to the image's variant", "nvidia-driver-580xx"),
        ("driver-does-not-drive-gpu--nixos", "nvidiaPackages.legacy_580", "install"),
        ("fabric-manager-not-running--another-version-in-the-driver-pod", "another build of the driver", "apt-get"),
        ("gpu-requires-reset--the-driver-asks-for-a-reboot", "sudo reboot", "gpu-reset"),
        ("nvidia-uvm-node-missing--only-in-the-container", "--device /dev/nvidia-uvm-tools", "modprobe"),
        ("pci-window-not-assigned--vmware", "pciPassthru.64bitMMIOSizeGB", "modprobe"),
        ("k8s-no-runtime-nvidia--toolkit-not-installed", "dnf install -y nvidia-container-toolkit", "apt-get"),
        ("cdi-spec-stale-after-driver-upgrade--without-nvidia-ctk", "rpm-ostree install --idempotent nvidia-co", "dnf"),
        ("rootless-docker-no-cgroups--in-a-system-container", "no-cgroups --in-place", "systemctl --user"),
        ("driver-not-loaded-after-kernel-update--build-failed", "boot the previous kernel", "nvidia-open"),
        ("driver-not-loaded-after-kernel-update--build-failed", "nvidia/*/build/make.log", "this driver is too old"),
        ("driver-not-loaded-after-kernel-update", "sudo dkms autoinstall", "make.log"),
        ("nouveau-owns-gpu--beside-a-gpu-of-a-newer-driver", "# add NVIDIA's repository", "support this GPU"),
        ("driver-does-not-drive-gpu--kepler-on-debian", "install -y nvidia-tesla-470-driver", "nvidia-driver-470"),
        ("driver-does-not-drive-gpu--open-module-too", "aur.archlinux.org/nvidia-580xx-utils", "--needed nvidia"),
        ("nouveau-owns-gpu--beside-a-gpu-of-a-newer-driver", "nvidia-driver-pinning-580", "install -y nvidia-driver "),
        ("nouveau-owns-gpu--beside-a-gpu-of-a-newer-driver", "Or leave it", "Install NVIDIA's driver"),
        ("nvml-lib-kmod-mismatch-after-upgrade--in-a-system-container", "-570.2.run --no-kernel-modules", "reboot"),
        ("nvidia-uvm-node-missing--in-a-system-container", "dev/nvidia-uvm none bind", "reboot"),
        ("device-node-of-another-major--in-a-system-container", "dev/nvidia-uvm none bind", "rm /dev"),
        ("secure-boot-unsigned-module--bottlerocket", "kernel.lockdown=none", "mokutil"),
        ("secure-boot-unsigned-module--bottlerocket", "apiclient reboot", "command line"),
        ("secure-boot-unsigned-module--a-key-of-that-name", "mokutil --test-key", "akmods"),
        ("mig-enabled-no-instances--with-the-mig-manager", "mig-manager --field-selector spec.nodeName=", "docker"),
        ("wrong-arch-image", "arm64 only", "docker pull"),
    ],
)
def test_the_advice_fits_the_host(name: str, said: str, never: str) -> None:
    assert said in advice(name)
    assert never not in advice(name)


@pytest.mark.parametrize(
    ("name", "system", "like", "is_image", "said", "never"),
    [
        ("driver-not-installed--by-the-packages", "fedora", "", True, "--apply-live https://mirrors.rpmfusion", "dnf"),
        ("driver-not-installed--by-the-packages", "aurora", "fedora", True, "ostree install --idempotent akmod", "dnf"),
        ("driver-not-installed--by-the-packages", "rhcos", "rhel fedora", True, "GPU Operator", "rpmfusion"),
        ("open-module-on-pre-turing", "centos", "rhel fedora", True, "# build an image", "cuda-drivers"),
        ("open-module-on-pre-turing", "debian", "", False, "purge 'nvidia-*open-*' # add contrib", "*-open'"),
        ("open-module-on-pre-turing", "debian", "", False, "nvidia-driver nvidia-kernel-dkms", "driver-580"),
        ("open-module-on-pre-turing", "ubuntu", "debian", False, "install -y nvidia-driver-580", "kernel-dkms"),
        (
            "driver-does-not-drive-gpu--judge-100-r590-on-pascal",
            "fedora",
            "",
            True,
            "akmod-nvidia-580xx",
            "cuda-drivers",
        ),
        ("open-module-on-pre-turing", None, "", False, "# add NVIDIA's repository", "cuda-drivers-580"),
        ("open-module-on-pre-turing", "rhel", "fedora", False, "nvidia-driver:580-dkms", "install -y cuda-drivers"),
    ],
)
def test_the_driver_is_one_of_the_distribution(
    name: str, system: str | None, like: str, is_image: bool, said: str, never: str
) -> None:
    """An image-based system has its repositories after `--apply-live`; RPM Fusion's are not for RHEL."""
    facts = put(hosts()[name], "host.os.id", system or UNKNOWN)
    facts = put(put(facts, "host.os.like", like), "host.paths", {"/run/ostree-booted": "file"} if is_image else {})
    facts = put(facts, "host.packages.manager", "apt" if not is_image and system else "dnf")
    (step, *_) = next(finding for finding in findings(facts)[0] if finding.id == rule_of(name)).fix
    text = f"{step.say} {' '.join(step.commands)}"
    assert said in text
    assert never not in text


@pytest.mark.parametrize(("socket", "tool"), [("/dev/lxd/sock", "lxc"), ("/dev/incus/sock", "incus")])
@pytest.mark.parametrize("name", ["nvidia-uvm-node-missing", "device-node-of-another-major"])
def test_a_node_comes_by_the_tool_of_the_system_container(name: str, socket: str, tool: str) -> None:
    """LXD and Incus write the configuration of LXC themselves."""
    facts = put(hosts()[f"{name}--in-a-system-container"], "host.paths", {socket: "socket"})
    fix = next(finding for finding in findings(facts)[0] if finding.id == name).fix
    said = [command for step in fix for command in step.commands]
    assert any(command.startswith(f"{tool} config device add CONTAINER ") for command in said)
    assert not any("lxc.mount.entry" in command for command in said)


@pytest.mark.parametrize(
    ("name", "kind", "said", "never"),
    [
        ("nvidia-uvm-node-missing--in-a-system-container", "systemd-nspawn", "--bind=/dev/nvidia-uvm", "lxc"),
        ("nvidia-uvm-node-missing--in-a-system-container", "lxc", "dev/nvidia-uvm none bind", "nspawn"),
        ("device-node-of-another-major--in-a-system-container", "systemd-nspawn", "--bind=/dev/nvidia-uvm", "lxc"),
        ("nvml-lib-kmod-mismatch-after-upgrade--in-a-system-container", "lxc", "Remove the driver's packages", "hold"),
        ("open-module-required--judge-blackwell-closed-module", "lxc", "this system container, replace it", "apt-get"),
    ],
)
def test_advice_in_a_system_container_fits_what_runs_it(name: str, kind: str, said: str, never: str) -> None:
    """The distribution of the machine that runs it is not known there."""
    facts = put(hosts()[name], "host.virtualization", kind)
    fix = next(finding for finding in findings(facts)[0] if finding.id == rule_of(name)).fix
    text = "\n".join(f"{step.say} {' '.join(step.commands)}" for step in fix)
    assert said in text
    assert never not in text


CARDS = {"Fermi": "06c0", "Kepler": "128b", "Pascal": "1b80", "Turing": "1eb8", "Ampere": "2204", "Blackwell": "2901"}


@pytest.mark.parametrize(
    ("cards", "said", "left"),
    [
        (["Kepler", "Ampere"], "sudo ubuntu-drivers install", ["Kepler"]),
        (["Blackwell", "Pascal"], "sudo ubuntu-drivers install", ["Pascal"]),
        (["Pascal", "Turing"], "install -y nvidia-driver-580", []),
        (["Kepler", "Pascal"], "install -y nvidia-driver-580", ["Kepler"]),
        (["Fermi", "Kepler"], "install -y nvidia-driver-470", ["Fermi"]),
        (["Fermi"], "R390 or an older driver was the last", []),
    ],
)
@pytest.mark.parametrize("driver", [None, "nouveau"])
def test_the_driver_is_for_the_newest_gpu(cards: list[str], said: str, left: list[str], driver: str | None) -> None:
    """A card of a dropped generation beside it gets no driver, and the fix says so."""
    pci = tuple(PciDevice("0000:01:00.0", "10de", CARDS[one], "030000", driver, name=one) for one in cards)
    facts = put(hosts()["driver-not-installed"], "kernel.pci", pci)
    (cause,) = diagnose(facts).causes
    text = "\n".join(f"{step.say} {' '.join(step.commands)}" for step in cause.finding.fix)
    assert cause.finding.id == ("nouveau-owns-gpu" if driver else "driver-not-installed")
    assert said in text
    assert ("sudo reboot" in text) is (cards != ["Fermi"])
    assert [one for one in cards if f"does not support {one} at" in text] == left


XID = "NVRM: Xid (PCI:0000:{}:00): 154, GPU recovery action changed from 0x7 (Quux) to {}"
REBOOT, GSP = "gpu-requires-reset--the-driver-asks-for-a-reboot", "gsp-firmware-timeout--gpu-lost-to-nvml"


@pytest.mark.parametrize(
    ("name", "address", "action", "cuda", "causes"),
    [
        (REBOOT, "ff", "0x0 (None)", 999, ["gpu-requires-reset"]),
        (REBOOT, "61", "0x0 (None)", 999, []),
        (REBOOT, "61", "0x1 (GPU Reset Required)", 999, ["gpu-requires-reset"]),
        (REBOOT, "61", "0x1 (GPU Reset Required)", 803, []),
        (REBOOT, "61", "0x3 (Drain P2P)", 999, ["gpu-requires-reset"]),
        (REBOOT, "61", "0x4 (Drain and Reset)", 0, ["gpu-requires-reset"]),
        (GSP, "ff", "0x0 (None)", 0, ["gsp-firmware-timeout"]),
        (GSP, "61", "0x0 (None)", 0, ["gpu-fallen-off-the-bus"]),
    ],
)
def test_xid_154_speaks_for_its_gpu_and_until_the_next(
    name: str, address: str, action: str, cuda: int, causes: list[str]
) -> None:
    """Neither another GPU's line counts, nor an error that no GPU causes."""
    facts, about_gpu = hosts()[name], {"gpu-requires-reset", "gsp-firmware-timeout", "gpu-fallen-off-the-bus"}
    facts = put(facts, "kernel.log", (*each(facts.kernel.log), XID.format(address, action)))
    found = diagnose(put(facts, "host.cuda.init", cuda)).causes
    assert [cause.finding.id for cause in found if cause.finding.id in about_gpu] == causes


@pytest.mark.parametrize(
    ("action", "logged", "said"),
    [
        (None, None, None),
        ("None", "0x4 (Drain and Reset)", None),
        ("Reset", None, "certain: a GPU is in a state that only a reset can clear. --gpu-reset -i 0"),
        ("Reboot", None, "certain: stopped using a GPU until the machine reboots. sudo reboot"),
        ("Drain and Reset", None, "certain: at a reduced capacity --gpu-reset -i 0"),
        ("Drain P2P", "0x4 (Drain and Reset)", "certain: peer-to-peer traffic"),
        (None, "0x4 (Drain and Reset)", "likely: at a reduced capacity --gpu-reset -i N"),
        (None, "0x3 (Drain P2P)", "likely: peer-to-peer traffic"),
    ],
)
def test_the_recovery_action_of_a_gpu_that_works(action: str | None, logged: str | None, said: str | None) -> None:
    """NVML says what is to do now; the log alone may be of before."""
    facts = hosts("healthy")["bare-metal-closed"]
    devices = tuple(replace(one, recovery_action=action or UNKNOWN) for one in each(facts.host.nvml.devices))
    facts = put(facts, "host.nvml.devices", devices)
    facts = put(facts, "kernel.log", (XID.format("3b", logged),) if logged else ())
    found = [cause.finding for cause in diagnose(facts).causes]
    text = " ".join(f"{one.certainty}: {one.cause} {' '.join(c for s in one.fix for c in s.commands)}" for one in found)
    assert bool(found) is bool(said)
    certainty, _, words = (said or "").partition(": ")
    assert text.startswith(certainty)
    assert all(word.lower() in text.lower() for word in words.split())


def test_a_guest_driver_that_its_host_rejects_is_replaced() -> None:
    """Xid 78 tells a vGPU's guest driver from a GPU that fails."""
    facts = hosts()["gpu-does-not-initialise--judge-rm-init-gsp"]
    log = (*each(facts.kernel.log), "NVRM: Xid (PCI:0002:00:00): 78, Guest driver is incompatible with host driver")
    (cause,) = diagnose(put(facts, "kernel.log", log)).causes
    assert "incompatible with the vGPU manager" in cause.finding.cause
    assert "guest driver of the vGPU release" in cause.finding.fix[0].say


def test_a_system_says_once_how_it_installs() -> None:
    assert advice("driver-does-not-drive-gpu--nixos").count("On NixOS") == 1


@pytest.mark.parametrize(
    ("template", "values", "text"),
    [
        ("sudo rm {path!q}", {"path": "/a b"}, "sudo rm '/a b'"),
        ("driver[version? {version}] is old", {"version": "550"}, "driver 550 is old"),
        ("driver[version? {version}][!version? unknown]", {"version": None}, "driver unknown"),
        ("mount {medium: Memory} with {engine}", {}, "mount {medium: Memory} with docker"),
        ("{a}", {"a": "{b} [a?c]"}, "{b} [a?c]"),
    ],
)
def test_fill(template: str, values: dict[str, object], text: str) -> None:
    assert fill(template, Facts(), values) == text


def test_a_template_without_its_value_is_a_bug() -> None:
    with pytest.raises(KeyError, match="version"):
        fill("driver {version}", Facts(), {})


def test_steps_that_do_not_apply_are_left_out() -> None:
    rows = (StepText("A", ("x", "[on?y]"), "on"), StepText("B", when="!on"), StepText("C", when="on !off"))
    text = RuleText("image", "image-fits", "t", "s", (), (), fix=rows)
    assert text.steps(Facts(), {"on": True, "off": None}) == (Step("A", ("x", "y")), Step("C"))
    assert text.steps(Facts(), {"on": 0, "off": None}) == (Step("B"),)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_value_of_a_text_is_passed_by_its_rule(rule: Rule) -> None:
    templates = (
        *(rule.text.cause, *(row.fact + row.command for row in rule.text.decides)),
        *(" ".join((row.say, *row.run)) for row in rule.text.fix),
    )
    named = {name for text in templates for names in _NAMES.findall(text) for name in names}
    named |= {name.lstrip("!") for row in rule.text.fix for name in row.when.split()}
    source = inspect.getsource(sys.modules[rule.compute.__module__])
    known = {"", "where", "on_host", *NAMED, *rule.text.values}
    missing = {name for name in named - known if f'"{name}"' not in source}
    assert not missing


def test_every_source_has_an_address_and_every_document_is_a_source() -> None:
    sources = {source for text in rule_texts().values() for source in text.source}
    assert {source for source in sources if "https://" not in with_address(source)} == set()
    named = tomllib.loads(read_package_file("data/documents.toml"))
    assert {begin for begin in named if not any(source.startswith(begin) for source in sources)} == set()


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("https://a.example/x", "https://a.example/x"),
        ("moby/moby#38729", "moby/moby#38729: https://github.com/moby/moby/issues/38729"),
        ("NVIDIA Xid errors: 79", "NVIDIA Xid errors: 79: https://docs.nvidia.com/deploy/xid-errors/index.html"),
        ("unheard of", "unheard of"),
    ],
)
def test_the_address_of_a_source(source: str, shown: str) -> None:
    assert with_address(source) == shown


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_an_explanation_has_the_fix_without_template_marks(rule: Rule) -> None:
    text = story_text(rule)
    assert "\nFix, in general\n" in text
    assert not re.search(r"\{\w+(!q)?\}|\[!?\w+\?", text)
    assert not re.search(r"(?m)^  [A-Z_]+$", text), "a step is nothing but the name of a value"
