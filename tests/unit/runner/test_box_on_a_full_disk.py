"""What a box does when its record cannot be written."""

from pathlib import Path

import pytest

from orchestrator.runner import box
from orchestrator.runner.record import BoxRecord


def test_a_box_is_looked_after_though_it_cannot_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_folder: Path, _record: BoxRecord) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(box, "save", full)
    live = box.LiveBox(BoxRecord(replica_id="r", space_id="s", space="a/b", name="n"), tmp_path, bare=True)
    live.update(ready_at=5.0)
    assert live.record.state == "ready"
