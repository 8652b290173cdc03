"""A fix must not make things worse: advice for hosts on which the usual advice would be wrong."""

import pytest

from mlship.doctor.diagnose import diagnose
from tests.helpers.doctor_hosts import hosts


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
        ("wrong-arch-image", "arm64 only", "docker pull"),
    ],
)
def test_the_advice_fits_the_host(name: str, said: str, never: str) -> None:
    assert said in advice(name)
    assert never not in advice(name)
