"""A pytest plugin: CPU time of each test, its processes included, which no neighbour disturbs.

`python -m pytest -p tests.support.cpu_times`, also with several processes (`-n 2`); the dearest
tests, the dearest files and the sum come last in the log.
"""

import resource
from collections import Counter

import pytest

SHOWN = 25
SPENT = "cpu_s"  # among the properties of a report, which travel from process to process
started_s: dict[str, float] = {}
spent_s: Counter[str] = Counter()


def cpu_s() -> float:
    """Of this process and of those that it has waited for, user and system."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def pytest_runtest_logstart(nodeid):
    started_s[nodeid] = cpu_s()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "teardown":
        report.user_properties.append((SPENT, cpu_s() - started_s.pop(item.nodeid)))
    return report


def pytest_runtest_logreport(report):
    if report.when == "teardown":
        spent_s[report.nodeid] += dict(report.user_properties)[SPENT]


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("CPU time")
    files: Counter[str] = Counter()
    for name, seconds in spent_s.items():
        files[name.split("::")[0]] += seconds
    for name, seconds in (*spent_s.most_common(SHOWN), *files.most_common(SHOWN)):
        terminalreporter.write_line(f"{seconds:7.1f} s  {name}")
    terminalreporter.write_line(f"{sum(spent_s.values()):7.1f} s  all {len(spent_s)} tests")
