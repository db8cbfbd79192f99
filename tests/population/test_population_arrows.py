"""What the population may know of the rest of the world."""

import pkgutil

from store_examples import python

import population

FORBIDDEN = ("torch", "mlflow", "anthropic", "transformers", "evo_aar", "evaluator", "recipes")


def imported_by(*modules):
    program = (
        f"import sys\nfor name in {modules!r}: __import__(name)\nprint(*sorted({{name.split('.')[0] for name"
        " in sys.modules}))"
    )
    process = python(program)
    out, error = process.communicate()
    assert process.returncode == 0, error
    return set(out.split())


def test_population_imports_no_trainer_tracker_llm_client_or_other_package_of_ours():
    modules = [module.name for module in pkgutil.walk_packages(population.__path__, "population.")]
    assert "population.tables.trials" in modules and "population.frames" in modules
    assert not imported_by(*modules) & set(FORBIDDEN)


def test_only_the_frames_need_pandas():
    modules = [
        module.name
        for module in pkgutil.walk_packages(population.__path__, "population.")
        if module.name != "population.frames"
    ]
    assert "pandas" not in imported_by(*modules)
