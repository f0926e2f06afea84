"""A local server that runs a student on token ids and images, as vLLM and as SGLang would."""

import io
import json
import threading
from base64 import b64decode
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch
from PIL import Image

from act2see.encoding import pixels


class StudentServer:
    """What both servers do: put an image's tokens in, generate greedily, say what was read.

    bare: adapters that are listed, and not loaded.
    """

    def __init__(self, model, processor, kind="vllm", bare=False):
        self.model, self.processor, self.kind, self.bare = model, processor, kind, bare
        self.read, self.bodies, self.lock = [], [], threading.Lock()

    def models(self):
        cards = [{"id": "base"}, {"id": "tuned", "parent": "base"}]
        return {"data": [card | {"owned_by": self.kind} for card in cards]}

    def post(self, path, body):
        with self.lock:
            self.bodies.append(body)
            if path == "/inference/v1/generate" and self.kind == "vllm":
                return self._vllm(body)
            assert path == "/generate" and self.kind == "sglang", path
            return self._sglang(body)

    def _vllm(self, body):
        sampling = body["sampling_params"]
        urls = [part["url"] for part in body.get("content_parts", [])]
        limit = sampling["max_tokens"]
        ids, said, chances = self._generate(body["model"], body["token_ids"], urls, limit, sampling)
        ended = said[-1] in sampling.get("stop_token_ids", []) or len(said) < limit
        choice = {"token_ids": said, "finish_reason": "stop" if ended else "length"}
        if sampling["logprobs"] is not None:
            choice["logprobs"] = {"content": [{"logprob": chance} for chance in chances]}
        return {"model": body["model"], "choices": [choice], "prompt_token_ids": ids}

    def _sglang(self, body):
        sampling = body["sampling_params"]
        limit = sampling["max_new_tokens"]
        name = body.get("lora_path", "base")
        urls = body.get("image_data", [])
        ids, said, chances = self._generate(name, body["input_ids"], urls, limit, sampling)
        ended = said[-1] in sampling.get("stop_token_ids", []) or len(said) < limit
        meta = {"finish_reason": {"type": "stop" if ended else "length"}}
        meta["prompt_tokens"] = len(ids)
        meta["output_token_logprobs"] = [[chance, 0, None] for chance in chances]
        return {"output_ids": said, "meta_info": meta}

    def _generate(self, name, ids, urls, limit, sampling):
        images = [Image.open(io.BytesIO(b64decode(url.partition(",")[2]))) for url in urls]
        patches = pixels([image.convert("RGB") for image in images], self.processor)
        place = self.processor.image_token_id
        merged = [int(grid.prod()) // 4 for grid in patches.get("image_grid_thw", [])]
        counts = iter(merged)
        ids = [t for token in ids for t in [token] * (next(counts) if token == place else 1)]
        ends = sampling.get("stop_token_ids", []) or [self.processor.tokenizer.pad_token_id]
        stops = sampling.get("stop") or []
        more = {"stop_strings": stops, "tokenizer": self.processor.tokenizer} if stops else {}
        if bias := sampling.get("logit_bias"):
            more["sequence_bias"] = {(int(token),): value for token, value in bias.items()}
        tensor = torch.tensor([ids])
        plain = name == "base" or self.bare
        with self.model.disable_adapter() if plain else nullcontext(), torch.inference_mode():
            made = self.model.generate(
                input_ids=tensor,
                attention_mask=torch.ones_like(tensor),
                mm_token_type_ids=(tensor == place).int(),
                max_new_tokens=limit,
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=ends[0],
                return_dict_in_generate=True,
                output_logits=True,
                **patches,
                **more,
            )
        said = made.sequences[0, len(ids) :].tolist()
        rows = torch.cat(made.logits).log_softmax(-1)
        self.read.append((ids, said))
        return ids, said, [rows[i, token].item() for i, token in enumerate(said)]


@contextmanager
def listening(student):
    """A context with the address of a server that asks `student`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._send(student.models())

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(student.post(self.path, body))

        def _send(self, fields):
            data = json.dumps(fields).encode()
            self.send_response(200 if "error" not in fields else 400)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1"
    finally:
        http.shutdown()
        http.server_close()
        thread.join(5)
