"""Which CUDA runs on which driver, whether a driver is still supported, and what is known to be broken in it.

Every answer may be "unknown": the tables of ``driver_branches`` are a snapshot, and a branch or a CUDA major that they
lack is never judged. Days are given by the caller, nothing here asks the clock.
"""

import re
from collections.abc import Mapping
from datetime import date
from enum import StrEnum
from functools import lru_cache

import msgspec

from conformance.gpu.driver_branches import (
    BRANCHES,
    CONSUMER_PRODUCT,
    MINOR_COMPATIBILITY_FLOOR,
    NEWEST_CUDA_MAJOR,
    NO_BASE_SINCE,
    REGRESSIONS,
    Branch,
    Regression,
)
from conformance.gpu.labels import DRIVER_VERSION, DRIVER_VERSION_PARTS
from conformance.gpu.mig_profiles import MODELS

_DRIVER = re.compile(r"(?P<branch>[1-9][0-9]{1,3})\.(?P<update>[0-9]{1,4})(?:\.(?P<patch>[0-9]{1,3}))?", re.ASCII)
_CUDA = re.compile(r"(?P<major>[1-9][0-9]?)\.(?P<minor>[0-9]{1,2})(?:\.(?P<patch>[0-9]{1,4}))?", re.ASCII)
_BY_NUMBER = {branch.number: branch for branch in BRANCHES}

PTX_CAVEAT = (
    "code that the driver has to compile from PTX of the newer toolkit fails with cudaErrorUnsupportedPtxVersion, and "
    "features that are new in that toolkit may be missing: ship machine code for the GPU, or upgrade the driver"
)


class DriverVersion(msgspec.Struct, frozen=True, order=True):
    """A Linux driver version such as 535.104.05; branch first, then update, then patch, compared as numbers.

    The semantic version 580.65.6, as DRA publishes it, is 580.65.06.
    """

    branch: int
    update: int
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> "DriverVersion":
        """The version that a text names. Raises ValueError for anything else, image tags included."""
        return _driver_version(text)

    def __str__(self) -> str:
        patch = f".{self.patch:02d}" if self.patch else ""
        return f"{self.branch}.{self.update:02d}{patch}"


# The nodes of a fleet have few versions between them.
@lru_cache(maxsize=256)
def _driver_version(text: str) -> DriverVersion:
    match = _DRIVER.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no NVIDIA driver version such as 580.95.05 or 570.26")
    return DriverVersion(int(match["branch"]), int(match["update"]), int(match["patch"] or 0))


class CudaVersion(msgspec.Struct, frozen=True, order=True):
    """A CUDA version such as 12.4 or 12.4.1; the patch is the update of a toolkit and never decides compatibility."""

    major: int
    minor: int
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> "CudaVersion":
        """The version that a text names. Raises ValueError for anything else, such as N/A or a bare major."""
        match = _CUDA.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is no CUDA version such as 12.4 or 13.0.1")
        return cls(int(match["major"]), int(match["minor"]), int(match["patch"] or 0))

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor."""
        return self.major, self.minor

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}" + (f".{self.patch}" if self.patch else "")


class Runs(StrEnum):
    """Whether applications of a CUDA version run on a driver without further packages."""

    NATIVE = "native"
    MINOR_COMPATIBLE = "minor-compatible"
    NOT = "not"
    UNKNOWN = "unknown"


class Compatibility(msgspec.Struct, frozen=True):
    """A verdict with its reason; ``caveat`` is empty except where minor version compatibility limits what runs."""

    runs: Runs
    reason: str
    caveat: str = ""

    def __str__(self) -> str:
        return f"{self.runs}: {self.reason}" + (f"; {self.caveat}" if self.caveat else "")


class Support(StrEnum):
    """Whether NVIDIA maintains a driver branch on some day."""

    SUPPORTED = "supported"
    ENDED = "ended"
    UNKNOWN = "unknown"


class Lifecycle(msgspec.Struct, frozen=True):
    """A branch's support on a day; ``until`` is its last supported day where a source dates it."""

    support: Support
    until: date | None
    reason: str

    def __str__(self) -> str:
        return f"{self.support}: {self.reason}"


class Forward(StrEnum):
    """Whether a forward compatibility package lets a newer CUDA run on an older driver."""

    NOT_NEEDED = "not needed"
    WITH_PACKAGE = "with package"
    NOT_ON_THIS_GPU = "not on this GPU"
    NOT_ON_THIS_DRIVER = "not on this driver"
    UNKNOWN = "unknown"


class ForwardCompatibility(msgspec.Struct, frozen=True):
    """The answer, the package that the image would need (empty when none), and why."""

    forward: Forward
    package: str
    reason: str


def branch_of(driver: DriverVersion) -> Branch | None:
    """The published branch of a driver, or None when the tables do not know it."""
    return _BY_NUMBER.get(driver.branch)


def lifecycle(driver: DriverVersion, on: date) -> Lifecycle:
    """Whether the branch of a driver is supported on a day, both ends included; unknown where no source says."""
    branch = branch_of(driver)
    if branch is None:
        return Lifecycle(Support.UNKNOWN, None, _not_in_tables(driver))
    name = f"R{branch.number} ({branch.designation})"
    if branch.end_of_life is not None:
        return _dated_lifecycle(name, branch.end_of_life, on)
    if branch.gone_by is not None and on >= branch.gone_by:
        return Lifecycle(Support.ENDED, None, f"{name} was no longer in NVIDIA's support matrix of {branch.gone_by}")
    return Lifecycle(Support.UNKNOWN, None, f"the tables have no end of life for {name}")


def runs(cuda: CudaVersion, driver: DriverVersion) -> Compatibility:
    """Whether applications of a CUDA version run on a driver, by the rules of NVIDIA's compatibility guide.

    A driver runs every CUDA up to the one of its branch (native); beyond that other minors of the same major from a
    floor on (minor-compatible). A pod may still see more than its node: the container toolkit mounts the compatibility
    libraries of an image, see ``forward_compatibility``.
    """
    floor = _floor_of_major(cuda.major)
    if floor is None:
        return Compatibility(Runs.UNKNOWN, f"the tables do not know CUDA {cuda.major}")
    branch = branch_of(driver)
    if branch is None:
        return Compatibility(Runs.UNKNOWN, _not_in_tables(driver))
    native = _native_up_to(branch, driver)
    if cuda.release <= native:
        return Compatibility(Runs.NATIVE, f"driver {driver} runs CUDA up to {_dotted(native)}")
    if branch.cuda is None and cuda.major <= NEWEST_CUDA_MAJOR.get(branch.number, cuda.major):
        return Compatibility(Runs.UNKNOWN, f"the tables do not know the CUDA that R{branch.number} is paired with")
    if driver >= floor:
        reason = f"driver {driver} runs CUDA up to {_dotted(native)} in full and every CUDA {cuda.major}.x in part"
        return Compatibility(Runs.MINOR_COMPATIBLE, reason, PTX_CAVEAT)
    return Compatibility(Runs.NOT, f"CUDA {cuda} needs driver {floor} or later, found {driver}")


def forward_compatibility(cuda: CudaVersion, driver: DriverVersion, datacenter: bool | None) -> ForwardCompatibility:
    """Whether ``cuda-compat`` libraries in the image would help; ``datacenter`` is None when the GPU is not known.

    They are meant for data center GPUs, some RTX cards of NGC-ready servers and Jetson; elsewhere CUDA ends with error
    804. Of the base drivers the tables know those that a source names as not accepted. Source: CUDA Compatibility,
    Forward Compatibility.
    """
    verdict = runs(cuda, driver)
    package = f"cuda-compat-{cuda.major}-{cuda.minor}"
    if verdict.runs is Runs.NATIVE:
        return ForwardCompatibility(Forward.NOT_NEEDED, "", verdict.reason)
    since = NO_BASE_SINCE.get(driver.branch)
    if verdict.runs is not Runs.UNKNOWN and since is not None and cuda.release >= since:
        reason = f"{package} does not accept drivers of R{driver.branch} as its base"
        return ForwardCompatibility(Forward.NOT_ON_THIS_DRIVER, "", reason)
    if verdict.runs is Runs.UNKNOWN or datacenter is None:
        reason = verdict.reason if datacenter is not None else "whether this is a data center GPU is not known"
        return ForwardCompatibility(Forward.UNKNOWN, package, reason)
    if not datacenter:
        reason = f"{package} works on data center GPUs; here CUDA would end with error 804"
        return ForwardCompatibility(Forward.NOT_ON_THIS_GPU, "", reason)
    return ForwardCompatibility(Forward.WITH_PACKAGE, package, f"the image has to bring {package}")


def is_data_center(product: str) -> bool | None:
    """Whether a product, as GPU Feature Discovery labels it, is a data center GPU; None when the tables do not know."""
    if CONSUMER_PRODUCT in product:
        return False
    # Cards of one RTX name are sold for servers and for workstations.
    return True if "RTX" not in product and any(product in model.products for model in MODELS) else None


def known_regressions(driver: DriverVersion, product: str | None = None) -> tuple[Regression, ...]:
    """The defects that are known for a driver. Without a product those of every product are given."""
    return tuple(found for found in REGRESSIONS if _within(driver, found) and _concerns(found, product))


def _dated_lifecycle(name: str, until: date, on: date) -> Lifecycle:
    if on <= until:
        return Lifecycle(Support.SUPPORTED, until, f"{name} is supported until {until}")
    return Lifecycle(Support.ENDED, until, f"{name} reached its end of life on {until}")


def _native_up_to(branch: Branch, driver: DriverVersion) -> tuple[int, int]:
    """The newest CUDA that a driver runs in full: that of its branch, or of older ones when it precedes the release."""
    first = DriverVersion.parse(branch.first) if branch.first else driver
    if branch.cuda is not None and driver >= first:
        return branch.cuda
    older = [other.cuda for other in BRANCHES if other.number < branch.number and other.cuda is not None]
    return max(older, default=(0, 0))


@lru_cache(maxsize=16)
def _floor_of_major(major: int) -> DriverVersion | None:
    text = MINOR_COMPATIBILITY_FLOOR.get(major)
    return None if text is None else DriverVersion.parse(text)


def _within(driver: DriverVersion, regression: Regression) -> bool:
    return DriverVersion.parse(regression.first) <= driver <= DriverVersion.parse(regression.last)


def _concerns(regression: Regression, product: str | None) -> bool:
    if product is None or not regression.products:
        return True
    return any(name.casefold() in product.casefold() for name in regression.products)


def _not_in_tables(driver: DriverVersion) -> str:
    return f"the tables do not know the driver branch R{driver.branch}"


def _dotted(release: tuple[int, int]) -> str:
    return f"{release[0]}.{release[1]}"


def labelled_driver(labels: Mapping[str, str]) -> str:
    """The driver version that the labels of a node tell, of whichever release; empty when they tell none."""
    return labels.get(DRIVER_VERSION) or ".".join([labels[key] for key in DRIVER_VERSION_PARTS if labels.get(key)])
