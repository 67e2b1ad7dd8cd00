# SPDX-License-Identifier: GPL-3.0-or-later
"""LangSmith's own client in a process of its own, and what the tests do with it: fill a workspace, and read it."""

import json
import subprocess
import sys
from typing import Any

from tools.lab import clients

PORT = 1984
URL = f"http://127.0.0.1:{PORT}"
KEY = "lsv2_pt_of_the_lab"

LOOP = """
import json, sys, traceback
from langsmith import Client
import warnings
warnings.simplefilter("ignore")
space = {"client": Client(api_url=sys.argv[1], api_key=sys.argv[2])}
for line in sys.stdin:
    space["out"] = None
    try:
        exec(json.loads(line), space)
        answer = {"out": space["out"]}
    except Exception:
        answer = {"error": traceback.format_exc()}
    print(json.dumps(answer, default=str), flush=True)
"""

FILL = """
import datetime, uuid
now = datetime.datetime.now(datetime.timezone.utc)
ids = {}
for name in ("shop", "Search & co"):
    project = client.create_project(name, description=f"what {name} does", metadata={"team": name})
    ids[name] = str(project.id)
def trace(project, name, minutes, parent=None, attachments=None, **more):
    start = now - datetime.timedelta(minutes=minutes)
    key = uuid.uuid4()
    order = f"{start:%Y%m%dT%H%M%S%f}Z{key}"
    trace_id = key
    if parent:
        order, trace_id = f"{parent['order']}.{order}", uuid.UUID(parent["trace"])
    client.create_run(name, {"question": f"{name} é?", "n": minutes}, "chain" if not parent else "llm", id=key,
        trace_id=trace_id, dotted_order=order, parent_run_id=uuid.UUID(parent["id"]) if parent else None,
        project_name=project, start_time=start, end_time=start + datetime.timedelta(seconds=1),
        outputs={"answer": [1, 2.5, None, "x" * 50]}, tags=["lab"], extra={"metadata": {"k": minutes}},
        attachments=attachments, **more)
    return {"id": str(key), "trace": str(trace_id), "order": order}
runs = []
for number in range(12):
    root = trace("shop", f"order-{number}", 60 - number,
                 attachments={"photo": ("image/png", b"PNG" * 1000 + bytes([number]))} if number < 3 else None)
    child = trace("shop", "model", 59.5 - number, parent=root)
    runs += [root["id"], child["id"]]
runs += [trace("Search & co", f"find-{number}", 30 - number)["id"] for number in range(5)]
client.flush()
for number in range(3):
    client.create_feedback(runs[number], "correctness", score=number / 4, comment=f"c{number}",
                           trace_id=None, session_id=ids["shop"])
client.flush()
data = client.create_dataset("questions", description="what people ask", metadata={"owner": "ana"},
    inputs_schema={"type": "object", "properties": {"q": {"type": "string"}}})
client.create_examples(dataset_id=data.id, examples=[
    {"inputs": {"q": f"q{n}"}, "outputs": {"a": n}, "metadata": {"level": n},
     "split": "test" if n % 2 else ["train", "all"],
     "attachments": {"plan.pdf": {"mime_type": "application/pdf", "data": b"%PDF" + bytes([n]) * 3000}}
     if n < 2 else None}
    for n in range(7)])
client.update_dataset_tag(dataset_id=data.id, as_of=datetime.datetime.now(datetime.timezone.utc), tag="golden")
client.create_examples(dataset_id=client.create_dataset("Café / menu").id, examples=[{"inputs": {"q": "?"}}])
for handle in ("greeting", "summary"):
    client.create_prompt(handle, description=f"the {handle}", tags=["lab"], readme="# read me")
    parent = None
    for number in range(3):
        manifest = {"lc": 1, "type": "constructor", "id": ["langchain", "prompts", "PromptTemplate"],
                    "kwargs": {"template": f"{handle} {number} {{x}}", "input_variables": ["x"]}}
        made = client.request_with_retries("POST", f"/commits/-/{handle}",
            json={"manifest": manifest, "parent_commit": parent, "description": f"v{number}"}).json()["commit"]
        parent = made["commit_hash"]
        if number == 1:
            client._create_commit_tags(f"-/{handle}", made["id"], "prod")
queue = client.create_annotation_queue(name="to review", description="look at these",
    rubric_instructions="be fair", rubric_items=[{"feedback_key": "correctness", "description": "is it?"}])
client.add_runs_to_annotation_queue(queue.id, run_ids=runs[:3])
out = {"projects": ids, "runs": runs, "dataset": str(data.id), "queue": str(queue.id)}
"""

READ = """
import hashlib
def files(example):
    return {name: hashlib.sha256(one["reader"].read()).hexdigest() for name, one in (example.attachments or {}).items()}
datasets = {}
for data in client.list_datasets():
    examples = sorted(([str(e.id), e.inputs, e.outputs, e.metadata, files(e)]
        for e in client.list_examples(dataset_id=data.id, include_attachments=True)), key=str)
    tags = [sorted(version.tags or []) for version in client.list_dataset_versions(dataset_id=data.id, limit=1)]
    datasets[data.name] = [data.description, data.metadata, data.inputs_schema, examples, tags]
prompts = {}
for repo in client.list_prompts(is_archived=False).repos:
    if repo.owner in (None, "lab"):
        commits = [client.pull_prompt_commit(f"{repo.repo_handle}:{c.commit_hash}", skip_cache=True).manifest
                   for c in client.list_prompt_commits(repo.repo_handle)]
        tags = client.request_with_retries("GET", f"/repos/-/{repo.repo_handle}/tags").json()
        tagged = {tag["tag_name"]: client.pull_prompt_commit(f"{repo.repo_handle}:{tag['commit_hash']}").manifest
                  for tag in tags}
        prompts[repo.repo_handle] = [repo.description, repo.readme, repo.tags, commits, tagged]
queues = {}
for queue in client.list_annotation_queues():
    whole = client.read_annotation_queue(queue.id)
    rubric = [[item["feedback_key"], item.get("description")] for item in whole.rubric_items or []]
    queues[whole.name] = [whole.description, whole.rubric_instructions, rubric]
projects = {one.name: [one.description, one.metadata] for one in client.list_projects()}
out = {"datasets": datasets, "prompts": prompts, "queues": queues, "projects": projects}
"""

ALL_RUNS = """
out = sorted(str(run.id) for project in client.list_projects() for run in client.list_runs(project_id=project.id))
"""


class Sdk:
    """The client; `do` runs Python with `client` in a space that stays, and returns `out`."""

    def __init__(self) -> None:
        folder = clients.folder_of("langsmith")
        assert folder.is_dir(), f"python -m tools.lab.clients langsmith: {folder}"
        self._child = subprocess.Popen(
            [sys.executable, "-c", LOOP, URL, KEY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin", "LANGSMITH_TRACING": "false"},
        )

    def do(self, code: str) -> Any:
        """Run code and return what it put into `out`."""
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write(json.dumps(code) + "\n")
        self._child.stdin.flush()
        answer = json.loads(self._child.stdout.readline())
        assert "error" not in answer, answer["error"]
        return answer["out"]

    def close(self) -> None:
        """End the process."""
        with self._child:
            self._child.kill()
