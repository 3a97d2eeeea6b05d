import pytest
import yaml

from conformance import cli
from conformance.doctor.rights import rights_of
from conformance.facts.kinds import KINDS
from conformance.kube.effects import Mode


def test_the_catalogue_lists_every_requirement_with_level_and_effect(capsys):
    assert cli.main(["catalog"]) == cli.OK

    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("PRIO-03   MUST   disruptive") for line in lines)


def test_explain_takes_an_id_in_any_case(capsys):
    assert cli.main(["explain", "prio-03"]) == cli.OK
    assert "remedy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["explain", "PRIO-99"], "catalog"),
        (["clean", "--cluster", "no-such-cluster"], "No cluster named 'no-such-cluster'"),
        (["clean", "--cluster", "embedded"], "embedded:NAME"),
        (["clean", "--cluster", "container"], "kind:NAME"),
        (["clean", "--cluster", "kind"], "kind:NAME"),
        (["clean", "--cluster", "k3s:lab"], "kind:NAME"),
        (["cluster", "up", "--real-nodes", "some"], "--real-nodes is 'some': give a number"),
        (["cluster", "down", "nobody"], "nobody"),
        (["cluster", "up", "x", "--kubernetes", "1.2"], "1.2"),
        (["cluster", "up", "x", "--topology", "no-such-fleet"], "no-such-fleet"),
        (["binaries", "--kubernetes", "1.2"], "1.2"),
        (["snapshot", "--cluster", "snapshot:nowhere.gz", "out.gz"], "nowhere.gz"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_exit_code_4(capsys, arguments, said):
    assert cli.main(arguments) == cli.USAGE

    told = capsys.readouterr().err
    assert said in told
    assert "Traceback" not in told


def test_an_unknown_command_is_a_usage_error_too(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["clusters"])

    assert ended.value.code == cli.USAGE
    assert "invalid choice" in capsys.readouterr().err


def test_the_audit_role_can_list_what_is_read_and_write_nothing(capsys):
    assert cli.main(["rbac"]) == cli.OK

    role = yaml.safe_load(capsys.readouterr().out)
    readable = {r for rule in role["rules"] if "list" in rule["verbs"] for r in rule["resources"]}
    assert {kind.plural for kind in KINDS.values()} == readable
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "create"}
    assert [rule["resources"] for rule in role["rules"] if "create" in rule["verbs"]] == [["subjectaccessreviews"]]
    assert "secrets" not in readable


@pytest.mark.parametrize("mode", list(Mode))
def test_the_role_of_a_mode_has_every_right_that_the_doctor_asks_for(mode, capsys):
    assert cli.main(["rbac", "--mode", str(mode)]) == cli.OK

    role = yaml.safe_load(capsys.readouterr().out)
    granted = {
        (verb, resource, group)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
        for group in rule["apiGroups"]
    }
    wanted = {below: {(r.verb, r.resource, r.group) for r in rights_of(below, {})} for below in Mode}
    assert role["metadata"]["name"] == f"gpu-conformance-{mode}"
    for below, rights in wanted.items():
        assert (rights <= granted) == (below.limit <= mode.limit)


def test_images_are_pinned_and_follow_a_registry_prefix(capsys):
    assert cli.main(["images", "--registry", "mirror.example/k8s"]) == cli.OK

    lines = capsys.readouterr().out.split()
    assert lines
    assert all(line.startswith("mirror.example/k8s/") and "@sha256:" in line for line in lines)
