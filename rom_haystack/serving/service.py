"""Questions to a library's documents, from many clients at a time."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from haystack.core.errors import PipelineRuntimeError
from haystack.document_stores.errors import DocumentStoreError
from haystack.errors import FilterError
from haystack.utils import ComponentDevice

from rom_haystack.answers import result_fields
from rom_haystack.folders import LibraryError
from rom_haystack.inference import EncoderSpec
from rom_haystack.inference.selection import known_choice
from rom_haystack.library import Library
from rom_haystack.serving.limits import InvalidRequestError, Limits, UnavailableError

#: Questions that are read at a time; others wait. They share the engine, which batches what is asked together.
_AT_A_TIME = 8


class QuestionService:
    """Answer questions from a library that is open and has passages.

    It follows the index: what another process adds or removes counts from the next question on.

    Args:
        library: The library. It stays the caller's to close, after this.
        limits: What may be asked.
        keyword_weight: Share of the keyword search in finding passages, as in `Library.qa`.
    """

    def __init__(self, library: Library, limits: Limits, keyword_weight: float | None = None) -> None:
        self.library = library
        self.limits = limits
        self.qa: Any = library.qa(keyword_weight)
        self.backend: str | None = None
        self._threads = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="rom-question")

    def warm_up(self) -> None:
        """Load the model and read once, so that the first question waits for nothing."""
        self.qa.warm_up()
        self.qa.run(query="Is all that answers a question there?")
        device = ComponentDevice.resolve_device(self.library.device).to_torch_str()
        choice = known_choice(EncoderSpec.create(self.library.model, device=device))
        self.backend = choice.name if choice else "torch-float32"  # what is taken where no choice can be kept

    def ask(
        self,
        question: object,
        top_k: object = None,
        passages: object = None,
        filters: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Answer one question.

        Args:
            question: The question.
            top_k: Most answers. None for the limits' own.
            passages: Most passages to read. None for the limits' own.
            filters: Haystack filters on the documents.

        Returns:
            As from `result_fields`.

        Raises:
            InvalidRequestError: Something of it can't be asked.
            UnavailableError: The index can't be read.
        """
        question = self.limits.checked_question(question)
        most = self.limits.checked_top_k(top_k)
        read = self.limits.checked_passages(passages)
        try:
            _ = self.library.store  # notices an index that was made anew
            # One more answer, as the no-answer counts.
            result = self.qa.run(query=question, filters=filters, top_k=most + 1, top_k_retriever=read)
        except (LibraryError, PipelineRuntimeError) as error:
            if (cause := _cause(error, FilterError)) is not None:
                raise InvalidRequestError(f"The filters can't be used: {cause}") from error
            if (cause := _cause(error, (LibraryError, DocumentStoreError))) is not None:
                raise UnavailableError(str(cause)) from error
            raise
        return result_fields(question, result, most, self.library.model)

    async def ask_async(
        self,
        question: object,
        top_k: object = None,
        passages: object = None,
        filters: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Do what `ask` does in a thread of its own, so that the event loop stays free."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.ask, question, top_k, passages, filters)

    def health(self) -> dict[str, Any]:
        """Say whether questions can be answered, and with what.

        Returns:
            `ready`, `model`, `backend` and `passages`, and in `reason` why it is not ready.
        """
        passages, reason = 0, None if self.backend else "The model is not loaded yet."
        try:
            passages = self.library.store.count_documents()
        except (LibraryError, DocumentStoreError) as error:
            reason = str(error)
        return {
            "ready": reason is None,
            "model": self.library.model,
            "backend": self.backend,
            "passages": passages,
            "reason": reason,
        }

    def close(self) -> None:
        """Let the questions that are being read end, drop those that wait, and give back the model."""
        self._threads.shutdown(cancel_futures=True)
        self.qa.close()


def _cause(error: BaseException, kind: type[Exception] | tuple[type[Exception], ...]) -> BaseException | None:
    """Find an error of some kind among those that led to this one."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, kind):
        found = found.__cause__
    return found
