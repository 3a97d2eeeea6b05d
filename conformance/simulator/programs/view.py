"""What one container sees of its machine: devices, driver, device files, environment."""

import msgspec

from conformance.gpu.driver_branches import BRANCHES
from conformance.simulator.hardware import Machine


class Visible(msgspec.Struct, frozen=True):
    """A GPU that a container can use, whole or by one MIG device of it. Memory in MiB."""

    gpu: int
    uuid: str
    name: str
    memory_mib: int
    mig_uuid: str = ""
    profile: str = ""
    mig_memory_mib: int = 0

    @property
    def own_uuid(self) -> str:
        """The UUID of what was given: the MIG device's, else the GPU's."""
        return self.mig_uuid or self.uuid


class View(msgspec.Struct, frozen=True):
    """A container. ``driver`` is empty where no driver is loaded."""

    machine: Machine
    driver: str
    devices: tuple[Visible, ...]
    injected: bool
    """Whether the container runtime put the driver's libraries and nvidia-smi into the container."""
    environment: dict[str, str] = {}
    seconds_since_start: float = 0.0

    @property
    def cuda(self) -> str:
        """The CUDA version of the driver, such as 13.0; empty when its branch has none."""
        return cuda_of(self.driver)

    @property
    def gpus(self) -> tuple[tuple[Visible, ...], ...]:
        """The devices by GPU, in the order of their indices."""
        groups: dict[int, list[Visible]] = {}
        for device in sorted(self.devices, key=lambda each: (each.gpu, each.profile)):
            groups.setdefault(device.gpu, []).append(device)
        return tuple(tuple(group) for group in groups.values())

    @property
    def files(self) -> tuple[str, ...]:
        """The device files: those of the GPUs with their true numbers, and those that every GPU container has."""
        if not self.devices:
            return ()
        mine = [f"/dev/nvidia{gpu}" for gpu in sorted({device.gpu for device in self.devices})]
        mig = ["/dev/nvidia-caps/nvidia-cap1"] if any(device.profile for device in self.devices) else []
        return tuple(sorted((*mine, *mig, "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidiactl")))

    def broken(self, what: str) -> bool:
        """Whether something of hardware.BROKEN is wrong with the machine."""
        return bool(self.machine.broken.get(what))


def cuda_of(driver: str) -> str:
    """The CUDA version that a driver of this version shows; empty when the table has none."""
    number = driver.partition(".")[0]
    pair = next((branch.cuda for branch in BRANCHES if str(branch.number) == number), None)
    return "" if pair is None else f"{pair[0]}.{pair[1]}"
