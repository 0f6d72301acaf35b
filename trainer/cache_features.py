"""Fill the feature cache of a training: `accelerate launch trainer/cache_features.py --config trainer/configs/NAME.yaml`.

Takes the arguments of train.py, and several processes share the work. Training with the same `cache` and `cache_dir` finds what
is there, and computes what is missing: a run of this command may be stopped at any time (SIGTERM: exit code 143) and be started
again. For data of more than a few minutes fill with this command first, so that no training waits for it.

It reads all shards whole and compares their checksums. The start of a training compares headers, file sizes and the articles:
it finds shards that are missing, cut off or of other articles, but no number that the disk has changed in place.
All processes must share `cache_dir`; a complete one may be read-only.
"""

import gc
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder comes first on the path, where its modules would shadow libraries.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    # What imports make stays: collections of garbage while they run would make the start half as long again.
    gc.disable()

from accelerate import PartialState
from transformers import set_seed

from trainer.building import build_model, cached_features, find_dual_encoder, prepare_backbones
from trainer.command_line.parsing import check_cache_arguments, parse_arguments
from trainer.command_line.user_errors import run
from trainer.train import load_run_records
from trainer.trainable import set_trainable
from trainer.vision_tower import hold_embeddings_apart


def main(argv: Sequence[str] | None = None) -> None:
    """Compute the features that are not in the cache yet: embeddings, where the arguments say nothing else.

    Args:
        argv (`Sequence[str]`, *optional*): Defaults to the arguments of the process.

    Raises:
        SpectraSumError: for arguments, files and a disk that do not fit.
    """
    data_args, architecture, args, model_args = parse_arguments(argv, "cache_features.py")
    if data_args.cache == "none":
        data_args.cache = "embeddings"
        check_cache_arguments(data_args)
    # The test articles only where training reads them, for a final evaluation on them.
    records = load_run_records(data_args, args)
    set_seed(args.seed)
    backbones = None if model_args.model_name_or_path else prepare_backbones(data_args, records, Path(args.output_dir))
    # Again, as in training: a new model must not depend on whether its backbones were there.
    set_seed(args.seed)
    model, processor = build_model(data_args, architecture, args, model_args, backbones)
    if args.train_vision_tower != "none":
        hold_embeddings_apart(model)
    set_trainable(model, train_language_model=False)
    dual_encoder = find_dual_encoder(data_args, model.config, backbones)
    cached_features(data_args, args, model, processor, records, dual_encoder, checksum=True)
    if PartialState().is_main_process:
        print(f"the features of {sum(map(len, records.values())):,} articles are in {data_args.cache_dir}")


if __name__ == "__main__":
    sys.exit(run(main, "cache_features.py", "what is complete stays, and the same command goes on"))
