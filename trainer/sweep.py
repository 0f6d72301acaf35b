"""Search architecture or LoRA settings: `python trainer/sweep.py --config CONFIG --search SEARCH --study NAME …`.

`--trials N` trains N models and compares their validation losses by Optuna through the Trainer's own hyperparameter
search. The same command again goes on with a study that was interrupted. No trial keeps a checkpoint: the folder holds
the study's database, the table of trials (`trials.json`, `trials.md`) and the best configuration (`best.yaml`).
"""

import argparse
import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # A script's own folder comes first on the path, where its modules would shadow libraries.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    # What imports make stays: collections of garbage while they run would make the start half as long again.
    gc.disable()

try:
    import optuna
except ModuleNotFoundError as error:
    if __name__ == "__main__":
        print("sweep.py: error: a sweep needs Optuna: pip install 'spectra-sum[sweep]'", file=sys.stderr)
        sys.exit(2)
    raise ModuleNotFoundError("a sweep needs Optuna: pip install 'spectra-sum[sweep]'") from error
from filelock import FileLock, Timeout
from optuna.trial import TrialState
from tqdm.auto import tqdm
from transformers import set_seed

from spectra_sum.commands.arguments import positive
from spectra_sum.errors import SpectraSumError
from trainer.building import build_model, make_trainable, prepare_backbones, trainer_parts
from trainer.command_line.parser import OneLineParser
from trainer.command_line.parsing import parse_arguments
from trainer.command_line.user_errors import run
from trainer.data import load_records
from trainer.search.results import IF_INTERRUPTED, complete_config, trial_state, write_results
from trainer.search.space import SearchSpace, load_search_space
from trainer.search.trial import REASON, TrialFailed, TrialTrainer, check_searchable

# Trials are compared by their loss; the best configuration is trained, saved and evaluated by train.py.
TRIAL_ARGUMENTS = ("--save_strategy", "no", "--load_best_model_at_end", "false", "--push_to_hub", "false")
# What may differ between the runs of one study, since no loss depends on it.
NOT_COMPARED = {"output_dir", "run_name", "report_to", "logging_steps", "logging_strategy", "disable_tqdm"}
NOT_COMPARED |= {"num_proc", "dataloader_num_workers", "verify", "cache", "cache_dir"}
NOT_COMPARED |= {"final_evaluation", "max_final_articles"}
SETTINGS = "settings"
INTERRUPTED_TWICE = "interrupted at its second attempt, too"
# Its space may have more combinations than anybody would wait for.
MOST_TPE_TRIALS_IN_VAIN = 50


def parse_sweep_arguments(argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The sweep's own arguments, and those of training."""
    parser = OneLineParser(
        "sweep.py",
        description="Search over training configurations; other arguments go to training (train.py --help).",
    )
    parser.add_argument("--config", required=True, help="YAML of the training that every trial varies")
    parser.add_argument("--search", required=True, help="YAML of the search space, see trainer/search/space.py")
    parser.add_argument("--study", required=True, help="name of the study")
    parser.add_argument(
        "--trials", type=positive, required=True, help="completed trials to reach, earlier ones included"
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="the study's folder")
    parser.add_argument(
        "--sampler",
        choices=("grid", "tpe"),
        default="grid",
        help="grid: each combination once, in an order drawn from the seed; tpe: learns from earlier trials, may repeat one",
    )
    return parser.parse_known_args(argv)


def open_study(
    output: Path, name: str, space: SearchSpace, settings: dict[str, Any]
) -> tuple[optuna.Study, optuna.storages.RDBStorage]:
    """The study of that name in the folder's database, new or as an earlier run left it.

    Raises:
        ValueError: when the folder holds another study, or one of other settings.
    """
    storage = optuna.storages.RDBStorage(f"sqlite:///{output / 'study.db'}")
    others = [study for study in optuna.get_all_study_names(storage) if study != name]
    if others:
        raise SpectraSumError(
            f"{output} holds the study {others[0]}; pass --study {others[0]} or another --output_dir."
        )
    study = optuna.create_study(storage=storage, study_name=name, direction=space.direction, load_if_exists=True)
    # As they come back from the database.
    settings = json.loads(json.dumps(settings, default=str))
    before = study.user_attrs.get(SETTINGS)
    if before is None:
        study.set_user_attr(SETTINGS, settings)
    elif before != settings:
        changed = sorted(key for key in before.keys() | settings.keys() if before.get(key) != settings.get(key))
        raise SpectraSumError(
            f"the study {name} in {output} was started with other values of {', '.join(changed)}; its trials cannot be "
            "compared with new ones: pass another --output_dir."
        )
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        # The folder is locked: no process works on this trial any more.
        study.tell(trial.number, state=TrialState.FAIL)
    return study, storage


def next_combination(study: optuna.Study, space: SearchSpace, sampler: str, seed: int) -> dict[str, Any] | None:
    """The combination that comes next: an interrupted one, or with `grid` the first that was not tried."""
    tried = [trial.params for trial in study.trials if trial_state(trial) in ("completed", "pruned", "failed")]
    # At its second attempt it counts as failed, and does not come a third time.
    interrupted = [trial.params for trial in study.trials if trial_state(trial) == "interrupted"]
    candidates = [chosen for chosen in interrupted if chosen.keys() == space.parameters.keys()]
    if sampler == "grid":
        candidates += space.combinations(seed)
    return next((chosen for chosen in candidates if chosen not in tried), None)


def enqueue_next(study: optuna.Study, space: SearchSpace, sampler: str, seed: int) -> bool:
    """Enqueue the combination that comes next, if one is known; whether there was one."""
    chosen = next_combination(study, space, sampler, seed)
    if chosen is None:
        return False
    again = any(trial.params == chosen for trial in study.trials if trial_state(trial) == "interrupted")
    # Kept with the trial: nothing can be noted once the process is killed.
    study.enqueue_trial(chosen, user_attrs={IF_INTERRUPTED: INTERRUPTED_TWICE} if again else None)
    return True


def run_trials(
    trainer: TrialTrainer,
    study: optuna.Study,
    storage: optuna.storages.RDBStorage,
    options: argparse.Namespace,
    config: dict[str, Any],
) -> None:
    """Train until the study has as many completed trials as wanted, or there is nothing left to try.

    Raises:
        SpectraSumError: when as many trials in a row as there are combinations could not be completed (`tpe`: at most
            MOST_TPE_TRIALS_IN_VAIN).
    """
    space, seed = trainer.space, trainer.args.seed
    # A seed of its own for every start: the sampler would otherwise repeat its first suggestions.
    sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    limit = space.size if options.sampler == "grid" else min(space.size, MOST_TPE_TRIALS_IN_VAIN)
    in_vain = 0
    with tqdm(total=options.trials, initial=_completed(study), desc=f"trials of {study.study_name}") as bar:
        while _completed(study) < options.trials:
            if not study.get_trials(states=(TrialState.WAITING,)):
                if not enqueue_next(study, space, options.sampler, seed) and options.sampler == "grid":
                    break
            before = _completed(study)
            try:
                trainer.hyperparameter_search(
                    hp_space=trainer.training_arguments,
                    compute_objective=trainer.best_objective,
                    n_trials=1,
                    direction=space.direction,
                    backend="optuna",
                    storage=storage,
                    study_name=study.study_name,
                    load_if_exists=True,
                    sampler=sampler,
                    pruner=optuna.pruners.NopPruner(),
                    catch=(TrialFailed,),
                )
            except ValueError:
                # The search ends by asking for the best trial, and there may be none yet.
                if before or REASON not in study.trials[-1].user_attrs:
                    raise
            finally:
                write_results(study, space, options.output_dir, config)
            completed = _completed(study) - before
            bar.update(completed)
            in_vain = 0 if completed else in_vain + 1
            if in_vain == limit:
                raise SpectraSumError(
                    f"{in_vain} trials in a row could not be completed; {options.output_dir / 'trials.md'} says why."
                )


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run or go on with a study, and print its table.

    Returns:
        The content of `trials.json`.

    Raises:
        SpectraSumError: for arguments and files that do not fit; before any long work.
    """
    options, rest = parse_sweep_arguments(argv)
    space = load_search_space(options.search)
    given = ["--config", options.config, "--output_dir", str(options.output_dir)]
    config = complete_config(options.config, rest, parse_arguments([*given, *rest]))
    loss_only = ("--predict_with_generate", "false") if space.objective.startswith("eval_loss") else ()
    data_args, architecture, args, model_args = parse_arguments([*given, *rest, *TRIAL_ARGUMENTS, *loss_only])
    if args.world_size > 1:
        raise SpectraSumError("a sweep runs in one process: start it with python, with one visible GPU.")
    check_searchable(space, architecture, args, model_args)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    output = options.output_dir
    output.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(output / "study.lock").acquire(timeout=0)
    except Timeout:
        raise SpectraSumError(f"another process works on the study in {output}.") from None
    with lock:
        compared = {name: value for name, value in config.items() if name not in NOT_COMPARED}
        search = {"objective": space.objective, "direction": space.direction, "parameters": space.parameters}
        study, storage = open_study(output, options.study, space, {**compared, "search": search})
        if _completed(study) < options.trials:
            records = load_records(data_args)
            # No trial sees it, and its features need not be cached.
            records.pop("test", None)
            parts = trainer_parts(data_args, architecture, args, model_args, records, keep_base=False)
            backbones = None if model_args.model_name_or_path else prepare_backbones(data_args, records, output)

            def build(architecture: Any, model_args: Any) -> Any:
                set_seed(args.seed)
                model, processor = build_model(data_args, architecture, args, model_args, backbones)
                return make_trainable(model, processor, data_args, args, model_args, keep_base=False)

            trainer = TrialTrainer(
                space=space,
                architecture=architecture,
                model_args=model_args,
                build=build,
                first_model=parts.pop("model"),
                args=args,
                **parts,
            )
            run_trials(trainer, study, storage, options, config)
        results = write_results(study, space, output, config)
    print((output / "trials.md").read_text(encoding="utf-8"))
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    print(f"{output} holds {size / 1e6:.1f} MB; trials keep no checkpoints.")
    if results["best"] is not None:
        print(f"accelerate launch trainer/train.py --config {output / 'best.yaml'}")
    return results


def _completed(study: optuna.Study) -> int:
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


if __name__ == "__main__":
    sys.exit(run(main, "sweep.py", "the same command goes on with the study"))
