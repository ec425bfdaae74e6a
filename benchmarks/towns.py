"""The shipped network on towns that training never saw, beside the pixel matcher and the untrained network.

Run: python benchmarks/towns.py [--places 500] [--seeds 9001 9002 9003]. Prints Markdown; the dated log is kept in
docs/results/.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

from cricavpr import Grouping, evaluate, load_method, open_dataset
from cricavpr.town.write import make_town

ROWS = [  # label, method, weights, grouping
    ("cricavpr-tiny", "cricavpr-tiny", None, "alone"),
    ("cricavpr-tiny", "cricavpr-tiny", None, "in_order:16"),
    ("cricavpr-tiny", "cricavpr-tiny", None, "shuffled:16:0"),
    ("the same, untrained", "cricavpr-tiny", "random:0", "alone"),
    ("pixel matcher", "pixels", None, "alone"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--places", type=int, default=500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[9001, 9002, 9003])
    parser.add_argument("--weights", help="another weights file for cricavpr-tiny")
    arguments = parser.parse_args()
    recalls: dict[int, list[dict[int, float]]] = defaultdict(list)
    hashes, recorded = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            data = Path(folder) / str(seed)
            make_town(data, seed, arguments.places, "utm", image_size=(112, 112), workers=2)
            dataset, _ = open_dataset(data)
            hashes.append(dataset.split_hash()[:12])
            for row, (_, name, weights, grouping) in enumerate(ROWS):
                weights = arguments.weights if name == "cricavpr-tiny" and weights is None else weights
                result = evaluate(load_method(name, weights), dataset, Grouping.parse(grouping), workers=0)
                recalls[row].append(result.recall_at)
                recorded[row] = (result.grouping, result.made_by.weights[:12])
    print(f"{len(arguments.seeds)} towns (seeds {arguments.seeds}, splits {hashes}), {arguments.places} places each,")
    print("one database and one query picture per place at 112 px, queries in mixed conditions, positives within 25 m.")
    print("Recall in %: mean (lowest to highest) over the towns.\n")
    print("| method | weights | grouping | R@1 | R@5 | R@10 |")
    print("|--------|---------|----------|-----|-----|------|")
    for row, (label, *_) in enumerate(ROWS):
        cells = [_spread([100 * recall[n] for recall in recalls[row]]) for n in (1, 5, 10)]
        grouping, weights = recorded[row]
        print("| " + " | ".join([label, weights, grouping, *cells]) + " |")


def _spread(values: list[float]) -> str:
    return f"{sum(values) / len(values):.1f} ({min(values):.1f} to {max(values):.1f})"


if __name__ == "__main__":
    main()
