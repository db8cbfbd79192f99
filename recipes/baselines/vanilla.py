"""Fine-tune on the teacher's most likely label, the naive method of Burns et al. 2023, "Weak-to-Strong Generalization", section 3."""


async def recipe(task):
    return await task.finetune(task.weak_labels.argmax(axis=1))
