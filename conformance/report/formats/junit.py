"""A report as JUnit's XML, the way GitLab, GitHub and Jenkins read it."""

import re
from collections.abc import Sequence
from typing import Any

from conformance.report.model import Cause, Decision, Profile, Report, Upgrade, Verdict
from conformance.report.story import heading_of_cause, headline, story, who_waits, why_not_judged
from conformance.report.visible import visible
from conformance.verdict import Status

# GitLab finds the mark anywhere in a text, and both it and Jenkins then take the file that it names.
# https://gitlab.com/gitlab-org/gitlab/-/blob/master/lib/gitlab/ci/parsers/test/junit.rb,
# https://plugins.jenkins.io/junit-attachments/
_ATTACHMENT = re.compile(r"\[\[(?=ATTACHMENT)", re.IGNORECASE)


def render(report: Report, *, attachment: str = "") -> str:
    """One suite for each profile, the whole story in each element's text; ``attachment`` is the path of a file.

    GitLab ignores properties and message attributes, so the id is in name and classname and the evidence file is
    an ``[[ATTACHMENT|path]]`` line in system-out, which GitLab and Jenkins both read. What waits is skipped: the alarm
    is its cause, which is the failure of a requirement or else an error in a suite of its own.
    """
    from junit_xml import TestSuite, to_xml_report_string

    consequences: dict[str, str] = {}
    for cause in report.causes:
        told = f"  {cause.cause}: {who_waits(cause, most=len(cause.waiting))}\n"
        consequences[cause.requirement] = consequences.get(cause.requirement, "") + told
    of_profile = {each.name: [v for v in report.requirements if v.profile == each.name] for each in report.profiles}
    suites = [
        TestSuite(
            text(f"{report.cluster.name} {profile.name}"),
            [_case(v, attachment, consequences.get(v.requirement, "")) for v in of_profile[profile.name]],
            hostname=text(report.cluster.name),
            timestamp=report.run.started,
            properties=_properties(profile, report),
        )
        for profile in report.profiles
    ]
    if untold := [cause for cause in report.causes if not cause.told_by_its_requirement]:
        suites.insert(0, _suite_of_causes(untold, report))
    if isinstance(report.upgrade, Upgrade):
        suites.insert(0, _suite_of_upgrade(report.upgrade, report))
    return str(to_xml_report_string(suites))


def text(of_cluster: str) -> str:
    """What a cluster says, with nothing hidden in it and no mark by which a reader would attach a file."""
    return _ATTACHMENT.sub("[ [", visible(of_cluster))


def _properties(profile: Profile, report: Report) -> dict[str, str]:
    told = {"result": str(profile.result), "evidence": str(report.cluster.evidence), "run": report.run.id}
    return told | ({"upgrade": text(str(report.upgrade))} if isinstance(report.upgrade, Upgrade) else {})


def _case(verdict: Verdict, attachment: str, consequences: str) -> Any:
    from junit_xml import TestCase

    told = text(f"{story(verdict)}\n{consequences}").rstrip()
    case = TestCase(
        f"{verdict.requirement} {verdict.title}",
        classname=f"gpu-conformance.{verdict.profile}.{verdict.requirement}",
        elapsed_sec=verdict.duration,
        stdout=f"{told}\n[[ATTACHMENT|{attachment}]]" if attachment else told,
    )
    if verdict.status is Status.FAILED:
        case.add_failure_info(headline(verdict), told, failure_type=str(verdict.level))
    elif verdict.status in (Status.ERROR, Status.UNKNOWN):
        case.add_error_info(headline(verdict), told, error_type=str(verdict.status))
    elif verdict.status is not Status.PASSED:
        case.add_skipped_info(text(why_not_judged(verdict)), told)
    return case


def _suite_of_upgrade(upgrade: Upgrade, report: Report) -> Any:
    """The answer as a case of its own: GitLab shows no properties, and a no-go is more than the sum of failures."""
    from junit_xml import TestCase, TestSuite

    told = text("\n".join([str(upgrade), *([f"{upgrade.capacity}"] if upgrade.capacity is not None else [])]))
    case = TestCase(text(f"Upgrade to {upgrade.target}"), classname="gpu-conformance.upgrade.decision", stdout=told)
    if upgrade.decision in (Decision.NO_GO, Decision.NOT_DONE):
        case.add_failure_info(text(str(upgrade)), told, failure_type="upgrade")
    elif not upgrade.decision.good:
        case.add_error_info(text(str(upgrade)), told, error_type="upgrade")
    name = text(f"{report.cluster.name} upgrade decision")
    return TestSuite(name, [case], hostname=text(report.cluster.name), timestamp=report.run.started)


def _suite_of_causes(causes: Sequence[Cause], report: Report) -> Any:
    """What requirements wait for and no requirement tells as a failure: nobody may read it as merely skipped."""
    from junit_xml import TestSuite

    name = text(f"{report.cluster.name} causes")
    return TestSuite(
        name,
        [_case_of_cause(each) for each in causes],
        hostname=text(report.cluster.name),
        timestamp=report.run.started,
    )


def _case_of_cause(cause: Cause) -> Any:
    from junit_xml import TestCase

    heading = text(heading_of_cause(cause))
    case = TestCase(heading, classname="gpu-conformance.causes")
    case.add_error_info(heading, who_waits(cause, most=len(cause.waiting)), error_type="cause")
    return case
