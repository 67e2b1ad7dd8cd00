# SPDX-License-Identifier: GPL-3.0-or-later
"""What of LangSmith's objects means something: where they belong, and what an import brings back of them."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from restaura.point import canonical

# What changes by being looked at, follows from other objects, or is an address that is a key; it is not kept.
DROPPED = {
    "projects": (
        "run_count latency_p50 latency_p99 first_token_p50 first_token_p99 total_tokens prompt_tokens "
        "completion_tokens total_cost prompt_cost completion_cost last_run_start_time last_run_start_time_live "
        "feedback_stats session_feedback_stats run_facets error_rate streaming_rate experiment_progress"
    ),
    "runs": "attachments s3_urls inputs_s3_urls outputs_s3_urls manifest_s3_id share_url query_metadata child_run_ids",
    "datasets": "session_count last_session_start_time example_count modified_at",
    "examples": "attachment_urls",
    "prompts": (
        "num_views num_downloads num_likes liked_by_auth_user latest_commit_manifest upstream_repo_full_name owners "
        "updated_at last_commit_hash num_commits commit_tags "
        "is_owner permissions"
    ),
    "commits": "num_views num_downloads full_name",
    "feedback": "",
    "annotation_queues": "run_rule_id total_runs",
}
QUEUE = (
    "name description default_dataset_name num_reviewers_per_item enable_reservations reservation_minutes "
    "reviewer_access_mode rubric_instructions metadata"
)
RUBRIC = (
    "feedback_key description value_descriptions score_descriptions is_required is_assertion regex_validator "
    "required_if visible_if"
)
DATASET = "name data_type inputs_schema_definition outputs_schema_definition"


class Sum:
    """An order-free sum of hashes (256 bits)."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._total = 0
        for one in items:
            self.add(one)

    def add(self, item: Any) -> None:
        """Add one item."""
        self._total += int(digest(item), 16)

    @property
    def text(self) -> str:
        """The sum in hexadecimal."""
        return f"{self._total % (1 << 256):064x}"


def digest(value: Any) -> str:
    """Return SHA-256 over the canonical JSON of a value, in hexadecimal."""
    return hashlib.sha256(canonical({"value": value})).hexdigest()


def kept(kind: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is kept of an object."""
    dropped = DROPPED[kind].split()
    return {name: value for name, value in body.items() if name not in dropped}


def part_of(kind: str, body: Mapping[str, Any]) -> str:
    """Return the id of what an object belongs to: a run to a project, an example to a dataset."""
    if kind in ("runs", "feedback"):
        return str(body.get("project_id") or body.get("session_id") or "")
    return str(body["dataset_id"]) if kind == "examples" else ""


def moment(kind: str, body: Mapping[str, Any]) -> str:
    """Return when an object began, as the API wrote it."""
    return str(body.get("start_time" if kind == "runs" else "created_at") or "")


def parent(run: Mapping[str, Any]) -> str:
    """Return the id of a run's parent, or nothing."""
    return str((run.get("parent_run_ids") or [run.get("parent_run_id") or ""])[-1])


def is_tracing(project: Mapping[str, Any]) -> bool:
    """Whether a project is one that is traced to; an experiment is made of runs, and comes back with none."""
    return not project.get("reference_dataset_id")


def dataset(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an import brings back of a dataset, its examples left out."""
    found = {name: one.get(name) for name in DATASET.split()}
    return found | {
        "description": one.get("description") or "",
        "transformations": one.get("transformations") or [],
        "metadata": one.get("metadata") or {},
    }


def example(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an import brings back of an example."""
    metadata = dict(one.get("metadata") or {})
    split = metadata.pop("dataset_split", None) or []
    files = one.get("attachments") or {}
    return {
        "inputs": one.get("inputs"),
        "outputs": one.get("outputs"),
        "metadata": metadata,
        "split": sorted([split] if isinstance(split, str) else split),
        "attachments": {name: [file.get("mime_type"), file["sha256"]] for name, file in files.items()},
    }


def prompt(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an import brings back of a prompt: every commit, oldest first, and the tags by their place."""
    commits = one["commits"]
    places = {commit["commit_hash"]: number for number, commit in enumerate(commits)}
    tags = {tag["tag_name"]: places.get(tag.get("commit_hash")) for tag in one.get("commit_tags_list") or []}
    return prompt_card(one) | {
        "handle": one["repo_handle"],
        "commits": [[commit["manifest"], commit.get("description") or ""] for commit in commits],
        "commit tags": tags,
    }


def prompt_card(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of a prompt beside its commits, in the form in which it is set."""
    return {
        "description": one.get("description") or "",
        "readme": one.get("readme") or "",
        "tags": sorted(one.get("tags") or []),
        "is_public": bool(one.get("is_public")),
        "is_archived": bool(one.get("is_archived")),
    }


def queue(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an import brings back of an annotation queue: how it is set up, not the runs in it."""
    found: dict[str, Any] = {name: one.get(name) for name in QUEUE.split()}
    rubric = [{name: item[name] for name in RUBRIC.split() if item.get(name)} for item in one.get("rubric_items") or []]
    return {name: value for name, value in found.items() if value not in (None, "", {})} | {"rubric_items": rubric}


def project(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an import brings back of a project: how it is set up, not its runs."""
    found = {"name": one["name"], "description": one.get("description") or "", "extra": one.get("extra") or {}}
    return found | {name: one[name] for name in ("trace_tier", "longlived_ttl_days") if one.get(name)}
