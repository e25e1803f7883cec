import asyncio
import time

from orchestrator.gateway.pulse import Pulse


async def test_a_beat_between_the_look_and_the_wait_is_seen() -> None:
    pulse = Pulse()
    ticket = pulse.ticket()
    pulse.beat()
    await asyncio.wait_for(pulse.wait(ticket, 10), 1)


async def test_everybody_who_waits_is_woken() -> None:
    pulse = Pulse()
    waiting = [asyncio.create_task(pulse.wait(pulse.ticket(), 10)) for _ in range(3)]
    await asyncio.sleep(0)
    pulse.beat()
    await asyncio.wait_for(asyncio.gather(*waiting), 1)


async def test_without_a_beat_the_wait_ends_by_time() -> None:
    began = time.monotonic()
    await Pulse().wait(0, 0.02)
    assert time.monotonic() - began >= 0.015
