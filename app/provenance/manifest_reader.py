"""Run as a process of its own: prints as JSON what a file's Content Credentials say.

The file may come from anywhere, and it is read by a native library that may crash, hang or take all
memory: then this process ends, and who asked lives on.
"""

import json
import sys
from pathlib import Path
from typing import Any

from .credentials import KINDS, OFFLINE, OURS, SOURCE_TYPE

MOST_CHARACTERS = 200
MEMORY_BYTES = 4 << 30


def read(path: Path, root: str) -> dict[str, Any]:
    """state: "none", "Valid", "Trusted" (by `root`, a PEM), "Invalid", or "unreadable"."""
    import c2pa

    settings: dict[str, Any] = dict(OFFLINE)
    if root:
        settings |= {"trust": {"user_anchors": root}}
        settings["verify"] = OFFLINE["verify"] | {"verify_trust": True}
    context = c2pa.Context(c2pa.Settings.from_dict(settings))
    try:
        with open(path, "rb") as file:
            reader = c2pa.Reader(KINDS[path.suffix.lower()], file, context=context)
            store = json.loads(reader.json())
    except c2pa.C2paError as error:
        if "ManifestNotFound" in f"{type(error).__name__}: {error}":
            return {"state": "none"}
        return {"state": "unreadable", "problems": [printable(error)]}
    return told(store)


def told(store: dict[str, Any]) -> dict[str, Any]:
    """Of a manifest store, what a report shows; strings short and printable."""
    active = store.get("manifests", {}).get(store.get("active_manifest"), {})
    assertions = {a.get("label", ""): a.get("data", {}) for a in active.get("assertions", [])}
    actions = assertions.get("c2pa.actions.v2") or assertions.get("c2pa.actions") or {}
    sources = [str(a.get("digitalSourceType", "")) for a in actions.get("actions", [])]
    signature = active.get("signature_info") or {}
    generators = active.get("claim_generator_info") or [{}]
    return {
        "state": printable(store.get("validation_state", "Invalid")),
        "problems": [printable(p.get("code")) for p in store.get("validation_status", [])][:10],
        "signed_by": printable(signature.get("common_name") or signature.get("issuer")),
        "program": printable(generators[0].get("name")),
        "source_types": [printable(s.removeprefix(SOURCE_TYPE)) for s in sources if s][:10],
        "generation": {
            printable(name): printable(value)
            for name, value in list((assertions.get(OURS) or {}).items())[:20]
        },
    }


def printable(value: object) -> str:
    """Any value as a short line."""
    if value is None:
        return ""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return "".join(c if c.isprintable() else "?" for c in text)[:MOST_CHARACTERS]


def limit_memory() -> None:
    """Where the system can."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


if __name__ == "__main__":
    limit_memory()
    print(json.dumps(read(Path(sys.argv[1]), sys.stdin.read())))
