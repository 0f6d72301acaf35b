"""Which checkpoint a training goes on from."""

from pathlib import Path

from trainer.arguments import SpectraTrainingArguments


def checkpoint_to_resume(args: SpectraTrainingArguments) -> str | None:
    """The checkpoint named by `resume_from_checkpoint` ("latest" or "true": the newest in the output folder).

    Raises:
        ValueError: when there is none to resume, or when the output folder holds some and resuming was not asked for.
    """
    output = Path(args.output_dir)
    # A checkpoint whose writing was cut off lacks the file that the Trainer writes last.
    complete = [path for path in output.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    newest = max(complete, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    latest = str(newest) if newest else None
    wanted = args.resume_from_checkpoint
    if wanted in (None, False, "false", "False"):
        if latest is not None:
            raise ValueError(
                f"{latest} exists: pass --resume_from_checkpoint latest to go on, or another --output_dir to start anew."
            )
        return None
    if wanted in (True, "true", "True", "latest"):
        if latest is None:
            raise ValueError(f"resume_from_checkpoint: there is no checkpoint in {args.output_dir}.")
        return latest
    if not Path(wanted).is_dir():
        raise ValueError(f"resume_from_checkpoint: there is no folder {wanted}.")
    return wanted
