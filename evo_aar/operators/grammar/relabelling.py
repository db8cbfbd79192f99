"""Stages that better the targets by what students make of them."""

import numpy as np

from evo_aar.operators.grammar.common import beliefs_from, held_out_beliefs, log_odds

RELABEL_WEIGHT = 0.7
CHANNEL_BUCKETS = 10
DISTILL_EPOCHS = 8.0
DISTILL_WEIGHT = 0.8
DISTILL_STRENGTH = 0.5
PROBE_LAYERS = (-1, -2)
PROBE_EPOCHS = 5.0
PROBE_WEIGHT = 0.5


async def relabel_out_of_fold(task, targets):
    """Blend with the beliefs of students about rows that they were not trained on."""
    return (1 - RELABEL_WEIGHT) * targets + RELABEL_WEIGHT * await held_out_beliefs(task, targets)


async def label_posterior(task, targets):
    """One step of expectation maximisation: the teacher as a noisy channel seen through out-of-fold students."""
    student = log_odds(await held_out_beliefs(task, targets))
    student = student - np.median(student)
    belief = beliefs_from(student)
    weak = task.weak_labels[:, 1]
    bucket = np.searchsorted(np.quantile(weak, np.linspace(0, 1, CHANNEL_BUCKETS + 1)[1:-1]), weak)
    evidence = np.zeros(task.size)
    for number in range(CHANNEL_BUCKETS):
        inside = bucket == number
        of_class = belief[inside].sum(axis=0) + 1
        evidence[inside] = np.log(of_class[1] / of_class[0])
    return beliefs_from(student + evidence)


async def distil_from_student(task, targets):
    """Blend with the predictions of a student of these targets that may overrule them (auxiliary confidence loss)."""
    student = await task.finetune(
        targets, epochs=DISTILL_EPOCHS, loss="log_confidence", loss_options={"strength": DISTILL_STRENGTH}
    )
    return (1 - DISTILL_WEIGHT) * targets + DISTILL_WEIGHT * await task.predict(student)


async def consult_probe(task, targets):
    """Blend with a linear probe on several layers, too simple to fit the teacher's mistakes."""
    probe = await task.probe(PROBE_LAYERS, targets, epochs=PROBE_EPOCHS)
    return (1 - PROBE_WEIGHT) * targets + PROBE_WEIGHT * await task.predict(probe)
