import pytest

from rom_haystack.serving.limits import MAX_PASSAGES, MAX_TOP_K, InvalidRequestError, Limits, last_question

LIMITS = Limits(top_k=3, passages=4, max_question_length=10)


def test_what_is_in_order_passes():
    assert LIMITS.checked_question("0123456789") == "0123456789"
    assert LIMITS.checked_question(" 👩‍🚀? ") == " 👩‍🚀? "
    assert [LIMITS.checked_top_k(value) for value in (None, 1, MAX_TOP_K)] == [3, 1, MAX_TOP_K]
    assert [LIMITS.checked_passages(value) for value in (None, 1, MAX_PASSAGES)] == [4, 1, MAX_PASSAGES]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("", "The question is empty; ask with at least one word."),
        (" \n\t\u2003", "The question is empty; ask with at least one word."),
        (None, "The question is of type NoneType; send text."),
        (b"x", "The question is of type bytes; send text."),
        (
            "0123456789x",
            "The question has 11 characters, and the limit is 10. Shorten it, or let the server be started ",
        ),
    ],
)
def test_questions_that_can_not_be_asked(question, message):
    with pytest.raises(InvalidRequestError) as raised:
        LIMITS.checked_question(question)
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("value", [0, -1, MAX_PASSAGES + 1, 2.0, "2", [2], 10**30])
def test_counts_that_can_not_be(value):
    with pytest.raises(InvalidRequestError, match=r"^top_k is .{1,20}; it must be a whole number from 1 to 50\.$"):
        LIMITS.checked_top_k(value)
    with pytest.raises(InvalidRequestError, match=r"^passages is .{1,20}; it must be a whole number from 1 to 100\.$"):
        LIMITS.checked_passages(value)


def test_the_last_user_message_is_the_question():
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "First?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Second?"},
        {"role": "assistant", "content": ""},
    ]
    assert last_question(conversation) == "Second?"


def test_parts_of_text_are_joined_and_other_parts_left_out():
    parts = [{"type": "text", "text": "Who"}, {"type": "image_url", "image_url": {}}, 5, {"text": "is it?"}]
    assert last_question([{"role": "user", "content": parts}]) == "Who\nis it?"


@pytest.mark.parametrize("messages", [[], [{}], [{"role": "assistant", "content": "x"}]])
def test_conversations_without_a_question(messages):
    with pytest.raises(InvalidRequestError, match="no message with role 'user'"):
        last_question(messages)


@pytest.mark.parametrize("content", [None, 5, {"text": "x"}])
def test_messages_without_text(content):
    with pytest.raises(InvalidRequestError, match="The last user message has no text"):
        last_question([{"role": "user", "content": content}])
