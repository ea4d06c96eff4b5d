"""What a request may ask for, and errors that say what to ask instead."""

from dataclasses import dataclass

#: Most answers and most passages of one request.
MAX_TOP_K = 50
MAX_PASSAGES = 100
#: Most characters of a question; the encoder keeps its first 64 tokens.
MAX_QUESTION_LENGTH = 1000
#: Most bytes of a request; a chat's clients send its whole history with every question.
MAX_BODY_SIZE = 1024 * 1024
#: Most objects and lists within each other.
MAX_DEPTH = 100


class InvalidRequestError(ValueError):
    """A request can't be answered as it is; the message says why and what to do."""


class UnavailableError(RuntimeError):
    """No request can be answered now; the message says why and what to do."""


@dataclass(frozen=True)
class Limits:
    """Check what is asked.

    Args:
        top_k: Answers where a request does not say how many.
        passages: Passages to read where a request does not say how many.
        max_question_length: Most characters of a question.
    """

    top_k: int = 5
    passages: int = 10
    max_question_length: int = MAX_QUESTION_LENGTH

    def checked_question(self, question: object) -> str:
        """Return a question that can be asked.

        Raises:
            InvalidRequestError: It is empty, too long, or no text.
        """
        if not isinstance(question, str):
            raise InvalidRequestError(f"The question is of type {type(question).__name__}; send text.")
        if not question.strip():
            raise InvalidRequestError("The question is empty; ask with at least one word.")
        if len(question) > self.max_question_length:
            raise InvalidRequestError(
                f"The question has {len(question)} characters, and the limit is {self.max_question_length}. Shorten "
                "it, or let the server be started with a larger --max-question-length."
            )
        return question

    def checked_top_k(self, top_k: object) -> int:
        """Return how many answers to give.

        Raises:
            InvalidRequestError: Not a number from 1 to the limit.
        """
        return _checked_count("top_k", top_k, self.top_k, MAX_TOP_K)

    def checked_passages(self, passages: object) -> int:
        """Return how many passages to read.

        Raises:
            InvalidRequestError: Not a number from 1 to the limit.
        """
        return _checked_count("passages", passages, self.passages, MAX_PASSAGES)


def last_question(messages: list[dict[str, object]]) -> str:
    """Find the question in a conversation: the text of its last user message.

    Args:
        messages: In OpenAI's format, each content a text or a list of parts.

    Raises:
        InvalidRequestError: There is no user message, or it has no text.
    """
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, list):
                parts = [part.get("text") for part in content if isinstance(part, dict)]
                content = "\n".join(part for part in parts if isinstance(part, str))
            if not isinstance(content, str):
                raise InvalidRequestError("The last user message has no text; send it as 'content'.")
            return content
    raise InvalidRequestError("The conversation has no message with role 'user'; the last one is the question.")


def _checked_count(name: str, value: object, default: int, limit: int) -> int:
    if value is None:
        return default
    if not isinstance(value, int) or not 1 <= value <= limit:
        raise InvalidRequestError(f"{name} is {str(value)[:20]}; it must be a whole number from 1 to {limit}.")
    return value
