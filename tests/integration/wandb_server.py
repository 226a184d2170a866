"""As much of a W&B server as a run needs, on this machine: it keeps what it is told, and tells it to a resumed run."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class WandbServer(ThreadingHTTPServer):
    """Answers the client; ``runs`` are what it knows, by their ids."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, dict[str, Any]] = {}
        self.address = f"http://127.0.0.1:{self.server_port}"

    def history(self, run: str) -> list[dict[str, Any]]:
        lines: list[str] = self.runs[run]["files"].get("wandb-history.jsonl", [])
        return [json.loads(line) for line in lines]

    def summary(self, run: str) -> dict[str, Any]:
        lines = self.runs[run]["files"].get("wandb-summary.json", ["{}"])
        return dict(json.loads(lines[-1]))

    def answer(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "p", "name": "views", "entity": {"id": "e", "name": "team"}}
        if query == "Viewer":
            return {"viewer": {"id": "u", "entity": "team", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        if query == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.address}/put/{name}"} for name in given.get("files", [])]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": files}}
        if query == "RunResumeStatus":
            known = given["name"] in self.runs
            return {"model": {**project, "bucket": self._state(given["name"]) if known else None}}
        if query == "UpsertBucket":
            run = self.runs.setdefault(given["name"], {"files": {}})
            told = {name: value for name, value in given.items() if value is not None and name not in ("id", "files")}
            inserted = "displayName" not in run
            run.update(told)
            bucket = {"id": "r", "name": given["name"], "displayName": run.get("displayName"), "project": project}
            return {"upsertBucket": {"bucket": {**bucket, "historyLineCount": 0}, "inserted": inserted}}
        return {}

    def _state(self, run: str) -> dict[str, Any]:
        files = self.runs[run]["files"]
        lines = {name: files.get(f"wandb-{name}.jsonl", []) for name in ("history", "events")}
        return {
            "id": "r",
            "name": run,
            "displayName": self.runs[run].get("displayName"),
            "summaryMetrics": json.dumps(self.summary(run)),
            "config": self.runs[run].get("config", "{}"),
            "logLineCount": len(files.get("output.log", [])),
            "tags": [],
            "wandbConfig": json.dumps({"t": 1}),
            **{f"{name}LineCount": len(own) for name, own in lines.items()},
            **{f"{name}Tail": json.dumps(own[-1:]) for name, own in lines.items()},
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._send({})

    def do_PUT(self) -> None:
        self._content()
        self._send({})

    def do_POST(self) -> None:
        content = self._content()
        if self.path.endswith("graphql"):
            asked = json.loads(content)
            found = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            self._send({"data": self.server.answer(found[1] if found else "", asked.get("variables") or {})})
            return
        if stream := re.fullmatch(r"/files/team/\w+/(\S+)/file_stream", self.path):
            files = self.server.runs[stream[1]]["files"]
            for name, told in (json.loads(content).get("files") or {}).items():
                lines = files.setdefault(name, [])
                lines[told["offset"] :] = told["content"]
        self._send({})

    def _content(self) -> bytes:
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(content) if self.headers.get("Content-Encoding") == "gzip" else content

    def _send(self, answer: dict[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    with WandbServer() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
