"""Tasks: data, collation, loss and metrics of one skill each. A new task is one module and one line here."""

from typing import Any

from training.tasks.anchor import AnchorTask
from training.tasks.base import Task
from training.tasks.inverse_cloze import InverseClozeTask
from training.tasks.masked_lm import MaskedLMTask
from training.tasks.reader_distillation import ReaderDistillationTask
from training.tasks.reading import ReadingTask
from training.tasks.recurring_spans import RecurringSpansTask
from training.tasks.retrieval import RetrievalTask
from training.tasks.span_distillation import SpanDistillationTask

TASKS: dict[str, type[Task[Any]]] = {
    "reading": ReadingTask,
    "retrieval": RetrievalTask,
    "masked_lm": MaskedLMTask,
    "inverse_cloze": InverseClozeTask,
    "recurring_spans": RecurringSpansTask,
    "anchor": AnchorTask,
    "reader_distillation": ReaderDistillationTask,
    "span_distillation": SpanDistillationTask,
}

__all__ = [
    "TASKS",
    "AnchorTask",
    "InverseClozeTask",
    "MaskedLMTask",
    "ReaderDistillationTask",
    "ReadingTask",
    "RecurringSpansTask",
    "RetrievalTask",
    "SpanDistillationTask",
    "Task",
]
