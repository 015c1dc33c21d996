"""How the jobs of a plan become the tasks of job arrays."""

from __future__ import annotations

from collections.abc import Sequence

from pdebench_fm.interfaces import Task


def levels(tasks: Sequence[Task]) -> list[list[Task]]:
    """Sort tasks by how many others they wait for in a row; parents come first in ``tasks``."""
    depth: dict[str, int] = {}
    levels: list[list[Task]] = []
    for task in tasks:
        depth[task.key] = number = 1 + max((depth[key] for key in task.after if key in depth), default=-1)
        if number == len(levels):
            levels.append([])
        levels[number].append(task)
    return levels


def bundles(tasks: Sequence[Task], most: int) -> list[list[Task]]:
    """Share out tasks: long ones apart, short ones together, into ``most`` bundles of about equal cost."""
    fair = sum(task.cost for task in tasks) / most
    shared = [[task] for task in tasks if task.cost >= fair]
    short = [task for task in tasks if task.cost < fair]
    fair = sum(task.cost for task in short) / max(most - len(shared), 1)
    cost = fair
    for task in short:
        if cost >= fair:
            shared.append([])
            cost = 0.0
        shared[-1].append(task)
        cost += task.cost
    return shared
