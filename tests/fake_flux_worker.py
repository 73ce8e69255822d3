"""A worker that speaks the protocol of ``pygan.stacks.flux_worker`` without Julia, and misbehaves on request."""

import json
import os
import sys
import time

START = os.environ.get("FAKE_WORKER_START", "")


def main() -> None:
    print("fake Julia is starting", file=sys.stderr, flush=True)
    if START == "die":
        print("ERROR: LoadError: Flux is broken", file=sys.stderr, flush=True)
        sys.exit(3)
    if START == "garbage":
        print("Precompiling project...", flush=True)
    json.loads(sys.stdin.readline())
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = {"arrays": {}}
        match request["op"]:
            case "configure":
                answer["device"] = "cpu"
                answer["blas_threads"] = request["blas_threads"] + (START == "threads")
            case "die":
                print("signal (11): Segmentation fault\nin expression at boot", file=sys.stderr, flush=True)
                os.kill(os.getpid(), 11)
            case "hang":
                print("about to hang", file=sys.stderr, flush=True)
                time.sleep(60)
            case "slow":
                time.sleep(1.2)
                answer["slow"] = True
            case "garbage" | "number" | "empty" | "half" | "ready":
                words = {"garbage": "Warning: something", "number": "7", "empty": "{}", "half": '{"arrays": {'}
                words["ready"] = '{"ready": true}'
                print(words[request["op"]], flush=True)
                continue
            case "error":
                answer = {"error": "DimensionMismatch: arrays could not be broadcast"}
            case "load_state":
                answer = {"error": "state does not fit: step is missing"}
            case "lie":
                answer["arrays"] = {"x": {"dtype": "F64", "shape": [1000], "offset": 0}}
            case other:
                answer["echo"] = other
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
