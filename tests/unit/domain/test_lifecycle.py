"""Every (stage, event, serving) triple against a table written by hand, and the page that is made from the code's."""

import re

import pytest

from docs.make_state_machine import PAGE, page
from orchestrator.domain import lifecycle
from orchestrator.domain.lifecycle import (
    ERRORS,
    MOVING,
    VISITOR,
    WANTS_REPLICA,
    Answer,
    Event,
    ImpossibleTransition,
    Stage,
    advance,
    plain,
)

SHORT = {
    "NA": Stage.NO_APP_FILE,
    "CE": Stage.CONFIG_ERROR,
    "BU": Stage.BUILDING,
    "BE": Stage.BUILD_ERROR,
    "AS": Stage.APP_STARTING,
    "RU": Stage.RUNNING,
    "RB": Stage.RUNNING_BUILDING,
    "RA": Stage.RUNNING_APP_STARTING,
    "RE": Stage.RUNTIME_ERROR,
    "SL": Stage.SLEEPING,
    "PA": Stage.PAUSED,
    "DE": Stage.DELETING,
}
COLUMNS = (
    Event.COMMIT_ACCEPTED,
    Event.CONFIG_REFUSED,
    Event.APP_FILE_MISSING,
    Event.BUILD_SUCCEEDED,
    Event.BUILD_FAILED,
    Event.REPLICA_READY,
    Event.START_FAILED,
    Event.REPLICA_LOST,
    Event.IDLE,
    Event.VISITED,
    Event.PAUSE,
    Event.RESTART,
    Event.DELETE,
)
# Stage before, then the stage after each event in the order of COLUMNS; `--` cannot happen.
NOTHING_SERVES = """
#    commit config nofile built bfail ready sfail lost idle visit pause restart delete
NA   BU     CE     NA     --    NA    NA    --    SL   SL   --    PA    AS      DE
CE   BU     CE     NA     --    CE    CE    --    SL   SL   --    PA    AS      DE
BE   BU     CE     NA     --    BE    BE    --    SL   SL   --    PA    AS      DE
RE   BU     CE     NA     --    RE    RE    RE    SL   SL   --    PA    AS      DE
BU   BU     CE     NA     AS    BE    BU    BU    BU   --   --    PA    AS      DE
RB   BU     CE     NA     AS    BE    BU    BU    BU   --   --    PA    AS      DE
AS   BU     CE     NA     AS    --    RU    RE    AS   --   AS    PA    AS      DE
RA   BU     CE     NA     AS    --    RU    RE    AS   --   AS    PA    AS      DE
RU   BU     CE     NA     --    --    RU    --    AS   SL   RU    PA    AS      DE
SL   BU     CE     NA     --    --    --    --    SL   --   AS    PA    AS      DE
PA   PA     PA     PA     PA    PA    --    PA    PA   --   --    PA    AS      DE
DE   --     --     --     DE    DE    --    --    DE   --   --    --    --      DE
"""
A_REPLICA_SERVES = """
#    commit config nofile built bfail ready sfail lost idle visit pause restart delete
NA   RB     CE     NA     --    NA    NA    --    SL   SL   --    PA    RA      DE
CE   RB     CE     NA     --    CE    CE    --    SL   SL   --    PA    RA      DE
BE   RB     CE     NA     --    BE    BE    --    SL   SL   --    PA    RA      DE
RE   RB     CE     NA     --    RE    RE    RE    SL   SL   --    PA    RA      DE
BU   RB     CE     NA     RA    BE    RB    RB    RB   --   --    PA    RA      DE
RB   RB     CE     NA     RA    BE    RB    RB    RB   --   --    PA    RA      DE
AS   RB     CE     NA     RA    --    RU    RE    RA   --   RA    PA    RA      DE
RA   RB     CE     NA     RA    --    RU    RE    RA   --   RA    PA    RA      DE
RU   RB     CE     NA     --    --    RU    --    RA   SL   RU    PA    RA      DE
SL   RB     CE     NA     --    --    --    --    SL   --   RA    PA    RA      DE
PA   PA     PA     PA     PA    PA    --    PA    PA   --   --    PA    RA      DE
DE   --     --     --     DE    DE    --    --    DE   --   --    --    --      DE
"""


def triples():
    for serving, grid in ((False, NOTHING_SERVES), (True, A_REPLICA_SERVES)):
        for line in grid.strip().splitlines()[1:]:
            before, *after = line.split()
            for event, code in zip(COLUMNS, after, strict=True):
                yield pytest.param(
                    SHORT[before], event, serving, SHORT.get(code), id=f"{before}-{event.name}-{serving}"
                )


def test_the_table_of_this_test_is_complete():
    assert set(COLUMNS) == set(Event)
    assert set(SHORT.values()) == set(Stage)
    assert len({tuple(param.values[:3]) for param in triples()}) == len(Stage) * len(Event) * 2


@pytest.mark.parametrize(("stage", "event", "serving", "expected"), list(triples()))
def test_each_event_in_each_stage(stage, event, serving, expected):
    if expected is None:
        with pytest.raises(ImpossibleTransition, match=f"{event.value}.*{stage.value}"):
            advance(stage, event, serving=serving)
    else:
        assert advance(stage, event, serving=serving) is expected


def test_plain_takes_the_prefix_away():
    assert plain(Stage.RUNNING_BUILDING) is Stage.BUILDING
    assert plain(Stage.RUNNING_APP_STARTING) is Stage.APP_STARTING
    assert [plain(stage) for stage in (Stage.RUNNING, Stage.SLEEPING)] == [Stage.RUNNING, Stage.SLEEPING]


def test_every_stage_has_an_answer_for_visitors():
    assert set(VISITOR) == set(Stage)
    assert [stage for stage, answer in VISITOR.items() if answer is Answer.WAKE] == [Stage.SLEEPING]
    assert [stage for stage, answer in VISITOR.items() if answer is Answer.MISSING] == [Stage.DELETING]
    assert {stage for stage, answer in VISITOR.items() if answer is Answer.EXPLAIN} == ERRORS | {Stage.PAUSED}


def test_a_stage_that_a_visit_wakes_can_be_visited():
    for stage, answer in VISITOR.items():
        if answer is Answer.WAKE:
            assert Event.VISITED in lifecycle.TABLE[plain(stage)]


def test_the_groups_of_stages_do_not_contradict_each_other():
    assert not MOVING & ERRORS
    assert Stage.SLEEPING not in MOVING | ERRORS | WANTS_REPLICA
    assert {plain(stage) for stage in WANTS_REPLICA} == {Stage.APP_STARTING, Stage.RUNNING}


def test_every_stage_can_be_left_for_deletion_and_only_deleting_is_final():
    for stage in Stage:
        assert advance(stage, Event.DELETE, serving=False) is Stage.DELETING
    assert set(lifecycle.TABLE[Stage.DELETING].values()) <= {None, Stage.DELETING}


# --- the page -------------------------------------------------------------------------------------------------
def test_the_page_is_the_one_that_the_code_makes():
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make docs`"


def test_the_diagram_shows_every_change_of_stage():
    diagram = re.search(r"```mermaid\n(.*?)```", page(), re.DOTALL)[1]
    arrows = {tuple(pair) for pair in re.findall(r"(\w+) --> (\w+): ", diagram)}
    for stage, row in lifecycle.TABLE.items():
        for target in row.values():
            if target not in (None, stage):
                assert (stage.value, target.value) in arrows or ("any", target.value) in arrows
