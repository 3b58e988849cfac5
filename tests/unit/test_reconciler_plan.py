"""Hosts: what is declared, what Serve reports, and what to do about the difference."""

from dataclasses import replace
from datetime import timedelta

import pytest

from serving.hosts import HostState
from serving.hosts.reconciler import RESTART_AFTER, explain, plan
from serving.hosts.serve import (
    application_name,
)
from tests.unit.hosted import NOW, ONE, TWO, application, config, spec, status


def planned(known, applications, *, answered=(), now=NOW):
    return plan(
        {s.spec.ref: s for s in known},
        applications,
        answered=frozenset(answered),
        config=config,
        now=now,
    )


def seen(known, found, *, answered=True, now=NOW):
    """Return what one version is seen as, its application being `found`."""
    ref = known.spec.ref
    applications = {} if found is None else {application_name(ref): found}
    return planned([known], applications, answered=[ref] if answered else [], now=now).seen[ref]


# What a version is seen as


def test_a_version_whose_every_replica_is_loaded_and_that_answers_is_hot():
    after = seen(status(HostState.DEPLOYING), application())
    assert (after.state, after.ready_replicas, after.reason) == (HostState.HOT, 1, "")
    assert after.loaded


@pytest.mark.parametrize(
    ("found", "answered", "reason"),
    [
        (application(running=1, declared=spec(replicas=2)), True, "1 of 2 replicas"),
        (application(running=2, declared=spec(replicas=2)), False, "not reached"),
        (application("DEPLOYING", 2, declared=spec(replicas=2)), True, "being changed"),
        (application("UNHEALTHY", 2, declared=spec(replicas=2), message="sick"), True, "sick"),
    ],
)
def test_a_loaded_version_that_lacks_anything_is_warm_and_says_what(found, answered, reason):
    known = status(HostState.DEPLOYING, spec(replicas=2))
    after = seen(known, found, answered=answered)
    assert after.state is HostState.WARM
    assert reason in after.reason


def test_a_version_that_runs_otherwise_than_declared_is_not_hot():
    known = status(HostState.HOT, spec(cpus=0.5))
    assert seen(known, application(declared=spec(cpus=0.1))).state is HostState.WARM


def test_a_version_that_serve_does_not_know_is_deploying():
    assert seen(status(HostState.PENDING), None).state is HostState.DEPLOYING
    assert seen(status(HostState.HOT), None).state is HostState.DEPLOYING


def test_a_version_that_cannot_be_loaded_has_failed_and_says_why():
    found = application("DEPLOY_FAILED", 0, message="Error:\nregistry.errors.CorruptArtifact: no")
    after = seen(status(HostState.DEPLOYING), found)
    assert (after.state, after.reason) == (HostState.FAILED, "CorruptArtifact: no")


def test_a_version_of_which_one_replica_runs_has_not_failed():
    found = application("DEPLOY_FAILED", 1, declared=spec(replicas=2))
    assert seen(status(HostState.WARM, spec(replicas=2)), found).state is HostState.WARM


def test_a_version_that_had_been_loaded_is_not_given_up():
    known = status(HostState.HOT, ready_replicas=1, loaded=True)
    assert seen(known, application("DEPLOY_FAILED", 0)).state is HostState.DEPLOYING


def test_a_failure_of_what_was_declared_before_is_not_charged_to_what_is_declared_now():
    found = application("DEPLOY_FAILED", 0, declared=spec(digest="sha256:old"))
    assert seen(status(HostState.PENDING), found).state is HostState.DEPLOYING


def test_the_time_of_a_state_is_when_it_was_entered():
    later = NOW + timedelta(seconds=5)
    hot = seen(status(HostState.DEPLOYING), application(), now=later)
    assert hot.since == later
    assert seen(hot, application(), now=later + timedelta(seconds=5)) == hot


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", ""),
        ("Upscaling from 1 to 2 replicas.", "Upscaling from 1 to 2 replicas."),
        ("has 1 replicas that have taken more than 5s to initialize.\nThis may be", "loading"),
        (
            "Resources required for each replica: {'CPU': 0.1, 'GPU': 1.0}, total resources "
            "available: {'CPU': 7.9}. Use `ray status` for more details.",
            "waiting for resources: needs 1 GPU, the cluster has 0 free",
        ),
        (
            "Resources required for each replica: {'CPU': 4}, total resources available: "
            "{'CPU': 1.5}.",
            "waiting for resources: needs 4 CPU, the cluster has 1.5 free",
        ),
        (
            "Resources required for each replica: {'CPU': 1}, total resources available: "
            "{'CPU': 2}.",
            "starting",
        ),
        (
            "\x1b[36mray::Host\x1b[39m\nTraceback:\n  File x\nKeyError: 'a'\n\nThe above\n"
            "registry.errors.UnreadableModel: the model does not load:\n  no weights",
            "UnreadableModel: the model does not load: no weights",
        ),
    ],
)
def test_of_serves_message_a_person_is_told_the_line_that_matters(message, reason):
    assert explain(application(message=message)) == reason


# What is sent to Serve


def test_nothing_is_sent_if_nothing_differs():
    known = [status(HostState.HOT), status(HostState.FAILED, spec(TWO))]
    assert planned(known, {"digits-1": application()}).deploy is None


def test_defaults_that_serve_adds_are_no_difference():
    found = application()
    found = replace(found, config={**found.config, "logging_config": {}, "runtime_env": None})
    assert planned([status(HostState.HOT)], {"digits-1": found}).deploy is None


def test_the_complete_set_is_sent_if_one_version_is_missing():
    known = [status(HostState.HOT), status(HostState.PENDING, spec(TWO))]
    assert planned(known, {"digits-1": application()}).deploy == (spec(ONE), spec(TWO))


@pytest.mark.parametrize("state", [HostState.FAILED, HostState.REMOVING, HostState.REMOVED])
def test_what_is_not_wanted_is_taken_out(state):
    assert planned([status(state)], {"digits-1": application()}).deploy == ()


def test_what_nobody_declared_is_taken_out():
    assert planned([], {"digits-1": application()}).deploy == ()


def test_what_is_being_deleted_is_not_deleted_again():
    found = application("DELETING", 0)
    assert planned([status(HostState.REMOVING)], {"digits-1": found}).deploy is None


def test_what_is_declared_anew_while_being_deleted_is_sent():
    found = application("DELETING", 0)
    assert planned([status(HostState.PENDING)], {"digits-1": found}).deploy == (spec(),)


def test_a_changed_number_of_replicas_is_sent():
    known = status(HostState.HOT, spec(replicas=2))
    assert planned([known], {"digits-1": application()}).deploy == (spec(replicas=2),)


@pytest.mark.parametrize(
    ("waited", "sent"),
    [(timedelta(0), None), (RESTART_AFTER, None), (RESTART_AFTER * 2, ())],
)
def test_a_loaded_version_that_serve_gave_up_is_taken_out_after_a_while_to_be_put_back(
    waited, sent
):
    known = status(HostState.DEPLOYING, loaded=True)
    found = application("DEPLOY_FAILED", 0)
    assert planned([known], {"digits-1": found}, now=NOW + waited).deploy == sent
