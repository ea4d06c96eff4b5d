"""Tasks: data, collation, loss and metrics of one skill each. A new task is one module and one line here."""

from training.tasks.base import Task
from training.tasks.reading import ReadingTask
from training.tasks.retrieval import RetrievalTask

TASKS: dict[str, type[Task]] = {"reading": ReadingTask, "retrieval": RetrievalTask}

__all__ = ["TASKS", "ReadingTask", "RetrievalTask", "Task"]
