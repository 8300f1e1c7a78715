"""What a Mac may use of its speed: outputs of pmset, and NSProcessInfo through a stand-in."""

import ctypes
from dataclasses import replace

import pytest

from app.doctor.checks import check
from app.machine.chips import bandwidth_gb_s
from app.machine.power import Power, brakes, parse_pmset
from app.machine.process_info import low_power_and_heat
from tests.support.fakes.c_stub import build, needs_compiler
from tests.support.fakes.doctor_machines import M2_AIR

AIR = """System-wide power settings:
Currently in use:
 standby              1
 Sleep On Power Button 1
 hibernatefile        /var/vm/sleepimage
 powernap             1
 networkoversleep     0
 disksleep            10
 sleep                1 (sleep prevented by sharingd)
 hibernatemode        3
 ttyskeepawake        1
 displaysleep         2
 tcpkeepalive         1
 lowpowermode         1
 womp                 0
"""
AIR_BATTERY = """Now drawing from 'Battery Power'
 -InternalBattery-0 (id=4653155)\t9%; discharging; 0:41 remaining present: true
"""
PRO_DOCKED = AIR.replace("lowpowermode         1", "lowpowermode         0")
PRO_BATTERY = """Now drawing from 'AC Power'
 -InternalBattery-0 (id=23003235)\t100%; charged; 0:00 remaining present: true
"""
MAX = AIR.replace("lowpowermode         1", "powermode            2")
MAX_BATTERY = """Now drawing from 'Battery Power'
 -InternalBattery-0 (id=23003235)\t81%; discharging; 5:02 remaining present: true
"""
STUDIO_BATTERY = "Now drawing from 'AC Power'\n"


@pytest.mark.parametrize(
    ("settings", "battery", "expected", "line"),
    [
        (AIR, AIR_BATTERY, Power(True, None, "battery", 9), "on battery 9 %, Low Power Mode"),
        (PRO_DOCKED, PRO_BATTERY, Power(False, None, "mains", 100), "on mains"),
        (
            MAX,
            MAX_BATTERY,
            Power(None, "high", "battery", 81),
            "on battery 81 %, High Power Mode",
        ),
        (MAX.replace("2\n wom", "1\n wom"), STUDIO_BATTERY, Power(None, "low", "mains"), None),
        ("", "", Power(), ""),
    ],
    ids=["M1 Air", "docked M3 Pro", "M5 Max on battery", "Mac Studio", "virtual machine"],
)
def test_what_pmset_prints(settings, battery, expected, line):
    found = parse_pmset(settings, battery)
    assert found == expected
    assert line is None or str(found) == line


def test_each_brake_is_named_with_what_to_do():
    air = replace(parse_pmset(AIR, AIR_BATTERY), thermal="serious")
    lines = brakes(air)
    assert len(lines) == 3
    assert "System Settings > Battery" in lines[0]
    assert "cool" in lines[1] and "9 %" in lines[2]
    assert not brakes(parse_pmset(PRO_DOCKED, PRO_BATTERY)) and not brakes(Power())
    assert brakes(Power(mode="low")) and not brakes(Power(thermal="fair"))


def test_the_doctor_has_a_line_for_it():
    (line,) = [x for x in check(replace(M2_AIR, power=Power(True))) if x.title == "power"]
    assert line.level == "warning" and "Low Power Mode is on" in line.advice
    fine = replace(M2_AIR, power=Power(False, None, "mains", 100, "nominal"))
    (line,) = [x for x in check(fine) if x.title == "power"]
    assert (line.level, line.text) == ("ok", "on mains, thermal state nominal")
    assert not [x for x in check(M2_AIR) if x.title == "power"], "nobody knows"


@needs_compiler
def test_nsprocessinfo_tells_heat_and_low_power_mode(tmp_path):
    mac = ctypes.CDLL(str(build("mac_stub.c", tmp_path / "libmac.so")))
    assert low_power_and_heat(mac) == (False, "nominal")
    ctypes.c_int.in_dll(mac, "saves").value = 1
    ctypes.c_long.in_dll(mac, "thermal").value = 2
    assert low_power_and_heat(mac) == (True, "serious")
    ctypes.c_long.in_dll(mac, "thermal").value = 9
    assert low_power_and_heat(mac) == (True, None), "a state of tomorrow"


def test_a_chip_newer_than_the_table_is_at_least_as_fast_as_the_last_of_its_tier():
    assert bandwidth_gb_s("Apple M9 Max", 40) == bandwidth_gb_s("Apple M5 Max", 40)
    assert bandwidth_gb_s("Apple M9", None, 24) == bandwidth_gb_s("Apple M6", None, 24)
    assert bandwidth_gb_s("Apple Z1") is None
