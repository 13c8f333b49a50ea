"""Work that nobody waits for is stopped; a page that is reloaded meets its work again."""

import threading
from types import SimpleNamespace

import pytest

from app.view import visitor
from app.view.jobs import Job
from app.view.visitor import Visitor


@pytest.fixture
def session(monkeypatch):
    """A session of a pretended server, and its clock."""
    state = SimpleNamespace(connected=True, now=0.0)
    server = SimpleNamespace(is_active_session=lambda name: state.connected and name == "a")
    runtime = SimpleNamespace(exists=lambda: True, instance=lambda: server)
    monkeypatch.setattr(visitor, "Runtime", runtime)
    monkeypatch.setattr(visitor, "time", SimpleNamespace(monotonic=lambda: state.now))
    monkeypatch.setattr(visitor, "get_script_run_ctx", lambda **_: SimpleNamespace(session_id="a"))
    return state


def test_a_visitor_is_gone_after_the_grace_time_and_not_before(session):
    who = Visitor()
    assert not who.gone()
    session.connected = False
    assert not who.gone()
    session.now = visitor.GRACE - 1
    assert not who.gone()
    session.connected = True
    assert not who.gone()
    session.connected, session.now = False, visitor.GRACE + 1
    assert not who.gone()  # the time counts from when the connection was lost again
    session.now += visitor.GRACE
    assert who.gone()


def test_without_a_server_nobody_is_gone(monkeypatch):
    monkeypatch.setattr(visitor, "get_script_run_ctx", lambda **_: None)
    assert not Visitor().gone()


def test_the_work_of_one_who_has_gone_is_cancelled(session, monkeypatch):
    from app.view import work

    kept = {}
    monkeypatch.setattr(work.st, "session_state", kept)
    monkeypatch.setattr(work, "_finished", dict)
    began, went = threading.Event(), threading.Event()

    def steps(progress):
        from probes.progress import Progress

        told = Progress(10**6, progress)
        while True:
            told.step()
            began.set()
            went.wait(10)

    work.start("slot", "asked", steps)
    job: Job = kept["slot"][1]
    assert began.wait(10)
    session.connected = False
    monkeypatch.setattr(visitor, "GRACE", 0.0)
    went.set()
    job.wait(10)
    assert job.cancelled
