"""Draw senses.svg: the top-layer vectors of "play" in twelve sentences, on their first two principal components.

usage: python docs/images/senses.py
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np

from elmolite import ELMo

VERB = [
    "The children play in the garden .",
    "Some boys play on the lawn .",
    "The girls play at cards .",
    "We used to play with him .",
    "They play together every day .",
    "Let the others play outside .",
]
NOUN = [
    "He wrote a new play for the theatre .",
    "The play was a great success .",
    "We went to see the play .",
    "She liked the first act of the play .",
    "The author of the play was present .",
    "It is a play in five acts .",
]
WIDTH, HEIGHT = 860, 330


def main() -> None:
    """Write the picture beside this script."""
    sentences = [sentence.split() for sentence in VERB + NOUN]
    vectors = ELMo.from_pretrained("mini-en").embed(sentences, layers="top")
    of_play = np.stack([vector[s.index("play")] for vector, s in zip(vectors, sentences, strict=True)])
    centred = of_play - of_play.mean(axis=0)
    u, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    points = u[:, :2] * sizes[:2]
    low, high = points.min(axis=0), points.max(axis=0)
    x, y = ((points - low) / (high - low)).T
    x, y = 40 + x * (WIDTH - 385), 62 + (1 - y) * (HEIGHT - 92)
    # The labels of a sense are one column, moved apart where they would overlap.
    labels_x, labels_y = np.empty_like(x), np.empty_like(y)
    for side in (slice(0, len(VERB)), slice(len(VERB), None)):
        order = np.argsort(y[side])
        placed = y[side][order].copy()
        for i in range(1, len(placed)):
            placed[i] = max(placed[i], placed[i - 1] + 21)
        labels_y[np.arange(len(y))[side][order]] = placed - max(0.0, placed[-1] - (HEIGHT - 22))
        labels_x[side] = x[side].max() + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-size="14" '
        'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">',
        "<title>Vectors of the word play in twelve sentences: the verb and the noun form two groups</title>",
        f'<rect x="1" y="1" width="{WIDTH - 2}" height="{HEIGHT - 2}" rx="10" fill="#fff" stroke="#d0d7de"/>',
        '<text x="24" y="32" font-size="16" font-weight="600" fill="#1f2328">One word, twelve vectors: '
        '<tspan fill="#0b7285">play, the verb</tspan>, and <tspan fill="#b5500b">play, the noun</tspan></text>',
    ]
    for i, sentence in enumerate(sentences):
        colour = "#0b7285" if i < len(VERB) else "#b5500b"
        at = sentence.index("play")
        text = (
            f"{escape(' '.join(sentence[:at]))} <tspan font-weight='700' fill='{colour}'>play</tspan> "
            f"{escape(' '.join(sentence[at + 1 :]))}"
        ).replace(" .", ".")
        parts.append(
            f'<line x1="{x[i]:.0f}" y1="{y[i]:.0f}" x2="{labels_x[i]:.0f}" y2="{labels_y[i]:.0f}" stroke="#afb8c1"/>'
        )
        parts.append(f'<circle cx="{x[i]:.0f}" cy="{y[i]:.0f}" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{labels_x[i] + 5:.0f}" y="{labels_y[i] + 5:.0f}" fill="#424a53">{text}</text>')
    Path(__file__).with_suffix(".svg").write_text("\n".join([*parts, "</svg>", ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
