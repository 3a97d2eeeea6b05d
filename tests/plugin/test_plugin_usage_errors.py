import pytest

USAGE = 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cluster", "no-such-cluster"], "No cluster named 'no-such-cluster'"),
        (["--cluster", "snapshot:nowhere.json.gz"], "nowhere.json.gz"),
        (["--cluster", "embedded:nobody"], "nobody"),
        (["--cluster", "embedded", "--gpu-profile", "nonsense"], "no profile named nonsense; there are: pools"),
        (["--cluster", "embedded", "--gpu-profile", "pools,quotas"], "no profile named quotas (did you mean quota?)"),
        (["--cluster", "embedded", "--gpu-timeout", "hodl=3"], "hodl"),
        (
            ["--cluster", "embedded", "--gpu-report-formats", "html,pdf"],
            "there is no report format pdf; there are junit, html",
        ),
        (["--cluster", "embedded", "--gpu-waivers", "nowhere.yaml"], "nowhere.yaml"),
        (["--cluster", "embedded", "--gpu-kubernetes", "1.12"], "1.12"),
        (["--cluster", "embedded", "--gpu-real-nodes", "two"], "--gpu-real-nodes is 'two': give a number"),
        (["--cluster", "embedded", "--gpu-real-nodes", "-1"], "--gpu-real-nodes is '-1': give a number"),
        (["--cluster", "embedded:dev", "--gpu-real-nodes", "1"], "cluster up dev --real-nodes 1"),
        (["--cluster", "container", "--gpu-real-nodes", "1"], "--gpu-real-nodes is for --cluster embedded"),
        (["--cluster", "k3s:mine", "--gpu-real-nodes", "1"], "--gpu-real-nodes is for --cluster embedded"),
        (["--cluster", "container", "--gpu-cluster-port", "66000"], "--gpu-cluster-port is '66000'"),
    ],
)
def test_what_a_user_can_mend_is_one_message_and_exit_code_4(conform, arguments, said):
    outcome = conform(*arguments)

    assert outcome.exit_code == USAGE
    assert said in outcome.output
    assert "Traceback" not in outcome.output


def test_an_unknown_mode_is_refused_with_those_that_exist(conform):
    outcome = conform("--cluster", "embedded", "--gpu-mode", "brutal")

    assert outcome.exit_code == USAGE
    assert "audit" in outcome.output
