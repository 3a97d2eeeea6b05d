"""The plugin's way to the API server from within a pod."""

from pathlib import Path

import pytest

from conformance.deviceplugin import in_pod
from conformance.kube.errors import KubeconfigError


def test_the_token_is_read_anew_for_each_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(in_pod, "trusting", lambda file: None)
    (tmp_path / "token").write_text("first\n")

    with in_pod.connect_in_pod(tmp_path) as connection:
        first = connection.headers()
        (tmp_path / "token").write_text("second\n")
        second = connection.headers()

    assert connection.server == "https://[fd00::1]:443"
    assert [first["Authorization"], second["Authorization"]] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("host", ["", "10.96.0.1"])
def test_outside_of_a_pod_or_without_a_token_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")

    with pytest.raises(KubeconfigError, match="--kubeconfig"):
        in_pod.connect_in_pod(tmp_path)
