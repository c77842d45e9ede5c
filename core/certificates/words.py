"""What certificates and reports say in words, and what they say that they do not prove.

The words belong to the format: change them together with the number in ``shape.FORMAT``.
"""

from collections.abc import Mapping
from typing import Final

STATEMENTS: Final[Mapping[str, str]] = {
    "certificate": (
        "The published version was made from the base version by unlearning the records below with the method and "
        "parameters below. Measured on the weights as published, every gate that the policy requires was passed, and "
        "the same measurements on the unchanged weights did not pass. This certifies a procedure and measurements."
    ),
    "report": (
        "This report certifies nothing. It says what a run did and what was measured; the run failed, was not "
        "conclusive, was published in spite of its verdict, or had no controls to compare with."
    ),
}

NOT_PROVEN: Final = (
    "That the records cannot be extracted by any attack. Only the attacks and measurements listed here were tried; "
    "knowledge can be hidden rather than gone, and paraphrases, other prompts or inner layers were probed as far as "
    "listed and no further.",
    "That the weights equal those of a model retrained without the records. Unlearning is approximate, and equal "
    "weights can come from different data: the weights alone prove nothing about what they were trained on.",
    "That other copies are gone: earlier versions, quantised exports, backups, caches, embeddings, the customer's own "
    "data sets and whatever was downloaded before.",
    "That near copies and paraphrases of the records in the retained data do not teach the same again.",
    "That the forgotten knowledge stays away after fine-tuning, quantisation or compression beyond what was measured.",
    "That every single record is forgotten as well as the average, or that no other record has become easier to "
    "attack; the per-record table of the run shows single records.",
    "Anything about who reads two versions: comparing the weights before and after can reveal what was removed.",
    "That the data set was complete or that the record ids name the right person; that is the customer's statement.",
    "That the service told the truth: the signature shows who says so. A replay of the run checks the computation.",
)
