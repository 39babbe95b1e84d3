"""Conversations that every template is rendered with: variables of a template but for add_generation_prompt."""

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "tools": None, "documents": None}


def user(content, **more):
    return {"role": "user", "content": content, **more}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def system(content):
    return {"role": "system", "content": content}


WEATHER = {"type": "function", "function": {
    "name": "weather", "description": "The weather of a <city> & its \"mood\"\nin two lines",
    "parameters": {"type": "object", "required": ["city"], "properties": {
        "city": {"type": "string", "description": "Zürich, 東京, …"},
        "days": {"type": ["integer", "null"]},
        "hours": {"type": "array", "items": {"type": "number"}},
        "more": {"type": "object", "additionalProperties": {"type": "boolean"}}}},
    "return": {"type": "string"}}}
TIME = {"type": "function", "function": {
    "name": "time", "description": "", "parameters": {"type": "object", "properties": {}}}}


def call(name, arguments, identity="abcdefghi"):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATIONS = {name: {**TOKENS, **variables} for name, variables in {
    "one question": {"messages": [user("What is a river?")]},
    "system": {"messages": [system("You are terse."), user("Hello"), assistant("Hi."), user("Bye")]},
    "two turns": {"messages": [user("a"), assistant("b"), user("c"), assistant("d")]},
    "nothing": {"messages": []},
    "empty contents": {"messages": [system(""), user(""), assistant("")]},
    "blanks": {"messages": [system("  \n s \t"), user("  spaces  \n\n"), assistant("\n answer\n"), user("\u00a0x\u3000")]},
    "scripts": {"messages": [user("Grüße, 世界! 👩‍👩‍👧 ½ ß ǆ \u202e\u0000\u007f"), assistant("שלום\u2028ok"), user("İı")]},
    "code": {"messages": [user("```python\nprint('{{ x }}')\n```"), assistant("{% if %}\n\t\"quoted\" \\ 'single'"), user("<|im_end|>")]},
    "wrong order": {"messages": [assistant("I begin"), user("why?")]},
    "twice the user": {"messages": [user("a"), user("b"), system("late")]},
    "unknown role": {"messages": [user("a"), {"role": "critic", "content": "b"}]},
    "two systems": {"messages": [system("one"), system("two"), user("x")]},
    "no content": {"messages": [user("a"), {"role": "assistant", "content": None}, {"role": "user"}]},
    "parts": {"messages": [system([{"type": "text", "text": "S"}]),
                           user([{"type": "text", "text": " one "}, {"type": "image"}, {"type": "text", "text": "two"}])]},
    "thoughts": {"messages": [user("2+2?"), assistant("<think>\nadd\n</think>\n\n4"), user("3+3?"),
                              assistant("6", reasoning_content="\nadd again\n")]},
    "without thinking": {"messages": [user("2+2?")], "enable_thinking": False},
    "tools": {"messages": [system("Use tools."), user("Weather?")], "tools": [WEATHER, TIME], "date_string": "1 May 2024"},
    "tool call": {"tools": [WEATHER], "messages": [
        user("Weather in Zürich?"),
        assistant("", tool_calls=[call("weather", {"city": "Zürich", "days": 2, "ratio": 0.5, "deep": [None, True, {}]})]),
        {"role": "tool", "content": "{\"sun\": true}", "tool_call_id": "abcdefghi"},
        assistant("Sunny."), user("Thanks")]},
    "tool calls": {"messages": [
        user("Both?"),
        assistant("Looking.", tool_calls=[call("weather", "{\"city\": \"Rome\"}"), call("time", {}, "short")]),
        {"role": "tool", "content": "18"}, {"role": "tool", "content": {"content": [1, 2.5]}}]},
    "documents": {"messages": [user("Sum up."), assistant("Which?"), assistant("Both?")],
                  "documents": [{"title": "the old RIVER", "text": "It\nflows."}, {"text": "No title"}]},
}.items()}
