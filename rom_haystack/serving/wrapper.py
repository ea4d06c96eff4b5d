"""The service as Hayhooks deploys it: one wrapper for REST, OpenAI-compatible chat and MCP."""

from collections.abc import AsyncGenerator, Iterable
from typing import Any

from fastapi import HTTPException
from hayhooks import BasePipelineWrapper

from rom_haystack.serving.formatting import markdown
from rom_haystack.serving.limits import InvalidRequestError, UnavailableError, last_question
from rom_haystack.serving.service import QuestionService


class QAPipelineWrapper(BasePipelineWrapper):
    """Answer questions for Hayhooks.

    Args:
        service: Who answers them; warm.
    """

    def __init__(self, service: QuestionService) -> None:
        super().__init__()
        self.service = service

    def setup(self) -> None:
        """Show Hayhooks the pipeline, so that it knows what it serves."""
        self.pipeline = self.service.qa.pipeline

    async def run_api_async(
        self,
        question: str,
        top_k: int | None = None,
        passages: int | None = None,
        filters: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Answer a question with exact quotes from the served documents, each with its sentence, place and score.

        Args:
            question: The question, in a sentence or a few words.
            top_k: Most answers; leave it out for the server's own.
            passages: Most passages to read; leave it out for the server's own.
            filters: Haystack filters on the documents' metadata, such as
                {"field": "meta.file_path", "operator": "==", "value": "a.md"}.

        Returns:
            Whether it was answered, the answers, best first, and the passages that were read.
        """
        return await self._ask(question, top_k, passages, filters)

    async def run_chat_completion_async(
        self, model: str, messages: list[dict[str, Any]], body: dict[str, Any]
    ) -> AsyncGenerator[str, None]:
        """Answer the last user message; every piece of the reply is one chunk of a stream."""
        return await self._reply(messages)

    async def run_response_async(
        self, model: str, input_items: list[dict[str, Any]], body: dict[str, Any]
    ) -> AsyncGenerator[str, None]:
        """Do the same for OpenAI's Responses API."""
        return await self._reply(input_items)

    async def _reply(self, messages: list[dict[str, Any]]) -> AsyncGenerator[str, None]:
        """Find all answers first, so that what goes wrong is an error and not the end of a stream."""
        try:
            question = last_question(messages)
        except InvalidRequestError as error:
            raise HTTPException(422, str(error)) from error
        return _stream(markdown(await self._ask(question)))

    async def _ask(self, *request: Any) -> dict[str, Any]:
        try:
            return await self.service.ask_async(*request)
        except InvalidRequestError as error:
            raise HTTPException(422, str(error)) from error
        except UnavailableError as error:
            raise HTTPException(503, str(error)) from error


async def _stream(pieces: Iterable[str]) -> AsyncGenerator[str, None]:
    for piece in pieces:
        yield piece
