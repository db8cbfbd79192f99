"""Fine-tune on weak hard labels with the auxiliary confidence loss of Burns et al. 2023, section 4.3, at their strength for large gaps."""

CONFIDENCE_STRENGTH = 0.75
CONFIDENCE_WARMUP = 0.2


async def recipe(task):
    options = {"strength": CONFIDENCE_STRENGTH, "warmup": CONFIDENCE_WARMUP}
    return await task.finetune(task.weak_labels.argmax(axis=1), loss="log_confidence", loss_options=options)
