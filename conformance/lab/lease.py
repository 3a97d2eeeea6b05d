"""Leases: the sign of life of every run, and the one that keeps two full runs apart."""

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from conformance.kube.client import Client
from conformance.kube.errors import AlreadyExists, Conflict, KubeError, NotFound
from conformance.kube.names import HOME_NAMESPACE, MANAGED_BY, MANAGED_BY_US, RUN_LABEL
from conformance.kube.paths import path
from conformance.lab.advice import SOME_CLUSTER, clean_command
from conformance.lab.records_namespace import server_now

__all__ = ["FULL_RUN", "Heartbeat", "LeaseHeld", "is_alive", "lease_name"]

FULL_RUN = "full-run"
# Renewals before a Lease runs out; two may fail without harm.
_RENEWALS = 3
# Server times are whole seconds, so two of them can be one second further apart than they were.
_ROUNDING = timedelta(seconds=1)


class LeaseHeld(KubeError):
    """Another run may change nodes on this cluster, or one was killed and has not been cleaned up after."""

    def __init__(self, lease: Mapping[str, Any], *, alive: bool, cluster: str) -> None:
        spec = lease.get("spec") or {}
        self.run_id = str((lease["metadata"].get("labels") or {}).get(RUN_LABEL, ""))
        self.holder = str(spec.get("holderIdentity") or "somebody unknown")
        self.since = str(spec.get("acquireTime") or "an unknown time")
        what = f"run {self.run_id} of {self.holder}, since {self.since}"
        if alive:
            text = (
                f"Another full run is going on: {what}. Two full runs would take nodes from each other. "
                f"Wait until it has ended; if it never will: {clean_command(self.run_id, cluster, force=True)}"
            )
        else:
            text = (
                f"An earlier full run was killed and nobody has cleaned up after it: {what}. What it changed would "
                f"be judged as yours. Run: {clean_command(self.run_id, cluster)}"
            )
        super().__init__(text)


def lease_name(run_id: str) -> str:
    """The name of a run's own Lease."""
    return f"gpuc-{run_id}"


def is_alive(lease: Mapping[str, Any], now: datetime, duration: float) -> bool:
    """Whether the Lease was renewed within its duration, ``now`` being the server's clock.

    The time of the renewal is the one that the API server wrote beside the fields; clocks of two workstations
    never meet. Without it (a server that hides managed fields) the holder's own time has to do.
    """
    seconds = float((lease.get("spec") or {}).get("leaseDurationSeconds") or duration)
    renewed = _renewed(lease)
    return renewed is not None and now - renewed <= timedelta(seconds=seconds) + _ROUNDING


class Heartbeat:
    """Takes and renews the Leases of one run from a thread of its own until it is stopped.

    ``lost`` says why the run may no longer act, None while all is well.
    """

    def __init__(
        self,
        client: Client,
        run_id: str,
        holder: str,
        *,
        full: bool,
        duration: float,
        cluster: str = SOME_CLUSTER,
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._holder = holder
        self._cluster = cluster
        self._names = [lease_name(run_id), *([FULL_RUN] if full else [])]
        self._duration = duration
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{run_id}", daemon=True)
        self._renewed = datetime.now(UTC)
        self.lost: str | None = None

    def start(self) -> None:
        """Take the Leases and begin to renew them.

        Raises LeaseHeld when another full run holds its Lease, or left it behind when it was killed.
        """
        for name in self._names:
            self._take(name)
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing. The Leases stay and run out, until ``release`` or ``clean`` removes them."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def release(self) -> None:
        """Remove the Leases, where they are still this run's."""
        for name in self._names:
            try:
                lease = self._client.get(_path(name))
            except NotFound:
                continue
            if _run_of(lease) == self._run_id:
                self._client.delete(_path(name), uid=lease["metadata"]["uid"])

    def _take(self, name: str) -> None:
        now = _micro_time(self._client.server_time())
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": name,
                "namespace": HOME_NAMESPACE,
                "labels": {RUN_LABEL: self._run_id, MANAGED_BY: MANAGED_BY_US},
            },
            "spec": {
                "holderIdentity": self._holder,
                "leaseDurationSeconds": max(1, round(self._duration)),
                "acquireTime": now,
                "renewTime": now,
            },
        }
        try:
            self._client.create(path("Lease", namespace=HOME_NAMESPACE), lease)
        except AlreadyExists:
            held = self._client.get(_path(name))
            if _run_of(held) != self._run_id:
                alive = is_alive(held, server_now(self._client), self._duration)
                raise LeaseHeld(held, alive=alive, cluster=self._cluster) from None

    def _beat(self) -> None:
        while not self._stopped.wait(self._duration / _RENEWALS):
            try:
                for name in self._names:
                    self._renew(name)
                self._renewed = datetime.now(UTC)
            except KubeError as error:
                silent = (datetime.now(UTC) - self._renewed).total_seconds()
                if silent > self._duration:
                    self.lost = f"its Lease could not be renewed for {silent:.0f} s: {error}"

    def _renew(self, name: str) -> None:
        lease = self._client.get(_path(name))
        if _run_of(lease) != self._run_id:
            self.lost = f"the Lease {HOME_NAMESPACE}/{name} was taken by run {_run_of(lease)}"
            return
        version = lease["metadata"]["resourceVersion"]
        renewal = {
            "metadata": {"resourceVersion": version},
            "spec": {"renewTime": _micro_time(self._client.server_time())},
        }
        try:
            self._client.patch(_path(name), renewal)
        except Conflict:
            self._renew(name)


def _path(name: str) -> str:
    return path("Lease", namespace=HOME_NAMESPACE, name=name)


def _run_of(lease: Mapping[str, Any]) -> str:
    return str((lease["metadata"].get("labels") or {}).get(RUN_LABEL, ""))


def _renewed(lease: Mapping[str, Any]) -> datetime | None:
    metadata, spec = lease.get("metadata") or {}, lease.get("spec") or {}
    written = [str(entry["time"]) for entry in metadata.get("managedFields") or () if entry.get("time")]
    times = written or [str(spec[key]) for key in ("renewTime", "acquireTime") if spec.get(key)]
    return max((datetime.fromisoformat(text) for text in times), default=None)


def _micro_time(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
