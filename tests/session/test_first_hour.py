"""init and check as somebody at a terminal sees them."""

import pytest
from kubeconfigs import context_of

from conformance import cli
from conformance.facts import snapshot
from conformance.reference import load
from conformance.session.first_hour import setup_name

NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "t4-1", "labels": {"agentpool": "t4", "nvidia.com/gpu.product": "Tesla-T4"}},
    "status": {"capacity": {"nvidia.com/gpu": "4"}, "allocatable": {"nvidia.com/gpu": "3"}},
}


@pytest.fixture
def saved(tmp_path):
    """The name of a cluster that is a snapshot of one node."""
    snapshot.save(snapshot.Snapshot.of([NODE]), tmp_path / "shop.json.gz")
    return f"snapshot:{tmp_path / 'shop.json.gz'}"


def test_init_writes_a_set_up_and_says_what_contradicts_it(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    assert cli.main(["init", "--cluster", saved]) == cli.OK

    told = capsys.readouterr().out
    assert "references/shop: 1 pool (1 with GPUs), 0 teams" in told
    assert "t4.gpu: t4-1 offers 3 nvidia.com/gpu" in told
    assert f"pytest --cluster {saved} --gpu-reference=references/shop" in told
    assert (tmp_path / "references/shop/pools.yaml").exists()


def test_what_init_wrote_is_checked_without_a_cluster(saved, tmp_path, capsys):
    cli.main(["init", "--cluster", saved, "-o", str(tmp_path / "mine")])
    capsys.readouterr()

    assert cli.main(["check", str(tmp_path / "mine")]) == cli.OK
    assert "pool-without-taints" in capsys.readouterr().out


def test_init_never_overwrites_and_does_not_even_look_at_the_cluster(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("mine")

    assert cli.main(["init", "--cluster", "snapshot:nowhere.gz", "-o", str(tmp_path)]) == cli.USAGE
    assert "nothing is overwritten" in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize("cluster", ["snapshot:nowhere.gz", "no-such-cluster"])
def test_init_of_a_cluster_that_is_not_there_leaves_nothing_behind(tmp_path, monkeypatch, capsys, cluster):
    monkeypatch.chdir(tmp_path)

    assert cli.main(["init", "--cluster", cluster]) == cli.USAGE
    assert "Traceback" not in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_init_does_not_take_what_a_run_made_for_the_owners(tmp_path, capsys):
    labels = {"gpu-conformance.io/run-id": "abcdefgh"}
    made = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"ml-{n}", "labels": labels}} for n in "abcd"
    ]
    snapshot.save(snapshot.Snapshot.of([NODE, *made]), tmp_path / "shop.json.gz")

    assert cli.main(["init", "--cluster", f"snapshot:{tmp_path / 'shop.json.gz'}", "-o", str(tmp_path / "mine")]) == 4

    told = capsys.readouterr().err
    assert "run abcdefgh of gpu-conformance has namespace ml-a, namespace ml-b, namespace ml-c and 1 more" in told
    assert "gpu-conformance clean --cluster NAME abcdefgh" in told
    assert not (tmp_path / "mine").exists()


def test_check_names_file_and_line_of_everything_that_is_wrong(tmp_path, capsys):
    (tmp_path / "setup.yaml").write_text("name: shop\npools:\n  - name: t4\n    selector: {}\n    node: 3\n")

    assert cli.main(["check", str(tmp_path)]) == cli.USAGE

    told = capsys.readouterr().err
    assert "setup.yaml:4  pools[0].selector: must not be empty" in told
    assert "setup.yaml:5  pools[0].node: is no key here. Did you mean nodes?" in told


def test_check_of_a_folder_that_is_not_there_is_a_usage_error(tmp_path, capsys):
    assert cli.main(["check", str(tmp_path / "nowhere")]) == cli.USAGE
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cluster", "name"),
    [
        ("prod-gpu", "prod-gpu"),
        ("embedded:dev", "dev"),
        ("arn:aws:eks:eu-west-1:1234:cluster/prod", "prod"),
        ("gke_shop_europe-west4_gpu", "gke_shop_europe-west4_gpu"),
        ("snapshot:/tmp/prod.json.gz", "prod"),
        ("kind kind", "kind-kind"),
        ("...", "cluster"),
    ],
)
def test_a_set_up_is_named_for_its_cluster(cluster, name):
    assert setup_name(cluster) == name


@pytest.mark.cluster
def test_init_of_a_living_cluster_finds_its_node_groups(cluster, tmp_path, capsys):
    given = ["--kubeconfig", str(cluster.kubeconfig), "-o", str(tmp_path / "drafted")]
    assert cli.main(["init", "--cluster", context_of(cluster.kubeconfig), *given]) == cli.OK

    groups = {
        pool.selector["eks.amazonaws.com/nodegroup"]: pool.gpu is not None for pool in load(tmp_path / "drafted").pools
    }
    assert groups["a100-training"]
    assert not groups["cpu"]
    assert "could not be read" not in capsys.readouterr().out
