"""What other frameworks call our flags, and what they have a flag for that needs none here."""

from collections.abc import Iterable

# Ours -> theirs: Keras, Model Garden, timm, torchvision, Lightning, Hugging Face, YOLO.
THEIRS = {
    "data_dir": "data data_path data_root dataset dataset_dir dataset_path train_dir root "
    "tfrecords input_dir input",
    "run_dir": "output_dir out_dir output out model_dir save_dir log_dir logdir workdir work_dir "
    "checkpoint_dir ckpt_dir exp_dir experiment_dir results_dir default_root_dir project",
    "out": "output output_dir out_dir save_dir dest destination export_dir",
    "images": "data data_dir image_dir images_dir input input_dir source src folder",
    "model": "arch a model_name network backbone net architecture m",
    "global_batch_size": "batch_size batch bs b train_batch_size total_batch_size batchsize",
    "micro_batch_size": "per_device_train_batch_size per_device_batch_size batch_size_per_gpu "
    "local_batch_size device_batch_size microbatch_size per_gpu_batch_size",
    "epochs": "num_epochs n_epochs max_epochs train_epochs num_train_epochs nepochs ep e",
    "learning_rate": "lr base_lr initial_lr init_lr peak_lr max_lr lr0 initial_learning_rate "
    "base_learning_rate",
    "learning_rate_per_256": "blr lr_base lr_per_256",
    "weight_decay": "wd decay l2 l2_weight_decay weightdecay",
    "momentum": "mom sgd_momentum beta1",
    "optimizer": "opt optim optimiser",
    "schedule": "sched scheduler lr_scheduler lr_schedule lr_scheduler_type lr_policy",
    "warmup_epochs": "warmup lr_warmup_epochs warmup_steps lr_warmup_steps warmup_ratio",
    "final_fraction": "min_lr lr_min eta_min lrf end_learning_rate",
    "step_epochs": "lr_step_size decay_epochs milestones step_size",
    "step_factor": "gamma lr_gamma decay_rate",
    "clip_norm": "clip_grad clip_grad_norm gradient_clip_val max_grad_norm grad_clip clipnorm "
    "global_clipnorm gradient_clip_norm clip",
    "label_smoothing": "smoothing label_smooth",
    "class_weights": "class_weight",
    "ema_decay": "model_ema ema model_ema_decay use_ema ema_momentum",
    "layer_decay": "layerwise_lr_decay llrd",
    "freeze": "freeze_layers frozen_stages freeze_backbone",
    "init_weights": "pretrained weights pretrained_weights finetune init_checkpoint load_weights "
    "initial_checkpoint from_checkpoint load",
    "image_size": "img_size img imgsz input_size resolution size crop_size train_crop_size "
    "input_shape",
    "augment": "aa auto_augment augmentation aug randaugment data_augmentation augmentations",
    "color_jitter": "colorjitter jitter",
    "erasing": "reprob random_erase random_erasing re_prob",
    "mixup": "mixup_alpha",
    "cutmix": "cutmix_alpha",
    "repeated_augmentation": "aug_repeats ra_sampler ra_reps",
    "stochastic_depth": "drop_path drop_path_rate survival_prob",
    "dropout": "drop drop_rate dropout_rate",
    "validation_share": "val_split validation_ratio val_ratio val_fraction val_size",
    "precision": "amp fp16 bf16 dtype mixed_precision half use_amp",
    "seed": "random_seed random_state manual_seed",
    "deterministic": "determinism cudnn_deterministic",
    "jit": "jit_compile xla compile torchcompile use_xla",
    "stop_after": "patience early_stopping early_stopping_patience early_stop",
    "keep_checkpoints": "save_total_limit max_to_keep save_top_k checkpoint_hist",
    "checkpoint_every_steps": "save_steps save_every save_interval save_freq checkpoint_freq "
    "checkpoint_interval save_checkpoints_steps",
    "log_every_steps": "log_interval print_freq logging_steps log_every log_every_n_steps log_freq",
    "steps_per_call": "steps_per_execution iterations_per_loop steps_per_loop",
    "gpus": "num_gpus n_gpus ngpus ngpu n_gpu gpu devices num_devices nproc_per_node gpu_count",
    "gpus_per_worker": "gpus_per_node gpus nproc_per_node",
    "virtual_cpus": "num_replicas replicas num_cpus",
    "workers": "nodes num_nodes nnodes num_workers world_size",
    "checkpoint": "ckpt checkpoint_path which",
    "dir": "data_dir data folder path",
    "what": "benchmark name",
}
# What others call a value of ours.
WORDS = {
    **dict.fromkeys(("fp16", "half", "mixed_float16", "16", "16-mixed"), "float16"),
    **dict.fromkeys(("bf16", "mixed_bfloat16", "bf16-mixed"), "bfloat16"),
    **dict.fromkeys(("fp32", "full", "32", "single"), "float32"),
    **dict.fromkeys(("multistep", "steplr", "multisteplr", "piecewise"), "step"),
    **dict.fromkeys(("cosineannealing", "cosine_decay", "cosineannealinglr"), "cosine"),
    **dict.fromkeys(("none", "fixed"), "constant"),
    "last": "latest",
    "newest": "latest",
    "png": "keep",
    "jpg": "jpeg",
}
_RESUME = "a run resumes by itself: give the same command, with the same --run_dir, again"
_LOADERS = "reading and decoding take the cores that are there"
_ACCUMULATION = (
    "a step of --global_batch_size images goes through the model in as many micro-batches of "
    "--micro_batch_size as it takes"
)
_WORKERS = "samestep-launch starts several workers, and each takes the GPUs that it sees"
_DEVICE = "every visible GPU is used, and the CPU where there is none; --virtual_cpus=1 is the CPU"
# Theirs -> why there is none here.
NONE_NEEDED = {
    **dict.fromkeys(
        (
            *("resume", "auto_resume", "resume_from", "resume_from_checkpoint", "ckpt_path"),
            *("restore", "continue", "continue_training"),
        ),
        _RESUME,
    ),
    **dict.fromkeys(
        ("num_workers", "j", "num_threads", "data_workers", "prefetch", "pin_memory", "cache"),
        _LOADERS,
    ),
    **dict.fromkeys(
        ("gradient_accumulation_steps", "accum_iter", "accumulate_grad_batches", "grad_accum"),
        _ACCUMULATION,
    ),
    **dict.fromkeys(
        ("distributed", "strategy", "distribution_strategy", "dist_url", "ddp", "multi_gpu"),
        _WORKERS,
    ),
    **dict.fromkeys(("device", "accelerator", "cuda", "use_gpu", "cpu", "no_cuda"), _DEVICE),
    "shuffle": "every epoch is another permutation of all records",
    "num_classes": "the classes are those of the records",
    "drop_last": "every epoch leaves other records out, fewer than a step has",
    "eval": "samestep-evaluate does that",
    "evaluate": "samestep-evaluate does that",
    "config": "settings in a file are --flagfile=FILE, one --name=value a line",
    "config_file": "settings in a file are --flagfile=FILE, one --name=value a line",
    "max_steps": "the length of a run is --epochs",
    "train_steps": "the length of a run is --epochs",
    "num_steps": "the length of a run is --epochs",
}
_OURS = {
    name: [ours for ours, theirs in THEIRS.items() if name in theirs.split()]
    for name in {each for theirs in THEIRS.values() for each in theirs.split()}
}


def ours(name: str, defined: Iterable[str]) -> str | None:
    """Which of the flags that a command has is called `name` elsewhere; None: none of them."""
    there = set(defined)
    return next((each for each in _OURS.get(name, ()) if each in there), None)
