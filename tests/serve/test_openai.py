"""The `openai` client against the server: every call that it is documented for, errors as its exception classes."""

import os
import pathlib
import tempfile
import unittest

import openai

from served import Server, eventually

TEMPLATE = ("{% for m in messages %}{% if m.role not in ['user', 'assistant', 'system'] %}"
            "{{ raise_exception('unknown role ' + m.role) }}{% endif %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
            "{% if add_generation_prompt %}assistant:{% endif %}")
MESSAGES = [{"role": "system", "content": "Answer."}, {"role": "user", "content": "The history of the city"}]


class OpenAi(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        template = pathlib.Path(cls.folder.name) / "template.jinja"
        template.write_text(TEMPLATE)
        cls.server = Server("-q", "--api-key", "secret", "--open-metrics", "--chat-template", str(template))
        cls.client = openai.OpenAI(base_url=cls.server.url + "/v1", api_key="secret", max_retries=0)
        cls.model = cls.client.models.list().data[0].id

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        assert cls.server.stop() == 0
        cls.folder.cleanup()

    def chat(self, **fields):
        return self.client.chat.completions.create(model=self.model, messages=MESSAGES, **fields)

    def complete(self, **fields):
        return self.client.completions.create(model=self.model, prompt="The history of the city", **fields)

    def test_models(self):
        self.assertEqual(self.client.models.retrieve(self.model).id, self.model)

    def test_completion(self):
        answer = self.complete(max_tokens=8, temperature=0, logprobs=3)
        self.assertEqual(answer.usage.completion_tokens, 8)
        self.assertEqual(len(answer.choices[0].logprobs.tokens), 8)
        self.assertEqual(len(answer.choices[0].logprobs.top_logprobs[0]), 3)
        streamed = "".join(c.choices[0].text for c in self.complete(max_tokens=8, temperature=0, stream=True))
        self.assertEqual(streamed, answer.choices[0].text)

    def test_chat(self):
        answer = self.chat(max_tokens=12, temperature=0)
        self.assertEqual(answer.choices[0].message.role, "assistant")
        chunks = list(self.chat(max_tokens=12, temperature=0, stream=True, stream_options={"include_usage": True}))
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, answer.choices[0].message.content)
        self.assertEqual(chunks[-2].choices[0].finish_reason, answer.choices[0].finish_reason)
        self.assertEqual((chunks[-1].choices, chunks[-1].usage), ([], answer.usage))

    def test_chat_logprobs(self):
        answer = self.chat(max_completion_tokens=5, temperature=0, logprobs=True, top_logprobs=4)
        content = answer.choices[0].logprobs.content
        self.assertEqual(len(content), 5)
        for token in content:
            self.assertEqual(len(token.top_logprobs), 4)
            self.assertEqual(token.logprob, token.top_logprobs[0].logprob)
        self.assertEqual(b"".join(bytes(t.bytes) for t in content).decode(), answer.choices[0].message.content)

    def test_seed_n_and_stop(self):
        first = self.chat(max_tokens=16, temperature=1, seed=5, n=2)
        again = self.chat(max_tokens=16, temperature=1, seed=5, n=2)
        self.assertEqual([c.message.content for c in first.choices], [c.message.content for c in again.choices])
        self.assertNotEqual(first.choices[0].message.content, first.choices[1].message.content)
        text = self.chat(max_tokens=16, temperature=0).choices[0].message.content
        stopped = self.chat(max_tokens=16, temperature=0, stop=text[4:8]).choices[0]
        self.assertEqual((stopped.message.content, stopped.finish_reason), (text[:text.index(text[4:8])], "stop"))

    def test_errors_are_the_right_classes(self):
        with self.assertRaises(openai.AuthenticationError):
            openai.OpenAI(base_url=self.server.url + "/v1", api_key="wrong").models.list()
        with self.assertRaises(openai.NotFoundError):
            self.client.completions.create(model="gpt-4", prompt="x")
        with self.assertRaises(openai.NotFoundError):
            self.client.embeddings.create(model=self.model, input="x")
        with self.assertRaises(openai.BadRequestError) as refusal:
            self.chat(temperature=-1)
        self.assertEqual(refusal.exception.param, "temperature")
        with self.assertRaises(openai.BadRequestError) as refusal:
            self.client.completions.create(model=self.model, prompt=[5] * 600)
        self.assertEqual(refusal.exception.code, "context_length_exceeded")
        with self.assertRaises(openai.BadRequestError) as refusal:
            self.client.chat.completions.create(model=self.model, messages=[{"role": "pilot", "content": "x"}])
        self.assertIn("unknown role pilot", str(refusal.exception))
        with Server("-q", "--max-queue", "0") as full:
            client = openai.OpenAI(base_url=full.url + "/v1", api_key="none", max_retries=0)
            with self.assertRaises(openai.RateLimitError):
                client.completions.create(model="default", prompt="x")

    def test_an_aborted_stream_ends_in_the_engine(self):
        stream = self.complete(max_tokens=490, stream=True, extra_body={"ignore_eos": True})
        next(iter(stream))
        stream.close()
        self.assertTrue(eventually(lambda: self.server.metric("requests_running") == 0, 2))


if __name__ == "__main__":
    os.environ.pop("OPENAI_API_KEY", None)
    unittest.main(verbosity=2)
