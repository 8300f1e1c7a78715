"""A pytest plugin: CPU time of each test, its processes included, which no neighbour disturbs.

`python -m pytest -p tests.support.cpu_times`; the dearest tests and the sum come last in the log.
"""

import resource
from collections import Counter

import pytest

SHOWN = 25
spent_s: Counter[str] = Counter()


def cpu_s() -> float:
    """Of this process and of those that it has waited for, user and system."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    start_s = cpu_s()
    try:
        return (yield)
    finally:
        spent_s[item.nodeid] += cpu_s() - start_s


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("CPU time")
    for name, seconds in spent_s.most_common(SHOWN):
        terminalreporter.write_line(f"{seconds:7.1f} s  {name}")
    terminalreporter.write_line(f"{sum(spent_s.values()):7.1f} s  all {len(spent_s)} tests")
